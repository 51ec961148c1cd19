//! What a batch changes of what already exists: keys of plugins, and messages.
//!
//! Commits are judged in batch order, each by what the earlier ones leave. Nothing here reads or writes: an adapter
//! looks up what is [`Asked`], passes it in, and writes the result. Until then nobody else may change any of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Commit, Outcome};
use switchboard_model::{Amendment, ChannelId, KvWrite, MessageId, PluginName, RequestKey, Timestamp};

/// Expired keys of a plugin that are deleted when it writes, and old requests without a message that are forgotten.
/// More than one commit puts, and more than a batch has commits, so that they go faster than they come.
pub(super) const SWEPT: u32 = 200;

/// What has to be looked up for a batch: sorted, without duplicates.
#[derive(Debug)]
pub(super) struct Asked<'b> {
    /// The plugins that write.
    pub(super) plugins: Vec<&'b PluginName>,
    /// The keys they write.
    pub(super) keys: Vec<(&'b PluginName, &'b str)>,
    /// The messages to be changed.
    pub(super) messages: Vec<MessageId>,
    /// What has expired by then has expired for every commit of the batch.
    pub(super) ended_by: Timestamp,
}

impl<'b> Asked<'b> {
    /// Collects what a batch needs.
    pub(super) fn of(batch: &'b [Commit]) -> Self {
        let (mut keys, mut messages) = (BTreeSet::new(), BTreeSet::new());
        for commit in batch {
            let writes = commit.kv.iter().flat_map(|(plugin, writes)| writes.iter().map(move |write| (plugin, write)));
            keys.extend(writes.map(|(plugin, write)| (plugin, write.key.as_str())));
            messages.extend(commit.amendments.iter().map(|amendment| amendment.message));
        }
        let plugins: BTreeSet<_> = keys.iter().map(|(plugin, _)| *plugin).collect();
        Self {
            plugins: plugins.into_iter().collect(),
            keys: keys.into_iter().collect(),
            messages: messages.into_iter().collect(),
            ended_by: batch.iter().map(|commit| commit.at).min().unwrap_or(Timestamp(0)),
        }
    }
}

/// What a plugin uses in a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) keys: u64,
    pub(super) bytes: u64,
    /// The version last given to one of its keys. Never decreases, so that a deleted key's version is never used again.
    pub(super) version: u64,
}

impl Usage {
    /// Subtracts a key that was swept or is replaced.
    pub(super) fn swept(&mut self, bytes: u64) {
        self.keys = self.keys.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) version: u64,
    /// Of key and value.
    pub(super) bytes: u64,
    pub(super) expires_at: Option<Timestamp>,
}

/// What is stored under a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Put<'b> {
    pub(super) value: &'b [u8],
    pub(super) version: u64,
    pub(super) expires_at: Option<Timestamp>,
}

/// The new state of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amended<'b> {
    pub(super) content: &'b str,
    pub(super) edited_at: Option<Timestamp>,
    pub(super) deleted_at: Option<Timestamp>,
}

/// What exists, with the changes of the commits accepted so far.
#[derive(Debug, Default)]
pub(super) struct Changes<'b> {
    usage: BTreeMap<&'b PluginName, Usage>,
    held: HashMap<(&'b PluginName, &'b str), Held>,
    /// Messages that exist and are not deleted.
    messages: HashMap<MessageId, ChannelId>,
    keys: BTreeMap<(&'b PluginName, &'b str), Option<Put<'b>>>,
    amended: BTreeMap<MessageId, Amended<'b>>,
}

