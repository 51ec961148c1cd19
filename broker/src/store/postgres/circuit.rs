//! Knows whether the server was away a moment ago, so that callers do not all wait to find out.
//!
//! The call that finds the server away opens the circuit. From then on calls are refused at once, but for one at a time
//! that tries; the first that gets an answer closes it. Calls that were under way are left alone. Nothing here connects,
//! asks or looks at the time: it is told what became of calls, and when.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long after a try that failed the next one is let through.
const PACE: Duration = Duration::from_millis(250);

/// The state of the way to one server.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when, and when to try again; none while the server is there.
    open: Option<Open>,
    /// How often it was closed. What a call of an earlier time found says nothing about now.
    era: u64,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    try_at: Instant,
    trying: bool,
}

/// Leave to make one call. Dropped without a word, it has found nothing.
#[derive(Debug)]
pub(super) struct Pass<'c> {
    circuit: &'c Circuit,
    era: u64,
    is_try: bool,
}

/// What a call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The circuit was closed and is open now.
    Opened,
    /// The circuit was open this long and is closed now.
    Closed(Duration),
}

impl Circuit {
    /// Leave for a call; none while the server is away and another call is trying, or has tried just now.
    pub(super) fn enter(&self, now: Instant) -> Option<Pass<'_>> {
        let mut state = self.state();
        let era = state.era;
        let Some(open) = &mut state.open else { return Some(Pass { circuit: self, era, is_try: false }) };
        if open.trying || now < open.try_at {
            return None;
        }
        open.trying = true;
        Some(Pass { circuit: self, era, is_try: true })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The server answered, be it with a refusal.
    pub(super) fn answered(self, now: Instant) -> Option<Change> {
        let mut state = self.circuit.state();
        if !self.is_try || state.era != self.era {
            return None;
        }
        state.era += 1;
        state.open.take().map(|open| Change::Closed(now.duration_since(open.since)))
    }

    /// The server was not there. That opens the circuit, and the next call tries at once: one broken connection is not
    /// yet an absent server.
    pub(super) fn unanswered(self, now: Instant) -> Option<Change> {
        let mut state = self.circuit.state();
        if state.era != self.era {
            return None;
        }
        match &mut state.open {
            Some(open) if self.is_try => open.try_at = now + PACE,
            Some(_) => {}
            closed => {
                *closed = Some(Open { since: now, try_at: now, trying: false });
                return Some(Change::Opened);
            }
        }
        None
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.circuit.state();
        if self.is_try
            && self.era == state.era
            && let Some(open) = &mut state.open
        {
            open.trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_tried_by_one_call_at_a_time() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        assert_eq!(circuit.enter(start).unwrap().unanswered(start), Some(Change::Opened));
        let trying = circuit.enter(start).expect("one broken connection is not yet an absent server");
        assert!(circuit.enter(start).is_none(), "one is trying");
        assert_eq!(trying.unanswered(start), None);
        assert!(circuit.enter(start + PACE / 2).is_none(), "one has just tried");
        let trying = circuit.enter(start + PACE).expect("it is time to try again");
        assert!(circuit.enter(start + PACE).is_none());
        assert_eq!(trying.answered(start + PACE), Some(Change::Closed(PACE)));
        let (one, other) = (circuit.enter(start).unwrap(), circuit.enter(start).unwrap());
        assert_eq!((one.answered(start), other.answered(start)), (None, None));
    }

    #[test]
    fn a_try_whose_caller_went_away_is_followed_by_another() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        circuit.enter(start).unwrap().unanswered(start);
        drop(circuit.enter(start).unwrap());
        assert!(circuit.enter(start).is_some());
    }

    #[test]
    fn a_call_from_before_says_nothing_about_now() {
        let (circuit, start) = (Circuit::default(), Instant::now());
        let [first, late, later] = [(); 3].map(|()| circuit.enter(start).unwrap());
        assert_eq!(first.unanswered(start), Some(Change::Opened));
        assert_eq!(late.answered(start), None, "its answer was on the way before");
        assert!(matches!(circuit.enter(start).unwrap().answered(start), Some(Change::Closed(_))));
        assert_eq!(later.unanswered(start), None, "what it waited for has come back since");
        assert_eq!([(); 2].map(|()| circuit.enter(start).is_some()), [true, true]);
    }
}
