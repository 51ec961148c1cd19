//! For log lines about what an attacker can make happen as often as they like.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// From one line to the next.
const EVERY: Duration = Duration::from_secs(10);

/// Lets something be said once in ten seconds at most.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Since>);

#[derive(Debug, Default)]
struct Since {
    said: Option<Instant>,
    unsaid: u64,
}

impl Throttle {
    /// Notes that it happened. If it may be said now: how often it happened since it was last said, this time left out.
    pub fn may_say(&self) -> Option<u64> {
        self.may_say_at(Instant::now())
    }

    fn may_say_at(&self, now: Instant) -> Option<u64> {
        let mut since = self.0.lock();
        if since.said.is_some_and(|said| now - said < EVERY) {
            since.unsaid += 1;
            return None;
        }
        since.said = Some(now);
        Some(std::mem::take(&mut since.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_counted() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.may_say_at(now), Some(0));
        assert!((0..3).all(|_| throttle.may_say_at(now + EVERY / 2).is_none()));
        let later = now + EVERY;
        assert_eq!((throttle.may_say_at(later), throttle.may_say_at(later)), (Some(3), None));
    }
}
