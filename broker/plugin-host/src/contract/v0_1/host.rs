//! The imports of version 0.1, implemented by [`HostState`].

use super::bindings::switchboard::plugin::{history, kv, log, members, presence, types};
use crate::contract::host::HostState;
use crate::guest_log::Level;

impl types::Host for HostState {}

impl history::Host for HostState {
    async fn recent(
        &mut self,
        before: Option<u64>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<types::Message>, String>> {
        Ok(self.recent(before, limit).await.map(all))
    }

    async fn get(&mut self, message_id: String) -> wasmtime::Result<Result<Option<types::Message>, String>> {
        Ok(self.message(&message_id).await.map(|message| message.map(Into::into)))
    }
}

impl members::Host for HostState {
    async fn page(&mut self, after: Option<String>, limit: u32) -> wasmtime::Result<Result<Vec<types::User>, String>> {
        Ok(self.members(after.as_deref(), limit).await.map(all))
    }

    async fn contains(&mut self, user_id: String) -> wasmtime::Result<Result<bool, String>> {
        Ok(self.contains(&user_id).await)
    }
}

impl presence::Host for HostState {
    async fn online(&mut self) -> wasmtime::Result<Result<Vec<types::User>, String>> {
        Ok(self.online().await.map(all))
    }
}

impl kv::Host for HostState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<kv::Entry>, String>> {
        Ok(self.kv_get(&key).await.map(|entry| entry.map(Into::into)))
    }

    async fn page(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<kv::Entry>, String>> {
        Ok(self.kv_page(&prefix, after.as_deref(), limit).await.map(all))
    }
}

impl log::Host for HostState {
    fn write(&mut self, level: log::Level, line: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log(level, &line);
        Ok(())
    }
}

fn all<T, Guest: From<T>>(found: Vec<T>) -> Vec<Guest> {
    found.into_iter().map(Into::into).collect()
}
