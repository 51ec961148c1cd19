//! What happens when something goes wrong: what a failure costs, whom, and for how long.

mod slow_readers;
