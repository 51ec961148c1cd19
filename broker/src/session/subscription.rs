//! A channel that a session is in.

use std::sync::Arc;

use super::roster::Attendance;
use crate::hub::{Feed, Subscriber};
use crate::model::{ChannelKey, Epoch};

/// A channel that a session is in.
pub(super) struct Subscription {
    pub(super) key: ChannelKey,
    pub(super) epoch: Epoch,
    pub(super) feed: Arc<Feed>,
    pub(super) subscriber: Arc<Subscriber>,
    pub(super) attendance: Attendance,
}
