//! What a guest finds behind its imports.
//!
//! Every answer is about the channel of the event at hand, or about the plugin's own keys in its tenant. Which these are
//! stands in [`HostState`], set by the broker; a guest has no argument to name another with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use super::bindings::switchboard::plugin::{history, kv, log, members, presence, types};
use super::log::{Author, Level};
use super::run::Usage;
use super::{Allowance, Earlier, Limits, Sources};
use crate::model::catalogue::Import;
use crate::model::{ChannelKey, KvEntry, KvWrite, Message, TenantSlug, Timestamp, User};

mod space;
mod stdout;

pub(super) use space::Space;

/// How many messages or members one host read answers at most.
const PAGE: u32 = 100;

/// Bytes that one call for random ones gets at most, as of the Web's `getRandomValues`. While they are made nothing can
/// stop the guest.
const RANDOM: u64 = 64 << 10;

/// WASI's own things that an instance has open at most: streams and timers.
const OPEN: usize = 1_024;

/// How many bytes of keys and values one host read answers at most, unless the first entry has more.
const PAGE_BYTES: usize = 1 << 20;

/// The state of one instance: whose it is, which event it is at, and what is left of its bounds.
pub(super) struct HostState {
    channel: Option<ChannelKey>,
    /// What a read of this event waits for.
    earlier: Option<Earlier>,
    sources: Arc<dyn Sources>,
    allowance: Arc<Allowance>,
    reads_left: u32,
    voice: Arc<Voice>,
    usage: Arc<Usage>,
    space: Space,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl HostState {
    pub(super) fn new(
        author: Arc<Author>,
        tenant: Option<TenantSlug>,
        allowance: Arc<Allowance>,
        usage: Arc<Usage>,
        sources: Arc<dyn Sources>,
    ) -> Self {
        let limits = &allowance.limits;
        let voice = Arc::new(Voice { author, tenant, left: AtomicU32::new(limits.log_lines) });
        let printed = stdout::Printed::new(Arc::clone(&voice));
        let wasi = WasiCtx::builder().stdout(printed.clone()).stderr(printed).max_random_size(RANDOM).build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(OPEN);
        let space = Space::new(limits.memory);
        Self { channel: None, earlier: None, sources, reads_left: 0, voice, usage, space, wasi, table, allowance }
    }

    /// Sets the event at hand and gives the bounds of one call.
    pub(super) fn begin(&mut self, channel: Option<ChannelKey>, earlier: Option<Earlier>) {
        (self.channel, self.earlier) = (channel, earlier);
        self.reads_left = self.allowance.limits.reads;
        self.voice.left.store(self.allowance.limits.log_lines, Ordering::Relaxed);
    }

    pub(super) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    pub(super) fn allowance(&self) -> &Arc<Allowance> {
        &self.allowance
    }

    /// What this instance's memories and tables take.
    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    /// Is asked before they take more.
    pub(super) fn limiter(&mut self) -> &mut Space {
        &mut self.space
    }

    /// Takes one host read from what is left and says which channel it is about, when what the same session sent before
    /// can be read.
    async fn read(&mut self, import: Import) -> Result<ChannelKey, String> {
        self.granted(import)?;
        self.reads_left = self.reads_left.checked_sub(1).ok_or("this event has used up its host reads")?;
        let channel = self.channel.clone().ok_or_else(|| "there is no channel outside of an event".to_owned())?;
        if let Some(earlier) = self.earlier.take() {
            earlier.settled().await;
        }
        Ok(channel)
    }

    /// A component is linked against what is granted somewhere; whose event it is at decides what it may use.
    fn granted(&self, import: Import) -> Result<(), String> {
        if self.allowance.grants.contains(&import) { Ok(()) } else { Err(format!("{import} is not granted here")) }
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for HostState {}

impl history::Host for HostState {
    async fn recent(
        &mut self,
        before: Option<u64>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<types::Message>, String>> {
        let channel = match self.read(Import::History).await {
            Ok(channel) => channel,
            Err(refused) => return Ok(Err(refused)),
        };
        let found = self.sources.recent(&channel, before, limit.min(PAGE)).await;
        Ok(found.map(|messages| messages.into_iter().map(Into::into).collect()).map_err(|error| error.to_string()))
    }

    async fn get(&mut self, message_id: String) -> wasmtime::Result<Result<Option<types::Message>, String>> {
        let channel = match self.read(Import::History).await {
            Ok(channel) => channel,
            Err(refused) => return Ok(Err(refused)),
        };
        let Ok(id) = message_id.parse() else { return Ok(Ok(None)) };
        let found = self.sources.message(&channel, id).await;
        Ok(found.map(|message| message.map(Into::into)).map_err(|error| error.to_string()))
    }
}

impl members::Host for HostState {
    async fn page(&mut self, after: Option<String>, limit: u32) -> wasmtime::Result<Result<Vec<types::User>, String>> {
        let channel = match self.read(Import::Members).await {
            Ok(channel) => channel,
            Err(refused) => return Ok(Err(refused)),
        };
        let after = match after.map(|id| id.parse()).transpose() {
            Ok(after) => after,
            Err(_) => return Ok(Err("`after` is no member's id".to_owned())),
        };
        let found = self.sources.members(&channel, after.as_ref(), limit.min(PAGE)).await;
        Ok(found.map(users).map_err(|error| error.to_string()))
    }

    async fn contains(&mut self, user_id: String) -> wasmtime::Result<Result<bool, String>> {
        let channel = match self.read(Import::Members).await {
            Ok(channel) => channel,
            Err(refused) => return Ok(Err(refused)),
        };
        let Ok(id) = user_id.parse() else { return Ok(Ok(false)) };
        Ok(self.sources.contains(&channel, &id).await.map_err(|error| error.to_string()))
    }
}

impl presence::Host for HostState {
    async fn online(&mut self) -> wasmtime::Result<Result<Vec<types::User>, String>> {
        let channel = match self.read(Import::Presence).await {
            Ok(channel) => channel,
            Err(refused) => return Ok(Err(refused)),
        };
        let found = self.sources.online(&channel, PAGE as usize).await;
        Ok(found.map(users).map_err(|error| error.to_string()))
    }
}

impl kv::Host for HostState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<kv::Entry>, String>> {
        let channel = match self.read(Import::Kv).await {
            Ok(channel) => channel,
            Err(refused) => return Ok(Err(refused)),
        };
        if !KvWrite::is_key(&key) {
            return Ok(Ok(None));
        }
        let found = self.sources.kv_get(&channel.tenant, &self.voice.author.plugin, &key).await;
        Ok(found.map(|entry| entry.map(Into::into)).map_err(|error| error.to_string()))
    }

    async fn page(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<kv::Entry>, String>> {
        let channel = match self.read(Import::Kv).await {
            Ok(channel) => channel,
            Err(refused) => return Ok(Err(refused)),
        };
        if !(prefix.is_empty() || KvWrite::is_key(&prefix)) || !after.as_deref().is_none_or(KvWrite::is_key) {
            return Ok(Err("`prefix` or `after` is no key".to_owned()));
        }
        let (tenant, after) = (&channel.tenant, after.as_deref());
        let found = self.sources.kv_list(tenant, &self.voice.author.plugin, &prefix, after, limit.min(PAGE)).await;
        Ok(found.map(page).map_err(|error| error.to_string()))
    }
}

impl log::Host for HostState {
    fn write(&mut self, level: log::Level, line: String) -> wasmtime::Result<()> {
        if self.granted(Import::Log).is_ok() {
            self.voice.say(
                match level {
                    log::Level::Debug => Level::Debug,
                    log::Level::Info => Level::Info,
                    log::Level::Warn => Level::Warn,
                    log::Level::Error => Level::Error,
                },
                &line,
            );
        }
        Ok(())
    }
}

/// Where an instance's lines go, and how many more it may write at the event at hand.
#[derive(Debug)]
struct Voice {
    author: Arc<Author>,
    tenant: Option<TenantSlug>,
    left: AtomicU32,
}

impl Voice {
    /// Takes one line from what is left; what is beyond is counted.
    fn say(&self, level: Level, line: &str) {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match taken {
            Ok(_) => self.author.write(self.tenant.as_ref(), level, cut(line)),
            Err(_) => {
                metrics::counter!("switchboard_plugin_log_dropped_total", "reason" => "too_many_lines").increment(1);
            }
        }
    }
}

/// At most [`Limits::LOG_LINE`] bytes, without control characters that would forge a line of the broker's own log.
fn cut(line: &str) -> String {
    let end = line.floor_char_boundary(Limits::LOG_LINE);
    line[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn users(users: Vec<User>) -> Vec<types::User> {
    users.into_iter().map(Into::into).collect()
}

/// As many entries from the first one on as a guest can be given at once.
fn page(entries: Vec<KvEntry>) -> Vec<kv::Entry> {
    let mut bytes = 0;
    let fits = |entry: &KvEntry| {
        let is_first = bytes == 0;
        bytes += entry.key.len() + entry.value.len();
        is_first || bytes <= PAGE_BYTES
    };
    entries.into_iter().take_while(fits).map(Into::into).collect()
}

/// The objects of a JSON array, each as text.
fn objects(array: &serde_json::value::RawValue) -> Vec<String> {
    let objects: Vec<&serde_json::value::RawValue> = serde_json::from_str(array.get()).unwrap_or_default();
    objects.into_iter().map(|object| object.get().to_owned()).collect()
}

impl From<KvEntry> for kv::Entry {
    fn from(KvEntry { key, value, version }: KvEntry) -> Self {
        Self { key, value, version }
    }
}

impl From<User> for types::User {
    fn from(user: User) -> Self {
        Self { id: user.id.to_string(), username: user.username.to_string() }
    }
}

impl From<Message> for types::Message {
    fn from(message: Message) -> Self {
        Self {
            id: message.id.to_string(),
            seq: message.seq,
            kind: message.kind.to_string(),
            sender: message.sender.into(),
            content: message.content.get().to_owned(),
            reply_to: message.reply_to.map(|id| id.to_string()),
            attachments: objects(&message.attachments),
            created_at_ms: milliseconds(message.created_at),
            edited_at_ms: message.edited_at.map(milliseconds),
            deleted_at_ms: message.deleted_at.map(milliseconds),
        }
    }
}

pub(super) fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_keys_is_bounded_in_bytes_and_never_empty_for_a_large_one() {
        let of = |sizes: &[usize]| {
            let entry = |&size| KvEntry { key: "k".to_owned(), value: vec![0; size], version: 1 };
            page(sizes.iter().map(entry).collect()).len()
        };
        assert_eq!(of(&[PAGE_BYTES + 1, 0]), 1);
        assert_eq!(of(&[PAGE_BYTES / 2, PAGE_BYTES / 2 - 2, 0]), 2);
        assert_eq!(of(&[1; 100]), 100);
    }

    #[test]
    fn attachments_come_apart_as_they_were_written() {
        let array = serde_json::value::RawValue::from_string(r#"[{"a":1e400}, {"b":[{}]}]"#.to_owned()).unwrap();
        assert_eq!(objects(&array), [r#"{"a":1e400}"#, r#"{"b":[{}]}"#]);
    }
}
