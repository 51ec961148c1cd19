//! What a handler costs: one event through a built-in handler, in a warm instance and in a new one, in time on the clock
//! and on a processor, which does not depend on what else the machine does; and what many tenants cost in memory.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, criterion_group};
use rustix::time::{ClockId, clock_gettime};
use switchboard::model::catalogue::{PluginPolicy, Scope};
use switchboard::model::{ChannelId, ChannelKey, Clock, Event, Kind, MessageId, Timestamp, User};
use switchboard::plugin::{
    Bounds, Compiler, Engine, Generation, Handler, NoHostData, Options, Order, Plan, Registry, Table,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

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
    let terms = PluginPolicy {
        scope: Scope::All,
        plugin: generation.plugin().clone(),
        grants: None,
        limits: limits.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
    };
    let builtin = [Arc::clone(generation)];
    let none = HashMap::new();
    let plan = Plan {
        revision: 1,
        builtin: &builtin,
        generations: &none,
        routes: &[],
        plugin_policies: &[terms],
        kind_policies: &[],
    };
    let registry = Registry::default();
    registry.replace(Table::new(&plan).expect("it names no other generation"));
    registry.handler(key, kind).expect("a handler")
}

/// A node with the built-in plugins.
struct Node {
    runtime: Runtime,
    folder: PathBuf,
    engine: Arc<Engine>,
    generations: Vec<Arc<Generation>>,
}

impl Node {
    fn new(bounds: Bounds) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = std::env::temp_dir().join(format!("switchboard-bench-{}", std::process::id()));
        let options = Options { folder: folder.clone(), compiler: Compiler::InProcess, bounds, clock: Clock::system() };
        let (engine, _incidents) = Engine::new(options, Arc::new(NoHostData)).expect("an engine");
        let prepare =
            |(name, component)| runtime.block_on(engine.prepare(Order::builtin(name, component))).expect("it loads");
        let generations = switchboard_builtin::BUILTIN.iter().copied().map(prepare).collect();
        Self { runtime, folder, engine, generations }
    }

    fn generation(&self, kind: &Kind) -> &Arc<Generation> {
        let handles = |generation: &&Arc<Generation>| generation.kinds().iter().any(|spec| spec.kind == *kind);
        self.generations.iter().find(handles).expect("a built-in plugin handles it")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An event that is handled, one that is refused at once, which is nearly all the broker's own work, and the kinds.
fn events() -> [(&'static str, &'static str, String); 3] {
    let message = format!(r#"{{"type":"chat.message","id":"c1","message":"{}"}}"#, "x".repeat(100));
    let typing = r#"{"type":"typing","is_typing":true}"#.to_owned();
    [
        ("chat.message", "chat.message", message),
        ("typing", "typing", typing),
        ("refused at once", "typing", "{}".to_owned()),
    ]
}

fn handlers(criterion: &mut Criterion) {
    let node = Node::new(Bounds::default());
    for (event_name, kind, payload) in events() {
        let (key, event) = event(kind, &payload);
        for (name, fresh) in [("warm", 0), ("new instance", 1)] {
            let handler = handler(node.generation(&event.kind), &key, &event.kind, &[("fresh", fresh)]);
            criterion.bench_function(&format!("handler/{event_name}/{name}"), |bencher| {
                bencher.to_async(&node.runtime).iter(async || black_box(handler.handle(&key, &event, None).await));
            });
        }
    }
}

/// Prints what a warm call costs on a processor.
fn processor() {
    const CALLS: u32 = 100_000;

    let node = Node::new(Bounds::default());
    for (name, kind, payload) in events() {
        let (key, event) = event(kind, &payload);
        let handler = handler(node.generation(&event.kind), &key, &event.kind, &[]);
        let round = || {
            let before = clock_gettime(ClockId::ThreadCPUTime);
            node.runtime.block_on(async {
                for _ in 0..CALLS {
                    black_box(handler.handle(&key, &event, None).await.ok());
                }
            });
            let after = clock_gettime(ClockId::ThreadCPUTime);
            (after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec
        };
        let best = (0..5).map(|_| round()).min().expect("five rounds");
        println!("a warm call, {name}: {} ns of a processor", best / i64::from(CALLS));
    }
}

/// Prints what the instances of many tenants cost in memory, each tenant having had one event of each kind.
fn memory() {
    const TENANTS: usize = 1_000;

    let node = Node::new(Bounds::default());
    let handlers: Vec<(Kind, Arc<Handler>)> = node
        .generations
        .iter()
        .flat_map(|generation| generation.kinds())
        .map(|spec| {
            let (key, _) = event(spec.kind.as_str(), "{}");
            (spec.kind.clone(), handler(node.generation(&spec.kind), &key, &spec.kind, &[]))
        })
        .collect();
    let before = resident();
    for tenant in 0..TENANTS {
        for (kind, handler) in &handlers {
            let (key, event) = event(kind.as_str(), r#"{"message":"hi","is_typing":true}"#);
            let key = ChannelKey { tenant: format!("t{tenant}").parse().expect("a slug"), ..key };
            let _ = black_box(node.runtime.block_on(handler.handle(&key, &event, None)));
        }
    }
    let (after, instances) = (resident(), node.engine.instances());
    println!(
        "{TENANTS} tenants x {} kinds: {instances} instances, {} MiB of memory, {} MiB before",
        handlers.len(),
        after >> 20,
        before >> 20,
    );
}

/// Bytes of memory that the process has.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux says it");
    let pages: usize = pages.split(' ').nth(1).expect("a second number").parse().expect("a number");
    pages * rustix::param::page_size()
}

criterion_group!(benches, handlers);

fn main() {
    memory();
    processor();
    benches();
}
