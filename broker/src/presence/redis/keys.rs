//! The names under which presence is in Redis, the scripts that alone touch them, and how long a call may take.

use std::time::Duration;

use crate::model::ChannelKey;

/// A script of `redis/`, with the part before it that all of them begin with.
macro_rules! script {
    ($file:literal) => {
        redis::Script::new(concat!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/presence/redis/begin.lua")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/presence/redis/", $file)),
        ))
    };
}
pub(super) use script;

/// How long a call may take.
pub(super) const CALL: Duration = Duration::from_secs(1);

/// What the two sorted sets of a channel are called.
pub(super) fn names(channel: &ChannelKey) -> [String; 2] {
    [format!("switchboard:pr:{channel}"), format!("switchboard:pr:{channel}:lease")]
}

pub(super) fn millis(lease: Duration) -> u64 {
    u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)
}
