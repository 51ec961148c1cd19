//! Latencies and failures of a generation over the last minute.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The window: this many parts of this length.
const PARTS: usize = 12;
const PART: Duration = Duration::from_secs(5);

/// Eight steps to each power of two, from 1 µs to over 8 s: a quantile is off by at most an eighth.
const STEPS: usize = 8 * 24;

/// The calls of a generation in the last minute, on this node.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Vec<Part>>);

#[derive(Debug)]
struct Part {
    began: Instant,
    calls: u32,
    failures: u32,
    times: Box<[u32; STEPS]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) calls: u32,
    pub(crate) failures: u32,
    pub(crate) p99: Duration,
}

impl Recent {
    pub(crate) fn add(&self, now: Instant, time: Duration, failed: bool) {
        let mut parts = self.0.lock();
        if parts.last().is_none_or(|part| now.saturating_duration_since(part.began) >= PART) {
            if parts.len() >= PARTS {
                parts.remove(0);
            }
            parts.push(Part { began: now, calls: 0, failures: 0, times: Box::new([0; STEPS]) });
        }
        let part = parts.last_mut().expect("one was there or added");
        part.calls += 1;
        part.failures += u32::from(failed);
        part.times[step(time)] += 1;
    }

    pub(crate) fn summary(&self, now: Instant) -> Summary {
        let parts = self.0.lock();
        let window = PART * u32::try_from(PARTS).expect("it is small");
        let live = || parts.iter().filter(|part| now.saturating_duration_since(part.began) < window);
        let calls = live().map(|part| part.calls).sum();
        let failures = live().map(|part| part.failures).sum();
        // Walks down from the slowest step, past the slowest hundredth of the calls.
        let (mut left, mut p99) = (calls / 100, Duration::ZERO);
        for at in (0..STEPS).rev() {
            let here: u32 = live().map(|part| part.times[at]).sum();
            if here > left {
                p99 = upper(at);
                break;
            }
            left -= here;
        }
        Summary { calls, failures, p99 }
    }
}

/// The histogram step of a duration: the three bits after the leading one, for each power of two of microseconds.
fn step(time: Duration) -> usize {
    let eighths = u64::try_from(time.as_nanos() / 125).unwrap_or(u64::MAX).max(8);
    let power = eighths.ilog2() - 3;
    let within = (eighths >> power) & 7;
    let step = 8 * usize::try_from(power).unwrap_or(STEPS) + usize::try_from(within).unwrap_or(0);
    step.min(STEPS - 1)
}

/// The upper end of a step.
fn upper(step: usize) -> Duration {
    let power = u32::try_from(step / 8).unwrap_or(u32::MAX);
    let eighths = (u64::try_from(step % 8).unwrap_or(0) + 9) << power;
    Duration::from_nanos(eighths * 125)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_found_again_within_an_eighth() {
        for micros in [1u64, 2, 3, 7, 10, 99, 1_000, 49_999, 250_000, 4_000_000] {
            let time = Duration::from_micros(micros);
            let found = upper(step(time));
            assert!(found > time && found <= time + time / 8 + Duration::from_nanos(125), "{time:?} {found:?}");
        }
        assert_eq!(step(Duration::from_secs(3_600)), STEPS - 1);
        assert_eq!(step(Duration::ZERO), 0);
    }

    #[test]
    fn the_window_slides() {
        let (recent, begin) = (Recent::default(), Instant::now());
        for n in 0..1_000u64 {
            recent.add(begin, Duration::from_micros(n), n < 10);
        }
        let summary = recent.summary(begin);
        assert_eq!((summary.calls, summary.failures), (1_000, 10));
        assert!((980..1_130).contains(&summary.p99.as_micros()), "{summary:?}");
        assert_eq!(recent.summary(begin + Duration::from_secs(60)).calls, 0, "it is over");
        for n in 0..100 {
            recent.add(begin + PART * n, Duration::from_micros(1), false);
        }
        assert!(recent.0.lock().len() <= PARTS);
    }
}
