//! The host side of a guest's imports.
//!
//! Every read is about the channel of the current event, or about the plugin's own keys in that channel's tenant.
//! [`HostState`] holds both, set by the broker; a guest has no argument with which to name another. The state also
//! counts down the event's host reads and log lines.
//!
//! A component is linked against everything granted to anybody, so each call checks the grant again for the tenant at
//! hand. A guest gets clocks, random bytes and standard output from WASI, and no file, socket or environment variable.
//!
//! Start with `HostState::read`, which every host read passes through.

use std::sync::Arc;

use switchboard_model::catalogue::Import;
use switchboard_model::{ChannelKey, KvEntry, KvWrite, Message, TenantSlug, User};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use crate::contract::earlier::Earlier;
use crate::contract::host_data::HostData;
use crate::guest_log::{Author, GuestLog, Level};
use crate::limits::Allowance;

pub(crate) mod space;
mod stdout;
pub(crate) mod usage;

use space::Space;
use usage::Usage;

/// Messages or members in one answer.
const PAGE: u32 = 100;

/// Random bytes in one call, the same bound as the Web's `getRandomValues`. Generating them cannot be interrupted.
const RANDOM: u64 = 64 << 10;

/// WASI resources an instance may hold open at once: streams and timers.
const OPEN: usize = 1_024;

/// Bytes of keys and values in one answer, unless the first entry alone has more.
const PAGE_BYTES: usize = 1 << 20;

/// The state of one instance: its tenant, its current event, and what is left of that event's bounds.
pub(crate) struct HostState {
    channel: Option<ChannelKey>,
    /// Effects that a read of this event waits for. Taken by the first read.
    earlier: Option<Earlier>,
    data: Arc<dyn HostData>,
    allowance: Arc<Allowance>,
    reads_left: u32,
    log: Arc<GuestLog>,
    usage: Arc<Usage>,
    space: Space,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl HostState {
    pub(crate) fn new(
        author: Arc<Author>,
        tenant: Option<TenantSlug>,
        allowance: Arc<Allowance>,
        usage: Arc<Usage>,
        data: Arc<dyn HostData>,
    ) -> Self {
        let limits = &allowance.limits;
        let log = Arc::new(GuestLog::new(author, tenant));
        let printed = stdout::Printed::new(Arc::clone(&log));
        let wasi = WasiCtx::builder().stdout(printed.clone()).stderr(printed).max_random_size(RANDOM).build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(OPEN);
        let space = Space::new(limits.memory);
        Self { channel: None, earlier: None, data, reads_left: 0, log, usage, space, wasi, table, allowance }
    }

    /// Starts a call: sets its channel and resets its bounds.
    pub(crate) fn begin(&mut self, channel: Option<ChannelKey>, earlier: Option<Earlier>) {
        (self.channel, self.earlier) = (channel, earlier);
        self.reads_left = self.allowance.limits.reads;
        self.log.begin(self.allowance.limits.log_lines);
    }

    pub(crate) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    pub(crate) fn allowance(&self) -> &Arc<Allowance> {
        &self.allowance
    }

    /// What this instance's memories and tables occupy.
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) fn limiter(&mut self) -> &mut Space {
        &mut self.space
    }

    /// The newest messages, or the newest before a `seq`.
    pub(crate) async fn recent(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<Message>, String> {
        let channel = self.read(Import::History).await?;
        self.data.recent(&channel, before, limit.min(PAGE)).await.map_err(|error| error.to_string())
    }

    /// One message of the channel. A malformed id gives `None`.
    pub(crate) async fn message(&mut self, id: &str) -> Result<Option<Message>, String> {
        let channel = self.read(Import::History).await?;
        let Ok(id) = id.parse() else { return Ok(None) };
        self.data.message(&channel, id).await.map_err(|error| error.to_string())
    }

    /// A page of members, sorted by id, after the given one.
    pub(crate) async fn members(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<User>, String> {
        let channel = self.read(Import::Members).await?;
        let after = after.map(str::parse).transpose().map_err(|_| "`after` is not a member's id")?;
        self.data.members(&channel, after.as_ref(), limit.min(PAGE)).await.map_err(|error| error.to_string())
    }

    /// Whether a member is in the channel. A malformed id gives `false`.
    pub(crate) async fn contains(&mut self, user: &str) -> Result<bool, String> {
        let channel = self.read(Import::Members).await?;
        let Ok(user) = user.parse() else { return Ok(false) };
        self.data.contains(&channel, &user).await.map_err(|error| error.to_string())
    }

    /// Members with a live session in the channel.
    pub(crate) async fn online(&mut self) -> Result<Vec<User>, String> {
        let channel = self.read(Import::Presence).await?;
        self.data.online(&channel, PAGE as usize).await.map_err(|error| error.to_string())
    }

    /// The plugin's entry for a key in this tenant. A malformed key gives `None`.
    pub(crate) async fn kv_get(&mut self, key: &str) -> Result<Option<KvEntry>, String> {
        let channel = self.read(Import::Kv).await?;
        if !KvWrite::is_key(key) {
            return Ok(None);
        }
        self.data.kv_get(&channel.tenant, self.log.plugin(), key).await.map_err(|error| error.to_string())
    }

    /// A page of the plugin's keys with a prefix, after the given one, cut to [`PAGE_BYTES`].
    pub(crate) async fn kv_page(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KvEntry>, String> {
        let channel = self.read(Import::Kv).await?;
        if !(prefix.is_empty() || KvWrite::is_key(prefix)) || !after.is_none_or(KvWrite::is_key) {
            return Err("`prefix` or `after` is not a valid key".to_owned());
        }
        let found = self.data.kv_list(&channel.tenant, self.log.plugin(), prefix, after, limit.min(PAGE)).await;
        found.map(page).map_err(|error| error.to_string())
    }

    /// Writes to the guest log, if that is granted here.
    pub(crate) fn log(&self, level: Level, line: &str) {
        if self.granted(Import::Log).is_ok() {
            self.log.write(level, line);
        }
    }

    /// Checks the grant, takes one of the event's host reads, and returns the channel to read. Waits until earlier
    /// effects of the same session are visible.
    async fn read(&mut self, import: Import) -> Result<ChannelKey, String> {
        self.granted(import)?;
        self.reads_left = self.reads_left.checked_sub(1).ok_or("this event has used up its host reads")?;
        let channel = self.channel.clone().ok_or_else(|| "there is no channel outside an event".to_owned())?;
        if let Some(earlier) = self.earlier.take() {
            earlier.settled().await;
        }
        Ok(channel)
    }

    /// A component is linked against everything granted to anybody. Whether this tenant may use it is decided here.
    fn granted(&self, import: Import) -> Result<(), String> {
        if self.allowance.grants.contains(&import) { Ok(()) } else { Err(format!("{import} is not granted")) }
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// As many leading entries as fit one answer; always at least one.
fn page(mut entries: Vec<KvEntry>) -> Vec<KvEntry> {
    let mut bytes = 0;
    let fits = |entry: &&KvEntry| {
        let is_first = bytes == 0;
        bytes += entry.key.len() + entry.value.len();
        is_first || bytes <= PAGE_BYTES
    };
    let fitting = entries.iter().take_while(fits).count();
    entries.truncate(fitting);
    entries
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
}
