//! Takes what was committed to this node's hub and to the other nodes, and fills holes from the store.
//!
//! The hub says when a frame is missing; the bus may have lost it; the store has it. Nothing here decides what is sent or
//! to whom: it carries deliveries as they are.

mod check;
mod delivery;
mod envelope;
mod keyed_lock;
mod repair;

use std::sync::{Arc, Weak};

use crate::bus::{Bus, Inbox, Incoming};
use crate::hub::Hub;
use crate::model::Clock;
use crate::store::Store;

pub use delivery::{Relay, message_frame};

impl Relay {
    /// Starts taking in what other nodes send. Ends when the bus does.
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
                Some(envelope::Opened::Revoke(user)) => relay.hub.revoke(&channel, &user),
                None => tracing::warn!("a message on the bus is not this broker's; is another program using it?"),
            },
            // Elsewhere: the inbox must not fill up meanwhile, which would make everything suspect again.
            Incoming::Reconnected => relay.suspect_all(),
            Incoming::Announced => relay.note_announcement(),
        }
    }
}
