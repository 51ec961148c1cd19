//! Key names of presence in Redis, its scripts, and the time limit of a call.

use std::time::Duration;

use crate::model::ChannelKey;

/// A script of `redis/`, with the prologue that all of them share.
macro_rules! script {
    ($file:literal) => {
        redis::Script::new(concat!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/presence/redis/begin.lua")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/presence/redis/", $file)),
        ))
    };
}
pub(super) use script;

/// Time limit of a call.
pub(super) const CALL: Duration = Duration::from_secs(1);

/// The names of a channel's two sorted sets.
pub(super) fn names(channel: &ChannelKey) -> [String; 2] {
    [format!("switchboard:pr:{channel}"), format!("switchboard:pr:{channel}:lease")]
}

pub(super) fn millis(lease: Duration) -> u64 {
    u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)
}
