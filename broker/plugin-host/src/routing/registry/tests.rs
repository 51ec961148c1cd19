use std::sync::Arc;

use super::*;
use crate::fixture::{component, engine};
use crate::limits::Allowance;
use crate::routing::handler::{Handler, Role};
use crate::routing::table::{Plan, Unprepared};
use crate::runtime::engine::Order;
use switchboard_model::catalogue::{
    Candidate, FailurePolicy, GenerationId, Import, KindPolicy, PluginPolicy, Route, Scope, Subject, Target, Trial,
};

/// A node that has prepared the built-in `chat-message` and two generations of the same component.
struct Node {
    registry: Registry,
    builtin: Vec<Arc<Generation>>,
    generations: HashMap<GenerationId, Arc<Generation>>,
}

impl Node {
    async fn new() -> Self {
        let engine = engine().await;
        let prepare = async |id| engine.prepare(Order { id, ..Order::builtin("chat", component()) }).await.unwrap();
        let builtin = vec![prepare(None).await];
        let generations = HashMap::from([(1, prepare(Some(1)).await), (2, prepare(Some(2)).await)]);
        Self { registry: Registry::default(), builtin, generations }
    }

    fn decide(
        &self,
        routes: &[Route],
        plugin_policies: &[PluginPolicy],
        kind_policies: &[KindPolicy],
    ) -> Result<(), Unprepared> {
        let (builtin, generations) = (&self.builtin, &self.generations);
        let table = Table::new(&Plan { revision: 7, builtin, generations, routes, plugin_policies, kind_policies })?;
        self.registry.replace(table);
        Ok(())
    }

    fn find(&self, tenant: &str, channel: u128) -> Option<Arc<Handler>> {
        let channel = ChannelId(uuid::Uuid::from_u128(channel));
        self.registry.handler(&ChannelKey { tenant: tenant.parse().unwrap(), channel }, &kind())
    }

    fn generation(&self, tenant: &str) -> Option<Option<GenerationId>> {
        self.find(tenant, 1).map(|handler| handler.generation.id())
    }
}

fn kind() -> Kind {
    "chat.message".parse().unwrap()
}

fn scope(tenant: &str) -> Scope {
    if tenant.is_empty() { Scope::All } else { Scope::Tenant(tenant.parse().unwrap()) }
}

fn route(tenant: &str, stable: Target, candidate: Option<(GenerationId, Trial)>) -> Route {
    Route {
        scope: scope(tenant),
        subject: Subject::Handles(kind()),
        stable,
        previous: Vec::new(),
        candidate: candidate.map(|(generation, trial)| Candidate { generation, trial }),
    }
}

#[test]
fn a_share_of_the_channels_is_tried_out_and_a_larger_share_has_the_same_ones() {
    let poll: PluginName = "poll".parse().unwrap();
    let buckets: Vec<u8> = (0..10_000u128).map(|n| bucket(&poll, ChannelId(uuid::Uuid::from_u128(n)))).collect();
    for percent in [1u8, 10, 50, 99] {
        let share = buckets.iter().filter(|bucket| **bucket < percent).count();
        let expected = usize::from(percent) * 100;
        assert!(share.abs_diff(expected) < 200, "{share} of 10,000 channels at {percent} %");
    }
    // Other nodes, and other versions of the broker, must agree on these.
    assert_eq!(buckets[..4], [98, 11, 53, 99]);
}

#[tokio::test]
async fn a_tenants_row_goes_before_the_row_for_all_and_that_before_the_built_in_plugin() {
    let node = Node::new().await;
    assert_eq!(node.generation("acme"), None, "nothing is decided, and nothing is there");
    node.decide(&[], &[], &[]).unwrap();
    assert_eq!(node.generation("acme"), Some(None), "the built-in one");
    let all = route("", Target::Generation(1), None);
    let acme = route("acme", Target::Generation(2), None);
    node.decide(&[all.clone(), acme.clone()], &[], &[]).unwrap();
    assert_eq!((node.generation("acme"), node.generation("globex")), (Some(Some(2)), Some(Some(1))));
    node.decide(&[all, route("acme", Target::BuiltIn, None)], &[], &[]).unwrap();
    assert_eq!((node.generation("acme"), node.generation("globex")), (Some(None), Some(Some(1))));
    node.decide(&[route("", Target::Off, None), acme], &[], &[]).unwrap();
    assert_eq!((node.generation("acme"), node.generation("globex")), (Some(Some(2)), None));
    assert_eq!(node.registry.revision(), 7);
}