impl<'b> Changes<'b> {
    /// Starts with what was found, and no changes.
    pub(super) fn of(
        usage: impl IntoIterator<Item = (&'b PluginName, Usage)>,
        held: impl IntoIterator<Item = ((&'b PluginName, &'b str), Held)>,
        messages: impl IntoIterator<Item = (MessageId, ChannelId)>,
    ) -> Self {
        Self {
            usage: usage.into_iter().collect(),
            held: held.into_iter().collect(),
            messages: messages.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Applies a commit's changes, all of them, or returns why not.
    pub(super) fn judge(&mut self, commit: &'b Commit) -> Option<Outcome> {
        if !self.has_messages_of(commit) {
            return Some(Outcome::UnknownMessage);
        }
        if let Some((plugin, writes)) = &commit.kv
            && let Err(refused) = self.write(plugin, writes, commit.at)
        {
            return Some(refused);
        }
        for amendment in &commit.amendments {
            self.amend(amendment, commit.at);
        }
        None
    }

    /// The usage of each plugin afterwards.
    pub(super) fn usage(&self) -> impl Iterator<Item = (&'b PluginName, Usage)> {
        self.usage.iter().map(|(plugin, usage)| (*plugin, *usage))
    }

    /// The keys to write, sorted; `None` deletes a key.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'b PluginName, &'b str, Option<Put<'b>>)> {
        self.keys.iter().map(|((plugin, key), put)| (*plugin, *key, *put))
    }

    /// The messages that change, sorted.
    pub(super) fn amended(&self) -> impl Iterator<Item = (MessageId, Amended<'b>)> {
        self.amended.iter().map(|(message, amended)| (*message, *amended))
    }

    /// Whether the messages that it amends are in its channel and were not deleted before.
    fn has_messages_of(&self, commit: &Commit) -> bool {
        let mut deleted = HashSet::new();
        commit.amendments.iter().all(|amendment| {
            let there = self.messages.get(&amendment.message) == Some(&commit.channel);
            let before = deleted.contains(&amendment.message);
            if amendment.content.is_none() {
                deleted.insert(amendment.message);
            }
            there && !before
        })
    }

    /// Compares versions with those before the commit, which is what its event has read.
    fn write(&mut self, plugin: &'b PluginName, writes: &'b [KvWrite], at: Timestamp) -> Result<(), Outcome> {
        let version = |key: &str| {
            let held = self.held.get(&(plugin, key));
            held.filter(|held| held.expires_at.is_none_or(|end| end > at)).map_or(0, |held| held.version)
        };
        if writes.iter().any(|write| write.expected.is_some_and(|expected| expected != version(&write.key))) {
            return Err(Outcome::KvConflict);
        }
        // Of several writes of a key, the last one wins.
        let last: BTreeMap<&str, &KvWrite> = writes.iter().map(|write| (write.key.as_str(), write)).collect();
        let before = self.usage.get(plugin).copied().unwrap_or_default();
        let mut after = before;
        for (key, write) in &last {
            if let Some(held) = self.held.get(&(plugin, *key)) {
                after.swept(held.bytes);
            }
            if let Some(value) = &write.value {
                after.keys += 1;
                after.bytes += size(key, value);
            }
        }
        // A plugin over its limit may still shrink.
        if after.keys > KvWrite::MAX_KEYS.max(before.keys) || after.bytes > KvWrite::MAX_BYTES.max(before.bytes) {
            return Err(Outcome::KvFull);
        }
        for (key, write) in last {
            let Some(value) = &write.value else {
                if self.held.remove(&(plugin, key)).is_some() {
                    self.keys.insert((plugin, key), None);
                }
                continue;
            };
            after.version += 1;
            let (version, expires_at) = (after.version, write.expires_at);
            self.held.insert((plugin, key), Held { version, bytes: size(key, value), expires_at });
            self.keys.insert((plugin, key), Some(Put { value, version, expires_at }));
        }
        self.usage.insert(plugin, after);
        Ok(())
    }

    fn amend(&mut self, amendment: &'b Amendment, at: Timestamp) {
        let amended = self.amended.entry(amendment.message).or_insert(Amended {
            content: "null",
            edited_at: None,
            deleted_at: None,
        });
        match &amendment.content {
            Some(content) => {
                amended.content = content.get();
                amended.edited_at = Some(at);
            }
            None => {
                amended.content = "null";
                amended.deleted_at = Some(at);
                self.messages.remove(&amendment.message);
            }
        }
    }
}

/// The key by which a commit must be remembered if no message of its own does that.
pub(super) fn lone_request(commit: &Commit) -> Option<(&RequestKey, &[u8; 32])> {
    let (key, digest) = commit.request.as_ref()?;
    (commit.has_changes() && commit.drafts.is_empty()).then_some((key, digest))
}

/// The byte range of keys with a prefix, after another key: from the first, up to and excluding the second.
pub(super) fn span(prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    // Nothing sorts between a text and that text followed by the smallest byte.
    let next = after.map_or_else(Vec::new, |after| [after.as_bytes(), &[0]].concat());
    let mut end = prefix.as_bytes().to_vec();
    // The byte 255 never occurs in UTF-8, so incrementing the last byte is safe, and 255 sorts after every text.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(u8::MAX),
    }
    (next.max(prefix.as_bytes().to_vec()), end)
}

fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_model::User;

    fn commit(plugin: &str, writes: Vec<KvWrite>) -> Commit {
        Commit {
            channel: ChannelId(uuid::Uuid::nil()),
            sender: User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() },
            request: None,
            drafts: Vec::new(),
            reads: Vec::new(),
            amendments: Vec::new(),
            kv: Some((plugin.parse().unwrap(), writes)),
            at: Timestamp(0),
        }
    }

    fn put(key: &str, bytes: usize) -> KvWrite {
        KvWrite { key: key.into(), value: Some(vec![0; bytes]), expires_at: None, expected: None }
    }

    fn removal(key: &str) -> KvWrite {
        KvWrite { value: None, ..put(key, 0) }
    }

    #[test]
    fn room_ends_at_the_bound_and_can_be_given_up_beyond_it() {
        let plugin: PluginName = "poll".parse().unwrap();
        let more = commit("poll", vec![put("b", 1)]);
        let in_its_place = commit("poll", vec![removal("a"), put("b", 1)]);
        let less = commit("poll", vec![put("a", 10)]);
        let held = Held { version: 3, bytes: 21, expires_at: None };
        for usage in [
            Usage { keys: KvWrite::MAX_KEYS, bytes: 21, version: 3 },
            Usage { keys: 1, bytes: KvWrite::MAX_BYTES, version: 3 },
            // Over the limit, as after a limit was lowered.
            Usage { keys: KvWrite::MAX_KEYS + 9, bytes: KvWrite::MAX_BYTES + 9, version: 3 },
        ] {
            let mut changes = Changes::of([(&plugin, usage)], [((&plugin, "a"), held)], []);
            assert!(matches!(changes.judge(&more), Some(Outcome::KvFull)));
            assert_eq!((changes.usage().next(), changes.keys().count()), (Some((&plugin, usage)), 0), "nothing of it");
            assert!(changes.judge(&less).is_none());
            let now = changes.usage().next().unwrap().1;
            assert_eq!((now.keys, now.bytes, now.version), (usage.keys, usage.bytes - 10, 4));
            assert!(changes.judge(&in_its_place).is_none());
        }
    }
}
