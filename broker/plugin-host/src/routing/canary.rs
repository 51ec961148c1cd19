//! Decides whether a canary does worse than the stable generation.

use std::time::Duration;

use crate::runtime::recent::Summary;

/// Calls needed before failures are judged.
const ENOUGH: u32 = 20;

/// Calls needed before latencies are judged. With fewer, the 99th percentile is the slowest call, which may just have
/// waited.
const ENOUGH_TIMES: u32 = 100;

/// Failure rate that is always tolerated, in per cent.
const FAILURES: u32 = 5;

/// Difference in the 99th percentile that is always tolerated.
const SLOWER: Duration = Duration::from_millis(5);

/// Why the canary should be stopped, or `None` if it may go on.
pub(crate) fn worse(candidate: Summary, stable: Summary) -> Option<String> {
    let Summary { calls, failures, p99 } = candidate;
    if calls < ENOUGH {
        return None;
    }
    // Compares failure rates without dividing.
    let more = u64::from(failures) * u64::from(stable.calls.max(1)) > u64::from(stable.failures) * u64::from(calls);
    if failures * 100 > calls * FAILURES && more {
        let (of, others) = (stable.calls, stable.failures);
        return Some(format!(
            "{failures} of its {calls} calls failed, compared to {others} of {of} for the stable generation"
        ));
    }
    if calls.min(stable.calls) >= ENOUGH_TIMES && p99 > stable.p99 * 2 && p99 > stable.p99 + SLOWER {
        return Some(format!(
            "its 99th percentile is {p99:.1?}, compared to {:.1?} for the stable generation",
            stable.p99
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

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
