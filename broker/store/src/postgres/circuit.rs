//! A circuit breaker: whether the server is away, so that not every caller has to wait to find out.
//!
//! A call without an answer opens the circuit, and further calls are refused at once. A broken connection only raises
//! doubt, because it does not prove that the server is away. In both cases one task, not a caller, probes the server,
//! and its result opens or closes the circuit. Nothing here connects, probes or reads a clock: it is told what was
//! found, and when.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The state of the path to one server.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Closed,
    /// Calls proceed while a task probes.
    Doubtful,
    /// Calls are refused since this moment.
    Open(Instant),
}

/// The effect of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The caller must start the probing task. Set only on leaving `Closed`, so there is at most one.
    pub(super) look: bool,
    /// The circuit has just opened.
    pub(super) opened: bool,
}

impl Circuit {
    /// Whether calls must be refused.
    pub(super) fn is_open(&self) -> bool {
        matches!(*self.0.lock(), State::Open(_))
    }

    /// A connection broke or could not be made.
    pub(super) fn broken(&self) -> Change {
        let mut state = self.0.lock();
        let look = matches!(*state, State::Closed);
        if look {
            *state = State::Doubtful;
        }
        Change { look, opened: false }
    }

    /// A call got no answer, or the probe failed.
    pub(super) fn silent(&self, now: Instant) -> Change {
        let mut state = self.0.lock();
        let change = Change { look: matches!(*state, State::Closed), opened: !matches!(*state, State::Open(_)) };
        if change.opened {
            *state = State::Open(now);
        }
        change
    }

    /// The probe succeeded. Returns how long the circuit was open, if it was.
    pub(super) fn answered(&self, now: Instant) -> Option<Duration> {
        match std::mem::take(&mut *self.0.lock()) {
            State::Open(since) => Some(now.duration_since(since)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_is_away_until_whoever_looks_has_an_answer() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        assert_eq!(circuit.silent(start), Change { look: true, opened: true });
        assert!(circuit.is_open());
        assert_eq!(circuit.silent(start), Change { look: false, opened: false }, "one looks, and it was said once");
        assert_eq!(circuit.answered(start + Duration::from_secs(1)), Some(Duration::from_secs(1)));
        assert!(!circuit.is_open());
        assert_eq!(circuit.silent(start), Change { look: true, opened: true }, "and all over again");
    }

    #[test]
    fn a_broken_connection_is_looked_into_while_calls_go_on() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        assert_eq!(circuit.broken(), Change { look: true, opened: false });
        assert_eq!(circuit.broken(), Change { look: false, opened: false });
        assert!(!circuit.is_open());
        assert_eq!(circuit.answered(start), None, "it was the connection and not the server");
        circuit.broken();
        assert_eq!(circuit.silent(start), Change { look: false, opened: true }, "it was the server");
        assert!(circuit.is_open());
    }
}
