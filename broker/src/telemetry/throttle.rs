//! Throttles log lines about events that an attacker can trigger at will.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Minimum time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// Allows a line at most once in ten seconds.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Since>);

#[derive(Debug, Default)]
struct Since {
    last: Option<Instant>,
    unsaid: u64,
}

impl Throttle {
    /// Counts an event. If a line may be logged now, returns the number of events since the last line, without this one.
    pub fn may_log(&self) -> Option<u64> {
        self.may_log_at(Instant::now())
    }

    fn may_log_at(&self, now: Instant) -> Option<u64> {
        let mut since = self.0.lock();
        if since.last.is_some_and(|last| now - last < EVERY) {
            since.unsaid += 1;
            return None;
        }
        since.last = Some(now);
        Some(std::mem::take(&mut since.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_counted() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.may_log_at(now), Some(0));
        assert!((0..3).all(|_| throttle.may_log_at(now + EVERY / 2).is_none()));
        let later = now + EVERY;
        assert_eq!((throttle.may_log_at(later), throttle.may_log_at(later)), (Some(3), None));
    }
}
