//! What operators decided about plugins: one change at a time, all of it or nothing, and written down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use switchboard::model::catalogue::{
    Audit, Candidate, Catalogue, Change, Durability, FailurePolicy, GenerationRow, Import, KindPolicy, KindSpec,
    NodeReport, Origin, PluginPolicy, Route, Scope, Subject, Target, Trial, Version,
};
use switchboard::model::{Digest, Timestamp};
use switchboard::store::{Store, StoreError};
use tokio::time::Instant;

use crate::store::backing::Backing;
use crate::store::scene::{START, hours};

fn digest(of: char) -> Digest {
    of.to_string().repeat(64).parse().unwrap()
}

fn version(plugin: &str, version: &str, at: Timestamp) -> Version {
    let kind =
        KindSpec { kind: "chat.message".parse().unwrap(), origin: Origin::Client, durability: Durability::Durable };
    Version {
        plugin: plugin.parse().unwrap(),
        version: version.into(),
        digest: digest('a'),
        size: 1_000,
        kinds: vec![kind],
        watches: vec!["reaction".parse().unwrap()],
        wants: vec![Import::Kv, Import::Log],
        deployed_at: at,
        deployed_by: "ürsula \"u\" \0".into(),
    }
}

fn generation(id: u64) -> GenerationRow {
    GenerationRow {
        id,
        plugin: "chat-message".parse().unwrap(),
        version: "1.0.0".into(),
        digest: digest('a'),
        config: "words = [\"x\"]\0".into(),
        created_at: START,
    }
}

fn tenant(slug: &str) -> Scope {
    Scope::Tenant(slug.parse().unwrap())
}

fn handles(kind: &str) -> Subject {
    Subject::Handles(kind.parse().unwrap())
}

fn route(scope: Scope, subject: Subject, stable: Target) -> Route {
    Route { scope, subject, stable, previous: Vec::new(), candidate: None }
}

fn routes(routes: Vec<Route>) -> Change {
    Change { routes, ..Change::default() }
}

fn told(action: &str) -> Audit {
    Audit {
        id: 0,
        at: START,
        actor: "ursula".into(),
        action: action.into(),
        scope: tenant("acme"),
        subject: "chat.message".into(),
        from: "built-in".into(),
        to: "generation 1".into(),
        result: "ok".into(),
    }
}

/// A change of nothing but the audit.
pub(crate) fn one_line() -> Change {
    Change { audit: vec![told("activate")], ..Change::default() }
}

/// Changes what stands at its last revision.
async fn change(store: &Arc<dyn Store>, change: Change) -> u64 {
    let at = store.catalogue_revision().await.unwrap();
    let now = store.change_catalogue(at, &change).await.unwrap().expect("nobody else changes it");
    assert_eq!((now, store.catalogue_revision().await.unwrap()), (at + 1, at + 1));
    now
}

async fn actions(store: &Arc<dyn Store>, before: Option<u64>, limit: u32) -> Vec<(u64, String)> {
    store.audit(before, limit).await.unwrap().into_iter().map(|line| (line.id, line.action)).collect()
}

pub(crate) async fn a_new_catalogue_has_decided_nothing(backing: Backing) {
    let store = backing.open().await;
    assert_eq!(store.catalogue_revision().await.unwrap(), 0);
    assert_eq!(store.catalogue().await.unwrap(), Catalogue::default());
    assert_eq!(store.artefact(&digest('a')).await.unwrap(), None);
    assert!(store.audit(None, 10).await.unwrap().is_empty());
    assert!(store.nodes(Timestamp(0)).await.unwrap().is_empty());
}

