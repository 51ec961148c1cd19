//! The relay: carries committed frames to this node's hub and to other nodes, and keeps the hub complete.
//!
//! The hub reports a missing frame, the bus may have lost it, and the store has it. `delivery` publishes and lets
//! sessions join, `repair` fills gaps, and `check` compares with the store to find what nobody reported.
//!
//! The relay decides neither what is sent nor to whom: it carries deliveries as they are. The bus is never relied upon:
//! losing it costs latency, and ephemeral frames of other nodes, but no durable frame.
//!
//! Invariant: every durable frame reaches each subscribed session once and in order, or the session's socket closes.
//!
//! Start with [`Relay::publish`], then `repair.rs`.

mod check;
mod delivery;
mod envelope;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod keyed_lock;
mod repair;

use std::sync::{Arc, Weak};

use crate::bus::{Bus, Inbox, Incoming};
use crate::hub::Hub;
use crate::model::Clock;
use crate::store::Store;

pub use delivery::{Relay, message_frame};

impl Relay {
    /// Starts to receive what other nodes send. Ends with the bus.
    pub fn start(hub: Arc<Hub>, bus: Arc<dyn Bus>, inbox: Inbox, store: Arc<dyn Store>, clock: Clock) -> Arc<Self> {
        let (relay, suspicions) = Relay::new(hub, bus, store);
        tokio::spawn(receive(Arc::downgrade(&relay), inbox));
        tokio::spawn(check::run(Arc::downgrade(&relay), suspicions, clock));
        relay
    }
}

async fn receive(relay: Weak<Relay>, mut inbox: Inbox) {
    while let Some(incoming) = inbox.recv().await {
        let Some(relay) = relay.upgrade() else { return };
        match incoming {
            Incoming::Message(channel, bytes) => match envelope::open(&bytes) {
                Some(envelope::Opened::Frames(deliveries)) => relay.deliver(&channel, deliveries, || (), None),
                Some(envelope::Opened::Revoke(user)) => drop(tokio::spawn(relay.revoke_if_gone(channel, user))),
                None => tracing::warn!(
                    "received a message on the bus that no broker sent; is another program using the bus?"
                ),
            },
            // Handled elsewhere: if this loop waited, the inbox would fill up and make everything suspect again.
            Incoming::Reconnected => relay.suspect_all(),
            Incoming::Announced => relay.note_announcement(),
        }
    }
}
