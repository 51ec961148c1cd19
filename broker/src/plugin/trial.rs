//! How a generation did in the last minute, and whether one that is tried out does worse than the one beside it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The window is so many parts of so long.
const PARTS: usize = 12;
const PART: Duration = Duration::from_secs(5);

/// Eight steps to the double, from 1 µs to over 8 s: a quantile is off by an eighth at most.
const STEPS: usize = 8 * 24;

/// Calls below which nothing is concluded from failures.
const ENOUGH: u32 = 20;

/// Calls below which nothing is concluded from times: of fewer, the 99th percentile is the slowest one, which may have
/// waited for something else.
const ENOUGH_TIMES: u32 = 100;

/// A share of failures that is borne in any case, in per cent.
const FAILURES: u32 = 5;

/// A difference of the 99th percentile that is borne in any case.
const SLOWER: Duration = Duration::from_millis(5);

/// The calls of a generation in the last minute, on this node.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Vec<Part>>);

#[derive(Debug)]
struct Part {
    began: Instant,
    calls: u32,
    failures: u32,
    times: Box<[u32; STEPS]>,
}

/// What a generation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) calls: u32,
    pub(super) failures: u32,
    pub(super) p99: Duration,
}

impl Recent {
    pub(super) fn add(&self, now: Instant, time: Duration, failed: bool) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

    pub(super) fn summary(&self, now: Instant) -> Summary {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = PART * u32::try_from(PARTS).expect("it is small");
        let live = || parts.iter().filter(|part| now.saturating_duration_since(part.began) < window);
        let calls = live().map(|part| part.calls).sum();
        let failures = live().map(|part| part.failures).sum();
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

/// Why a candidate is not to go on, if it is not.
pub(super) fn worse(candidate: Summary, stable: Summary) -> Option<String> {
    let Summary { calls, failures, p99 } = candidate;
    if calls < ENOUGH {
        return None;
    }
    let more = u64::from(failures) * u64::from(stable.calls.max(1)) > u64::from(stable.failures) * u64::from(calls);
    if failures * 100 > calls * FAILURES && more {
        let (of, others) = (stable.calls, stable.failures);
        return Some(format!("{failures} of its {calls} calls failed, and {others} of {of} of the stable generation"));
    }
    if calls.min(stable.calls) >= ENOUGH_TIMES && p99 > stable.p99 * 2 && p99 > stable.p99 + SLOWER {
        return Some(format!("its 99th percentile is {p99:.1?}, and {:.1?} of the stable generation", stable.p99));
    }
    None
}

/// The step of a time: three bits after the leading one, for each power of two of microseconds.
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
        assert!(recent.0.lock().unwrap().len() <= PARTS);
    }

    #[test]
    fn a_candidate_is_worse_when_it_fails_more_or_is_much_slower() {
        let did = |calls, failures, millis| Summary { calls, failures, p99: Duration::from_millis(millis) };
        let good = did(1_000, 0, 2);
        for (candidate, stable, is_worse) in [
            (did(20, 0, 2), good, false),
            (did(19, 19, 2), good, false),
            (did(20, 2, 2), good, true),
            (did(20, 1, 2), good, false),
            (did(100, 10, 2), did(100, 10, 2), false),
            (did(100, 11, 2), did(100, 10, 2), true),
            (did(100, 0, 6), good, false),
            (did(100, 0, 8), good, true),
            (did(100, 0, 19), did(100, 0, 10), false),
            (did(99, 0, 200), good, false),
            (did(100, 0, 200), did(99, 0, 1), false),
            (did(100, 0, 200), did(100, 0, 1), true),
        ] {
            assert_eq!(worse(candidate, stable).is_some(), is_worse, "{candidate:?} beside {stable:?}");
        }
    }
}
