//! What `tests/fuzz` calls of the encoding of deliveries between nodes.

use bytes::Bytes;

use super::envelope;
use crate::hub::Delivery;
use crate::model::UserId;

/// A decoded message.
pub enum Opened {
    Frames(Vec<Delivery>),
    Revoke(UserId),
}

pub fn frames(deliveries: &[Delivery]) -> Bytes {
    envelope::frames(deliveries)
}

pub fn revoke(user: &UserId) -> Bytes {
    envelope::revoke(user)
}

pub fn open(bytes: &[u8]) -> Option<Opened> {
    envelope::open(bytes).map(|opened| match opened {
        envelope::Opened::Frames(deliveries) => Opened::Frames(deliveries),
        envelope::Opened::Revoke(user) => Opened::Revoke(user),
    })
}