pub(crate) async fn all_that_is_decided_comes_back_as_it_was(backing: Backing) {
    let store = backing.open().await;
    let canary = Candidate { generation: 2, trial: Trial::Canary(5) };
    let shadow = Candidate { generation: 1, trial: Trial::Shadow };
    let all = Catalogue {
        revision: 1,
        versions: vec![version("chat-message", "2.0.0", START), version("chat-message", "1.0.0", hours(1))],
        generations: vec![generation(2), generation(10)],
        routes: vec![
            Route {
                previous: vec![Target::BuiltIn, Target::Off],
                candidate: Some(canary),
                ..route(Scope::All, handles("chat.message"), Target::Generation(1))
            },
            Route {
                candidate: Some(shadow),
                ..route(tenant("acme"), Subject::Watches("slash-bot".parse().unwrap()), Target::BuiltIn)
            },
        ],
        plugin_policies: vec![
            PluginPolicy {
                scope: Scope::All,
                plugin: "chat-message".parse().unwrap(),
                grants: None,
                limits: BTreeMap::from([("memory_mib".into(), 64)]),
            },
            PluginPolicy {
                scope: tenant("acme"),
                plugin: "chat-message".parse().unwrap(),
                grants: Some(BTreeSet::from(Import::ALL)),
                limits: BTreeMap::new(),
            },
        ],
        kind_policies: vec![KindPolicy {
            scope: tenant("acme"),
            kind: "typing".parse().unwrap(),
            policy: Some(FailurePolicy::Open),
        }],
        consents: BTreeSet::from(["acme".parse().unwrap(), "other".parse().unwrap()]),
    };
    // In another order than they come back in.
    let change = Change {
        artefact: None,
        versions: all.versions.iter().rev().cloned().collect(),
        generations: all.generations.iter().rev().cloned().collect(),
        routes: all.routes.iter().rev().cloned().collect(),
        dropped: Vec::new(),
        plugin_policies: all.plugin_policies.iter().rev().cloned().collect(),
        kind_policies: all.kind_policies.clone(),
        consents: all.consents.iter().map(|tenant| (tenant.clone(), true)).collect(),
        audit: vec![told("activate")],
    };
    assert_eq!(store.change_catalogue(0, &change).await.unwrap(), Some(1));
    assert_eq!(store.catalogue().await.unwrap(), all);
    assert_eq!(backing.open().await.catalogue().await.unwrap(), all, "another node reads the same");
}

pub(crate) async fn a_route_is_replaced_and_dropped(backing: Backing) {
    let store = backing.open().await;
    let (subject, other) = (handles("chat.message"), handles("typing"));
    change(
        &store,
        routes(vec![route(Scope::All, subject.clone(), Target::Off), route(Scope::All, other.clone(), Target::Off)]),
    )
    .await;
    change(
        &store,
        Change {
            routes: vec![
                route(Scope::All, subject.clone(), Target::Generation(7)),
                route(tenant("acme"), subject.clone(), Target::BuiltIn),
            ],
            dropped: vec![(Scope::All, other), (tenant("none"), subject.clone())],
            ..Change::default()
        },
    )
    .await;
    let kept = [
        route(Scope::All, subject.clone(), Target::Generation(7)),
        route(tenant("acme"), subject.clone(), Target::BuiltIn),
    ];
    assert_eq!(store.catalogue().await.unwrap().routes, kept);
    let dropped = vec![(tenant("acme"), subject.clone()), (Scope::All, subject.clone())];
    // What is dropped and put in one change is put.
    let put = routes(vec![route(Scope::All, subject.clone(), Target::Off)]);
    change(&store, Change { dropped, ..put }).await;
    assert_eq!(store.catalogue().await.unwrap().routes, [route(Scope::All, subject, Target::Off)]);
}

pub(crate) async fn terms_policies_and_consents_are_given_and_taken_back(backing: Backing) {
    let store = backing.open().await;
    let plugin = "poll".parse().unwrap();
    let terms = PluginPolicy { scope: tenant("acme"), plugin, grants: Some(BTreeSet::new()), limits: BTreeMap::new() };
    let policy = |policy| KindPolicy { scope: Scope::All, kind: "poll".parse().unwrap(), policy };
    let given = Change {
        plugin_policies: vec![terms.clone()],
        kind_policies: vec![policy(Some(FailurePolicy::Closed))],
        consents: vec![("acme".parse().unwrap(), true)],
        ..Change::default()
    };
    change(&store, given.clone()).await;
    change(&store, given).await;
    let kept = store.catalogue().await.unwrap();
    assert_eq!((kept.plugin_policies.len(), kept.kind_policies.len(), kept.consents.len()), (1, 1, 1));
    let more = PluginPolicy { limits: BTreeMap::from([("fresh".into(), 1)]), grants: None, ..terms };
    let taken_back = Change {
        plugin_policies: vec![more.clone()],
        kind_policies: vec![policy(None)],
        consents: vec![("acme".parse().unwrap(), false), ("none".parse().unwrap(), false)],
        ..Change::default()
    };
    change(&store, taken_back).await;
    let kept = store.catalogue().await.unwrap();
    assert_eq!((kept.plugin_policies, kept.kind_policies.len(), kept.consents.len()), (vec![more], 0, 0));
}

