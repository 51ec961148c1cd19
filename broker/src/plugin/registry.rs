//! Which generation handles which message type right now.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Generation;
use crate::model::Kind;
use crate::model::catalogue::KindSpec;

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
    active: ArcSwap<HashMap<Kind, Handler>>,
}

impl Registry {
    /// The active handler of a message type.
    pub fn handler(&self, kind: &Kind) -> Option<Handler> {
        self.active.load().get(kind).cloned()
    }

    /// Makes a generation the handler of all its kinds, in place of whichever handled them.
    pub fn activate(&self, generation: &Arc<Generation>) {
        self.active.rcu(|active| {
            let mut next = HashMap::clone(active);
            for spec in generation.kinds() {
                let handler = Handler { generation: Arc::clone(generation), spec: spec.clone() };
                next.insert(spec.kind.clone(), handler);
            }
            next
        });
    }
}
