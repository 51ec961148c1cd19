//! Which generation handles which message type right now, and which hear of stored messages.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Generation;
use crate::model::catalogue::KindSpec;
use crate::model::{ChannelKey, Kind};

/// The handler of one message type. An event takes it once and keeps it to its end, whatever is activated meanwhile.
#[derive(Debug, Clone)]
pub struct Handler {
    /// The version that runs.
    pub generation: Arc<Generation>,
    /// What it says of this type.
    pub spec: KindSpec,
}

/// The table of active handlers. Reading it takes no lock; activating replaces it whole.
#[derive(Debug, Default)]
pub struct Registry {
    active: ArcSwap<Table>,
}

#[derive(Debug, Default, Clone)]
struct Table {
    handlers: HashMap<Kind, Handler>,
    watchers: HashMap<Kind, Vec<Arc<Generation>>>,
}

impl Registry {
    /// The active handler of a message type.
    pub fn handler(&self, kind: &Kind) -> Option<Handler> {
        self.active.load().handlers.get(kind).cloned()
    }

    /// The generations that are called after a message of a kind was stored in a channel.
    pub fn watchers(&self, _: &ChannelKey, kind: &Kind) -> Vec<Arc<Generation>> {
        self.active.load().watchers.get(kind).cloned().unwrap_or_default()
    }

    /// Makes a generation the handler of all its kinds, in place of whichever handled them, and lets it hear of what it
    /// watches, in place of another generation of the same plugin.
    pub fn activate(&self, generation: &Arc<Generation>) {
        self.active.rcu(|active| {
            let mut next = Table::clone(active);
            for spec in generation.kinds() {
                let handler = Handler { generation: Arc::clone(generation), spec: spec.clone() };
                next.handlers.insert(spec.kind.clone(), handler);
            }
            for watching in next.watchers.values_mut() {
                watching.retain(|other| other.plugin() != generation.plugin());
            }
            for kind in generation.watches() {
                next.watchers.entry(kind.clone()).or_default().push(Arc::clone(generation));
            }
            next
        });
    }
}