pub(crate) async fn a_change_of_a_revision_that_is_past_changes_nothing(backing: Backing) {
    let store = backing.open().await;
    change(&store, routes(vec![route(Scope::All, handles("a"), Target::Off)])).await;
    let before = store.catalogue().await.unwrap();
    let late = Change {
        artefact: Some((digest('b'), vec![1])),
        versions: vec![version("poll", "1.0.0", START)],
        generations: vec![generation(1)],
        routes: vec![route(Scope::All, handles("b"), Target::Off)],
        dropped: vec![(Scope::All, handles("a"))],
        consents: vec![("acme".parse().unwrap(), true)],
        audit: vec![told("too late")],
        ..Change::default()
    };
    for past_or_to_come in [0, 2, u64::MAX] {
        assert_eq!(store.change_catalogue(past_or_to_come, &late).await.unwrap(), None);
    }
    assert_eq!(store.catalogue().await.unwrap(), before);
    assert_eq!(store.artefact(&digest('b')).await.unwrap(), None);
    assert!(store.audit(None, 10).await.unwrap().is_empty());
}

/// On two stores, as two nodes do it.
pub(crate) async fn of_changes_at_one_revision_one_is_done(backing: Backing) {
    let nodes = [backing.open().await, backing.open().await];
    for revision in 0..10 {
        let changing = (0..4_usize).map(|writer| {
            let store = Arc::clone(&nodes[writer % 2]);
            let kind = format!("kind.{revision}.{writer}");
            let change =
                Change { audit: vec![told(&kind)], ..routes(vec![route(Scope::All, handles(&kind), Target::Off)]) };
            tokio::spawn(async move { store.change_catalogue(revision, &change).await.unwrap() })
        });
        let answers = join_all(changing.collect::<Vec<_>>()).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().flatten().collect::<Vec<_>>(), [&(revision + 1)], "{answers:?}");
    }
    let kept = nodes[1].catalogue().await.unwrap();
    assert_eq!((kept.revision, kept.routes.len()), (10, 10));
    let written = actions(&nodes[0], None, 100).await;
    let kinds = kept.routes.iter().rev().map(|route| match &route.subject {
        Subject::Handles(kind) => kind.to_string(),
        Subject::Watches(_) => panic!("{route:?}"),
    });
    assert_eq!(written.into_iter().map(|(_, action)| action).collect::<Vec<_>>(), kinds.collect::<Vec<_>>());
}

/// What is deployed has its bytes for ever, and the number of a generation is never another one's.
pub(crate) async fn what_is_added_cannot_take_the_place_of_what_is_there(backing: Backing) {
    let store = backing.open().await;
    let first = Change {
        versions: vec![version("poll", "1.0.0", START)],
        generations: vec![generation(1)],
        ..Change::default()
    };
    change(&store, first).await;
    let before = store.catalogue().await.unwrap();
    let other = Version { digest: digest('b'), ..version("poll", "1.0.0", hours(1)) };
    let taken = [
        Change { versions: vec![other], audit: vec![told("deploy")], ..Change::default() },
        Change {
            generations: vec![GenerationRow { config: "other".into(), ..generation(1) }],
            routes: vec![route(Scope::All, handles("a"), Target::Off)],
            ..Change::default()
        },
    ];
    for taken in taken {
        let refused = store.change_catalogue(1, &taken).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
        assert_eq!(store.catalogue().await.unwrap(), before);
    }
    assert!(store.audit(None, 10).await.unwrap().is_empty());
}

