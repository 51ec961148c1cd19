//! What a handler may ask the broker. All of it reads, none of it writes.

use std::fmt;

use crate::{Failure, KvEntry, Message, User};

/// The broker, as the handler of one event sees it.
///
/// Every answer is about the channel of that event, or, for keys, about the plugin's own in its tenant: no argument
/// reaches another channel, plugin or tenant. The reads together may be called 32 times an event. The trait has two implementations: the broker's own in a component, and
/// [`MockHost`](crate::MockHost) in tests.
pub trait Host {
    /// The newest messages before a `seq`, or the newest of all; oldest first; at most `limit` and at most 100.
    ///
    /// # Errors
    ///
    /// When the broker cannot read the history or the event has used up its reads.
    fn recent(&self, before: Option<u64>, limit: u32) -> Result<Vec<Message>, HostError>;

    /// One message; none when it is not in this channel.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn message(&self, id: &str) -> Result<Option<Message>, HostError>;

    /// Members of the channel by id, those after a given id first; at most `limit` and at most 100.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn members(&self, after: Option<&str>, limit: u32) -> Result<Vec<User>, HostError>;

    /// Whether a member of the tenant is in the channel.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn is_member(&self, user_id: &str) -> Result<bool, HostError>;

    /// Who is connected to the channel right now, over all nodes: members by id, each once, at most 100.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn online(&self) -> Result<Vec<User>, HostError>;

    /// One of the plugin's own keys, as it was last committed; none when it is not there or has ended.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn kv_get(&self, key: &str) -> Result<Option<KvEntry>, HostError>;

    /// The plugin's own keys that begin with a prefix, in the order of their bytes, those after a given key first; at most
    /// `limit`, at most 100 and, but for the first, at most 1 MiB. The last page is the empty one.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn kv_page(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<KvEntry>, HostError>;

    /// Writes a line to the plugin's log, which its author and its operator read. At most 20 lines an event are kept,
    /// each cut at 1 KiB.
    fn log(&self, level: Level, line: &str);
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the author, while looking for a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Something went wrong and was dealt with.
    Warn,
    /// Something went wrong and an event suffered from it.
    Error,
}

/// Why the broker could not answer a read.
///
/// With `?` it becomes [`Failure::Internal`]: the text is for the log, not for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError(pub String);

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HostError {}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Internal(error.0)
    }
}
