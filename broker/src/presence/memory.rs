//! Presence for nodes of one process. It ends with the process, so it needs no leases.
//!
//! It does no I/O and never fails.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Presence, PresenceError};
use crate::model::{ChannelKey, SessionId, User, UserId};

/// The members present, shared by all nodes of a process through one `Arc`.
#[derive(Default)]
pub struct MemoryPresence(Mutex<HashMap<ChannelKey, Members>>);

type Members = BTreeMap<UserId, Member>;

struct Member {
    user: User,
    sessions: HashSet<SessionId>,
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn enter(&self, channel: &ChannelKey, user: &User, session: SessionId) -> Result<bool, PresenceError> {
        let mut channels = self.0.lock();
        let members = channels.entry(channel.clone()).or_default();
        let first = !members.contains_key(&user.id);
        let member =
            members.entry(user.id.clone()).or_insert_with(|| Member { user: user.clone(), sessions: HashSet::new() });
        member.sessions.insert(session);
        Ok(first)
    }

    async fn leave(&self, channel: &ChannelKey, user: &User, session: SessionId) -> Result<bool, PresenceError> {
        let mut channels = self.0.lock();
        let Some(members) = channels.get_mut(channel) else { return Ok(false) };
        let Some(member) = members.get_mut(&user.id) else { return Ok(false) };
        let last = member.sessions.remove(&session) && member.sessions.is_empty();
        if last {
            members.remove(&user.id);
            if members.is_empty() {
                channels.remove(channel);
            }
        }
        Ok(last)
    }

    async fn present(
        &self,
        channel: &ChannelKey,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<User>, PresenceError> {
        let channels = self.0.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let members =
            channels.get(channel).into_iter().flat_map(|members| members.range::<UserId, _>((from, Bound::Unbounded)));
        Ok(members.take(limit).map(|(_, member)| member.user.clone()).collect())
    }
}
