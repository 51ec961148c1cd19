//! The routing table in force.
//!
//! The table is built from the operators' decisions and the generations prepared on this node, and swapped in whole.
//! Looking up a handler takes no lock. Nothing is decided or prepared here.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

use crate::routing::handler::Handler;
use crate::routing::table::{Row, Table};
use crate::runtime::generation::Generation;
use switchboard_model::{ChannelId, ChannelKey, Kind, PluginName};

#[derive(Debug, Default)]
pub struct Registry {
    table: ArcSwap<Table>,
}

impl Registry {
    /// The handler of a message type in a channel.
    pub fn handler(&self, channel: &ChannelKey, kind: &Kind) -> Option<Arc<Handler>> {
        let table = self.table.load();
        let own = table.tenants.get(&channel.tenant).and_then(|rows| rows.handles.get(kind));
        pick(own.or_else(|| table.all.handles.get(kind))?, channel.channel)
    }

    /// The plugins to call with a stored message of this kind.
    pub fn watchers(&self, channel: &ChannelKey, kind: &Kind) -> Vec<Arc<Handler>> {
        let table = self.table.load();
        let own = table.tenants.get(&channel.tenant).and_then(|rows| rows.watches.get(kind));
        let rows = own.or_else(|| table.all.watches.get(kind));
        rows.into_iter().flatten().filter_map(|row| pick(row, channel.channel)).collect()
    }

    /// The catalogue revision that the table in force was built from.
    pub fn revision(&self) -> u64 {
        self.table.load().revision
    }

    /// Swaps in a table atomically. Events that hold a handler keep it. Generations missing from the new table lose
    /// their warm instances now, and end with the last event that holds them.
    pub fn replace(&self, table: Table) {
        let kept: HashMap<*const Generation, Arc<Generation>> =
            table.generations().map(|generation| (Arc::as_ptr(&generation), generation)).collect();
        // Before the swap: from then on, calls expect these generations to keep their instances.
        for generation in kept.values() {
            generation.revive();
        }
        let former = self.table.swap(Arc::new(table));
        for generation in former.generations() {
            if !kept.contains_key(&Arc::as_ptr(&generation)) {
                generation.retire();
            }
        }
    }
}

fn pick(row: &Row, channel: ChannelId) -> Option<Arc<Handler>> {
    match &row.canary {
        Some(canary) if bucket(&canary.plugin, channel) < canary.percent => canary.handler.clone(),
        _ => row.stable.clone(),
    }
}

/// Maps a channel to a bucket from 0 to 99. Every node agrees on it, and so do all kinds of one plugin; another
/// plugin's canary gets other channels.
fn bucket(plugin: &PluginName, channel: ChannelId) -> u8 {
    let digest = Sha256::new().chain_update(plugin.as_str()).chain_update([0]).chain_update(channel.0).finalize();
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    u8::try_from(number % 100).expect("less than 100")
}

#[cfg(test)]
mod tests;