#[tokio::test]
async fn a_table_that_names_what_is_not_prepared_is_not_made() {
    let node = Node::new().await;
    node.decide(&[route("", Target::Generation(1), None)], &[], &[]).unwrap();
    assert_eq!(node.decide(&[route("", Target::Generation(9), None)], &[], &[]), Err(Unprepared(9)));
    assert_eq!(node.generation("acme"), Some(Some(1)), "what ran goes on");
}

#[tokio::test]
async fn terms_and_policies_of_a_tenant_are_its_own() {
    let node = Node::new().await;
    let terms = |tenant: &str, grants: &[Import], cpu: u64| PluginPolicy {
        scope: scope(tenant),
        plugin: "chat-message".parse().unwrap(),
        grants: Some(grants.iter().copied().collect()),
        limits: [("cpu_ms".to_owned(), cpu)].into(),
    };
    let open = KindPolicy { scope: scope("acme"), kind: kind(), policy: Some(FailurePolicy::Open) };
    let decided = [terms("", &[Import::Log], 20), terms("acme", &[Import::Kv], 30)];
    node.decide(&[route("", Target::Generation(1), None)], &decided, &[open]).unwrap();
    let (acme, globex) = (node.find("acme", 1).unwrap(), node.find("globex", 1).unwrap());
    assert_eq!((acme.policy, globex.policy), (FailurePolicy::Open, FailurePolicy::Closed));
    assert_eq!((acme.allowance.limits.cpu.as_millis(), globex.allowance.limits.cpu.as_millis()), (30, 20));
    assert!(acme.allowance.grants.contains(&Import::Kv) && !globex.allowance.grants.contains(&Import::Kv));
    assert_eq!(acme.generation.id(), Some(1), "the route for all");
}

#[tokio::test]
async fn a_canary_has_its_channels_and_a_shadow_stands_beside() {
    let node = Node::new().await;
    node.decide(&[route("", Target::Generation(1), Some((2, Trial::Canary(30))))], &[], &[]).unwrap();
    let roles = |percent: Option<u8>| {
        if let Some(percent) = percent {
            let all = route("", Target::Generation(1), Some((2, Trial::Canary(percent))));
            node.decide(&[all], &[], &[]).unwrap();
        }
        (0..200u128).map(|n| node.find("acme", n).unwrap().role).collect::<Vec<Role>>()
    };
    let first = roles(Some(30));
    assert_eq!(first, roles(None), "a channel stays where it is");
    let more = roles(Some(60));
    assert!(first.iter().zip(&more).all(|(a, b)| *a != Role::Canary || *b == Role::Canary));
    let canaries = first.iter().filter(|role| **role == Role::Canary).count();
    assert!((30..=90).contains(&canaries), "{canaries} of 200 channels");
    let tried = (0..200u128).map(|n| node.find("acme", n).unwrap()).find(|handler| handler.role == Role::Canary);
    let tried = tried.unwrap();
    assert_eq!((tried.generation.id(), tried.rival.as_ref().and_then(|rival| rival.id())), (Some(2), Some(1)));

    node.decide(&[route("", Target::Generation(1), Some((2, Trial::Shadow)))], &[], &[]).unwrap();
    let stable = node.find("acme", 1).unwrap();
    assert_eq!((stable.role, stable.generation.id()), (Role::Stable, Some(1)));
    let shadow = stable.shadow.as_ref().unwrap();
    assert_eq!((shadow.role, shadow.generation.id()), (Role::Shadow, Some(2)));
}

#[tokio::test]
async fn a_component_that_needs_nothing_runs_without_a_grant() {
    let engine = engine().await;
    let component = component();
    let described = engine.describe("chat", component).await.unwrap();
    assert_eq!((described.plugin.as_str(), described.kinds.len()), ("chat-message", 1));
    assert_eq!(described.size, u64::try_from(component.len()).unwrap());
    let nothing = Arc::new(Allowance { grants: [].into(), ..Allowance::deployed() });
    let order = Order { allowance: nothing, ..Order::builtin("chat", component) };
    assert!(described.wants.is_empty(), "{:?}", described.wants);
    engine.prepare(order).await.unwrap();
}
