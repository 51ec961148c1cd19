//! What a handler costs: one event through a built-in handler, in a warm instance and in a new one.

use std::hint::black_box;
use std::sync::Arc;

use async_trait::async_trait;
use criterion::{Criterion, criterion_group, criterion_main};
use switchboard::model::{
    ChannelId, ChannelKey, Event, KvEntry, Message, MessageId, PluginName, TenantSlug, Timestamp, User, UserId,
};
use switchboard::plugin::{BUILTIN, Engine, Generation, Limits, Sources, Unavailable};
use uuid::Uuid;

/// Nothing to read: the built-in handlers ask for nothing.
struct Nothing;

#[async_trait]
impl Sources for Nothing {
    async fn recent(&self, _: &ChannelKey, _: Option<u64>, _: u32) -> Result<Vec<Message>, Unavailable> {
        Err(Unavailable)
    }

    async fn message(&self, _: &ChannelKey, _: MessageId) -> Result<Option<Message>, Unavailable> {
        Err(Unavailable)
    }

    async fn members(&self, _: &ChannelKey, _: Option<&UserId>, _: u32) -> Result<Vec<User>, Unavailable> {
        Err(Unavailable)
    }

    async fn contains(&self, _: &ChannelKey, _: &UserId) -> Result<bool, Unavailable> {
        Err(Unavailable)
    }

    async fn online(&self, _: &ChannelKey, _: usize) -> Result<Vec<User>, Unavailable> {
        Err(Unavailable)
    }

    async fn kv_get(&self, _: &TenantSlug, _: &PluginName, _: &str) -> Result<Option<KvEntry>, Unavailable> {
        Err(Unavailable)
    }

    async fn kv_list(
        &self,
        _: &TenantSlug,
        _: &PluginName,
        _: &str,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<KvEntry>, Unavailable> {
        Err(Unavailable)
    }
}

fn event(kind: &str, payload: &str) -> (ChannelKey, Event) {
    let channel = ChannelId(Uuid::from_u128(1));
    let key = ChannelKey { tenant: "acme".parse().expect("a slug"), channel };
    let event = Event {
        kind: kind.parse().expect("a kind"),
        payload: payload.to_owned(),
        channel,
        user: User { id: "7".parse().expect("an id"), username: "alice".parse().expect("a name") },
        session: None,
        client_id: None,
        id: MessageId(Uuid::from_u128(2)),
        at: Timestamp(1_700_000_000_000),
    };
    (key, event)
}

fn handlers(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let folder = std::env::temp_dir().join(format!("switchboard-bench-{}", std::process::id()));
    let load = |limits: Limits, name: &str| -> Arc<Generation> {
        let (_, component) = BUILTIN.iter().find(|(built_in, _)| *built_in == name).expect("a built-in plugin");
        let engine = Arc::new(Engine::new(&folder, limits, Arc::new(Nothing)).expect("an engine"));
        runtime.block_on(engine.load(name, component)).expect("it loads")
    };
    let message = format!(r#"{{"type":"chat.message","id":"c1","message":"{}"}}"#, "x".repeat(100));
    for (plugin, kind, payload) in [
        ("chat-message", "chat.message", message.as_str()),
        ("typing", "typing", r#"{"type":"typing","is_typing":true}"#),
    ] {
        let (key, event) = event(kind, payload);
        let warm = load(Limits::default(), plugin);
        let cold = load(Limits { calls: 1, ..Limits::default() }, plugin);
        criterion.bench_function(&format!("handler/{kind}/warm"), |bencher| {
            bencher.to_async(&runtime).iter(async || black_box(warm.handle(&key, &event).await.expect("it answers")));
        });
        criterion.bench_function(&format!("handler/{kind}/new instance"), |bencher| {
            bencher.to_async(&runtime).iter(async || black_box(cold.handle(&key, &event).await.expect("it answers")));
        });
    }
    let _ = std::fs::remove_dir_all(folder);
}

criterion_group!(benches, handlers);
criterion_main!(benches);