pub(crate) async fn the_audit_is_written_whatever_the_revision_and_comes_in_pages(backing: Backing) {
    let store = backing.open().await;
    change(&store, routes(vec![route(Scope::All, handles("a"), Target::Off)])).await;
    let alone = |first: u32, count: u32| Change {
        audit: (first..first + count).map(|place| told(&place.to_string())).collect(),
        ..Change::default()
    };
    for (at, change) in [(1, alone(1, 2)), (0, alone(3, 1)), (7, alone(4, 2))] {
        assert_eq!(store.change_catalogue(at, &change).await.unwrap(), Some(1), "the revision stays");
    }
    let all = actions(&store, None, 100).await;
    assert_eq!(all.iter().map(|(_, action)| action.as_str()).collect::<Vec<_>>(), ["5", "4", "3", "2", "1"]);
    assert!(all.is_sorted_by(|later, earlier| later.0 > earlier.0), "{all:?}");
    let first = actions(&store, None, 2).await;
    let second = actions(&store, Some(first[1].0), 2).await;
    let third = actions(&store, Some(second[1].0), 2).await;
    assert_eq!([first, second, third].concat(), all);
    let line = store.audit(None, 1).await.unwrap().remove(0);
    assert_eq!(line, Audit { id: line.id, ..told("5") });
}

pub(crate) async fn a_component_of_megabytes_comes_back_whole_and_is_kept_once(backing: Backing) {
    let store = backing.open().await;
    // No run of it repeats, so that nothing can be saved by packing it.
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(state >> 24).unwrap()
    });
    let bytes: Vec<u8> = noise.take(12 << 20).collect();
    let keep = |bytes: &[u8]| Change { artefact: Some((digest('a'), bytes.to_vec())), ..Change::default() };
    let began = Instant::now();
    change(&store, keep(&bytes)).await;
    let written = began.elapsed();
    assert!(store.artefact(&digest('a')).await.unwrap().is_some_and(|kept| kept == bytes));
    println!("12 MiB written in {written:?} and read in {:?}", began.elapsed() - written);
    // The digest is of the bytes, so whoever brings it again brings nothing new.
    change(&store, keep(b"not these")).await;
    assert_eq!(store.artefact(&digest('a')).await.unwrap().map(|kept| kept.len()), Some(bytes.len()));
    assert_eq!(store.artefact(&digest('b')).await.unwrap(), None);
}

pub(crate) async fn a_catalogue_of_a_thousand_routes_is_one_read(backing: Backing) {
    let store = backing.open().await;
    let many = (0..1_000).map(|place| {
        let full = Route {
            previous: vec![Target::BuiltIn; Route::KEPT],
            ..route(
                tenant(&format!("t{}", place / 5)),
                handles(&format!("kind.{}", place % 5)),
                Target::Generation(place),
            )
        };
        Route { candidate: Some(Candidate { generation: place, trial: Trial::Canary(9) }), ..full }
    });
    let began = Instant::now();
    change(&store, routes(many.collect())).await;
    let written = began.elapsed();
    let kept = store.catalogue().await.unwrap();
    println!("1,000 routes written in {written:?} and read in {:?}", began.elapsed() - written);
    assert_eq!(kept.routes.len(), 1_000);
    assert!(kept.routes.is_sorted_by(|a, b| (&a.scope, &a.subject) < (&b.scope, &b.subject)));
}

pub(crate) async fn a_nodes_last_word_counts_and_old_ones_are_forgotten(backing: Backing) {
    let store = backing.open().await;
    let report = |node: &str, revision, error: Option<&str>, at| NodeReport {
        node: node.into(),
        revision,
        error: error.map(str::to_owned),
        secret: Some("5ec".to_owned()),
        at,
    };
    let (one, two) = (report("one", 3, None, START), report("two", 2, Some("failed to prepare"), hours(1)));
    for said in [&report("two", 1, None, START), &one, &two] {
        store.report_node(said).await.unwrap();
    }
    assert_eq!(store.nodes(START).await.unwrap(), [one, two.clone()]);
    assert_eq!(store.nodes(hours(1)).await.unwrap(), std::slice::from_ref(&two));
    let late = report("two", 4, None, hours(30));
    store.report_node(&late).await.unwrap();
    assert_eq!(store.nodes(Timestamp(0)).await.unwrap(), [late], "what is a day old is forgotten");
}
