//! What a handler costs: one event through a built-in handler, in a warm instance and in a new one.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use async_trait::async_trait;
use criterion::{Criterion, criterion_group, criterion_main};
use switchboard::model::catalogue::{Scope, Terms};
use switchboard::model::{
    ChannelId, ChannelKey, Clock, Event, Kind, KvEntry, Message, MessageId, PluginName, TenantSlug, Timestamp, User,
    UserId,
};
use switchboard::plugin::{
    BUILTIN, Bounds, Compiler, Engine, Generation, Handler, Options, Order, Plan, Registry, Sources, Table, Unavailable,
};
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

/// What the registry finds for a kind when these limits are set.
fn handler(generation: &Arc<Generation>, key: &ChannelKey, kind: &Kind, limits: &[(&str, u64)]) -> Arc<Handler> {
    let terms = Terms {
        scope: Scope::All,
        plugin: generation.plugin().clone(),
        grants: None,
        limits: limits.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
    };
    let builtin = [Arc::clone(generation)];
    let none = HashMap::new();
    let plan = Plan { revision: 1, builtin: &builtin, generations: &none, routes: &[], terms: &[terms], policies: &[] };
    let registry = Registry::default();
    registry.replace(Table::new(&plan).expect("it names no other generation"));
    registry.handler(key, kind).expect("a handler")
}

fn handlers(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let folder = std::env::temp_dir().join(format!("switchboard-bench-{}", std::process::id()));
    let options = Options {
        folder: folder.clone(),
        compiler: Compiler::InProcess,
        bounds: Bounds::default(),
        clock: Clock::system(),
    };
    let (engine, _incidents) = Engine::new(options, Arc::new(Nothing)).expect("an engine");
    let load = |name: &str| -> Arc<Generation> {
        let (_, component) = BUILTIN.iter().find(|(built_in, _)| *built_in == name).expect("a built-in plugin");
        runtime.block_on(engine.prepare(Order::builtin(name, component))).expect("it loads")
    };
    let message = format!(r#"{{"type":"chat.message","id":"c1","message":"{}"}}"#, "x".repeat(100));
    for (plugin, kind, payload) in [
        ("chat-message", "chat.message", message.as_str()),
        ("typing", "typing", r#"{"type":"typing","is_typing":true}"#),
    ] {
        let (key, event) = event(kind, payload);
        let generation = load(plugin);
        for (name, fresh) in [("warm", 0), ("new instance", 1)] {
            let handler = handler(&generation, &key, &event.kind, &[("fresh", fresh)]);
            criterion.bench_function(&format!("handler/{kind}/{name}"), |bencher| {
                bencher
                    .to_async(&runtime)
                    .iter(async || black_box(handler.handle(&key, &event).await.expect("it answers")));
            });
        }
    }
    let _ = std::fs::remove_dir_all(folder);
}

criterion_group!(benches, handlers);
criterion_main!(benches);
