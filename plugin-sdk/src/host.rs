//! What a handler can read from the broker. Nothing here writes.

use std::fmt;

use crate::{Failure, KvEntry, Message, User};

/// The broker, as the handler of one event sees it.
///
/// Every answer is about the channel of that event or, for keys, about the plugin's own keys in its tenant: no argument
/// can name another channel, plugin or tenant. A handler can make 32 reads per event in total. The trait has two
/// implementations: the broker's own in a component, and [`MockHost`](crate::MockHost) in tests.
pub trait Host {
    /// The newest messages before a `seq`, or the newest of all; oldest first; at most `limit`, and at most 100.
    ///
    /// # Errors
    ///
    /// If the broker cannot serve the read at the moment, or the event has used up its reads.
    fn recent(&self, before: Option<u64>, limit: u32) -> Result<Vec<Message>, HostError>;

    /// One message; none if it is not in this channel.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn message(&self, id: &str) -> Result<Option<Message>, HostError>;

    /// Members of the channel by id, starting after a given id; at most `limit`, and at most 100.
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

    /// The members who are connected to the channel now, on all nodes: by id, each once, at most 100.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn online(&self) -> Result<Vec<User>, HostError>;

    /// One of the plugin's own keys, with its last committed value; none if it does not exist or has expired.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn kv_get(&self, key: &str) -> Result<Option<KvEntry>, HostError>;

    /// The plugin's own keys that begin with a prefix, in byte order, starting after a given key; at most `limit`, at most
    /// 100 and, apart from the first, at most 1 MiB. The last page is the empty one.
    ///
    /// # Errors
    ///
    /// As [`Host::recent`].
    fn kv_page(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<KvEntry>, HostError>;

    /// Writes a line to the plugin's log, for its author and its operator. At most 20 lines per event are kept, each cut
    /// at 1 KiB.
    fn log(&self, level: Level, line: &str);
}

/// The severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the author, when debugging.
    Debug,
    /// Worth knowing.
    Info,
    /// Something went wrong, and the plugin dealt with it.
    Warn,
    /// Something went wrong, and it affected an event.
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
