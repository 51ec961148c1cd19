//! A session's membership of one channel.

use std::sync::Arc;

use super::roster::Attendance;
use crate::hub::{Feed, Subscriber};
use crate::model::{ChannelKey, Epoch};

/// Shared with the jobs and answers under way, which may outlive the session's own entry.
pub(super) struct Subscription {
    pub(super) key: ChannelKey,
    pub(super) epoch: Epoch,
    pub(super) feed: Arc<Feed>,
    pub(super) subscriber: Arc<Subscriber>,
    pub(super) attendance: Attendance,
}
