//! The catalogue, and that tenants are worlds apart.

use futures_util::future::join_all;
use switchboard::model::{Clock, MessageId, Role};
use switchboard::store::{Commit, Outcome, REFRESH_GRACE, Span, StoreError};

use crate::store::backing::Backing;
use crate::store::scene::{START, Scene, hours, keyed, plugin, put, texts, used, user};

pub(crate) async fn a_tenant_is_found_by_slug_and_by_external_id(backing: Backing) {
    let store = backing.open().await;
    let (acme, beta) = ("acme-corp_2".parse().unwrap(), "beta".parse().unwrap());
    let made = store.create_tenant(&acme, Some("42"), START).await.unwrap().unwrap();
    store.create_tenant(&beta, None, START).await.unwrap().unwrap();
    assert_eq!((made.slug.as_str(), made.external_id.as_deref()), ("acme-corp_2", Some("42")));
    assert_eq!((made.enabled, made.created_at), (true, START));
    assert_eq!(store.tenant(&acme).await.unwrap().as_ref(), Some(&made));
    assert_eq!(store.tenant_by_external_id("42").await.unwrap(), Some(made));
    assert_eq!(store.tenant_by_external_id("43").await.unwrap(), None);
    assert_eq!(store.tenant(&"gamma".parse().unwrap()).await.unwrap(), None);
    let slugs: Vec<_> = store.tenants().await.unwrap().into_iter().map(|tenant| tenant.slug).collect();
    assert_eq!(slugs, [acme, beta]);
    store.ping().await.unwrap();
}

pub(crate) async fn a_slug_is_taken_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    scene.member("alice").await;
    assert_eq!(scene.store.create_tenant(&scene.tenant, Some("7"), START).await.unwrap(), None);
    assert_eq!(scene.store.tenant_by_external_id("7").await.unwrap(), None);
    assert!(scene.store.member(&scene.tenant, &"alice".parse().unwrap()).await.unwrap().is_some());
}

pub(crate) async fn an_external_id_belongs_to_one_tenant(backing: Backing) {
    let store = backing.open().await;
    store.create_tenant(&"one".parse().unwrap(), Some("42"), START).await.unwrap().unwrap();
    let refused = store.create_tenant(&"two".parse().unwrap(), Some("42"), START).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    assert_eq!(store.tenants().await.unwrap().len(), 1);
    let unseen = store.member(&"two".parse().unwrap(), &"alice".parse().unwrap()).await;
    assert!(unseen.is_err() || unseen.unwrap().is_none());
}

pub(crate) async fn a_tenant_made_by_two_at_once_is_made_once(backing: Backing) {
    let stores = join_all((0..4).map(|_| backing.open())).await;
    let slug = "acme".parse().unwrap();
    let made = join_all(stores.iter().map(|store| store.create_tenant(&slug, None, START))).await;
    assert_eq!(made.into_iter().filter(|made| made.as_ref().unwrap().is_some()).count(), 1);
    assert!(stores[3].create_member(&slug, &user("1", "alice"), None, START).await.unwrap());
}

pub(crate) async fn a_tenant_can_be_disabled_and_enabled(backing: Backing) {
    let scene = Scene::new(&backing).await;
    for enabled in [false, true] {
        assert!(scene.store.set_tenant_enabled(&scene.tenant, enabled, START).await.unwrap());
        assert_eq!(scene.store.tenant(&scene.tenant).await.unwrap().unwrap().enabled, enabled);
    }
    assert!(!scene.store.set_tenant_enabled(&"none".parse().unwrap(), false, START).await.unwrap());
}

/// A schema name of django-tenants, and one that is too long for an identifier with a prefix.
pub(crate) async fn tenants_may_be_called_as_their_schemas_were(backing: Backing) {
    let store = backing.open().await;
    let long = "x".repeat(62);
    let slugs = ["Acme", "acme", "_acme.v2", &format!("{long}1"), &format!("{long}2")];
    let mut scenes = Vec::new();
    for slug in slugs {
        let scene = Scene::of(store.clone(), slug).await;
        scene.member(&format!("of {}", scenes.len())).await;
        scenes.push(scene);
    }
    for (n, scene) in scenes.iter().enumerate() {
        for other in 0..scenes.len() {
            let found = store.member(&scene.tenant, &format!("of {other}").parse().unwrap()).await.unwrap();
            assert_eq!(found.is_some(), n == other, "{} and member {other}", scene.tenant);
        }
    }
}

pub(crate) async fn a_deleted_tenant_is_gone_with_all_it_had(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let (alice, other) = (scene.member("alice").await, Scene::of(scene.store.clone(), "other").await);
    other.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    scene.say(channel, &alice, "hello").await;
    assert!(store.delete_tenant(tenant).await.unwrap());
    assert!(!store.delete_tenant(tenant).await.unwrap());
    assert!(store.tenant(tenant).await.unwrap().is_none());
    assert!(matches!(store.member(tenant, &alice.id).await, Err(StoreError::NoTenant(_))));
    assert!(store.tenants_among(&[tenant.clone(), other.tenant.clone()]).await.unwrap().len() == 1);

    // One that is created under the same name has nothing of it.
    let again = Scene { clock: Clock::manual(hours(1)), ..scene.clone() };
    store.create_tenant(tenant, None, again.clock.now()).await.unwrap().unwrap();
    assert!(store.member(tenant, &alice.id).await.unwrap().is_none());
    assert!(store.member(&other.tenant, &alice.id).await.unwrap().is_some(), "another tenant is not touched");
}

pub(crate) async fn every_call_on_an_unknown_tenant_says_so(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, none) = (&scene.store, "nobody".parse().unwrap());
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let message = MessageId(scene.clock.uuid());
    macro_rules! unknown {
        ($($call:expr),+ $(,)?) => {$(
            let answer = $call.await.map(drop);
            assert!(matches!(&answer, Err(StoreError::NoTenant(slug)) if *slug == none), "{answer:?}");
        )+};
    }
    unknown!(
        store.create_member(&none, &alice, None, START),
        store.member(&none, &alice.id),
        store.credentials(&none, &alice.username),
        store.create_channel(&none, &scene.new_channel(channel, &[&alice])),
        store.role(&none, channel, &alice.id),
        store.channel(&none, channel),
        store.positions(&none, &[channel]),
        store.members_among(&none, &[(channel, alice.id.clone())]),
        store.channel_summary(&none, channel, &alice.id),
        store.channel_summaries(&none, &alice.id, None, 10),
        store.channel_members(&none, channel, None, 10),
        store.member_count(&none, channel),
        store.add_channel_member(&none, channel, &alice.id, Role::Member, START),
        store.remove_channel_member(&none, channel, &alice.id),
        store.messages(&none, channel, Span::Latest, 10),
        store.message(&none, channel, message),
        store.commit(&none, &[scene.saying(channel, &alice, "hi")]),
        store.commit(
            &none,
            &[Commit { kv: Some((plugin("poll"), vec![put("k", "v")])), ..scene.nothing(channel, &alice) }]
        ),
        store.kv_get(&none, &plugin("poll"), "k", START),
        store.kv_list(&none, &plugin("poll"), "", None, 10, START),
        store.spend_refresh(&none, &used("jti", "family", START)),
    );
}

/// Both tenants have a member, a name, a key and even a channel with the very same id.
pub(crate) async fn tenants_with_the_same_ids_see_only_their_own(backing: Backing) {
    let one = Scene::new(&backing).await;
    let two = Scene::of(one.store.clone(), "other").await;
    let (alice, same_alice) = (one.member("alice").await, two.member("alice").await);
    let bob = one.member("bob").await;
    let channel = one.channel(&[&alice, &bob]).await;
    let first = one.done(&keyed(one.saying(channel, &alice, "secret"), "k", 1)).await.messages.remove(0);

    let (store, foreign) = (&two.store, &two.tenant);
    assert!(store.member(foreign, &bob.id).await.unwrap().is_none());
    assert!(store.credentials(foreign, &bob.username).await.unwrap().is_none());
    assert!(store.channel(foreign, channel).await.unwrap().is_none());
    assert!(store.positions(foreign, &[channel]).await.unwrap().is_empty());
    assert!(store.members_among(foreign, &[(channel, alice.id.clone())]).await.unwrap().is_empty());
    assert!(store.role(foreign, channel, &alice.id).await.unwrap().is_none());
    assert!(store.channel_summary(foreign, channel, &alice.id).await.unwrap().is_none());
    assert!(store.channel_summaries(foreign, &alice.id, None, 10).await.unwrap().is_empty());
    assert!(store.channel_members(foreign, channel, None, 10).await.unwrap().is_empty());
    assert_eq!(store.member_count(foreign, channel).await.unwrap(), 0);
    assert!(two.history(channel).await.is_empty());
    assert!(store.message(foreign, channel, first.id).await.unwrap().is_none());
    assert!(!store.add_channel_member(foreign, channel, &alice.id, Role::Owner, START).await.unwrap());
    assert!(!store.remove_channel_member(foreign, channel, &alice.id).await.unwrap());
    assert!(matches!(two.commit(&two.saying(channel, &alice, "x")).await, Outcome::UnknownChannel));

    assert!(store.create_channel(foreign, &two.new_channel(channel, &[&same_alice])).await.unwrap());
    let own = two.done(&keyed(two.saying(channel, &same_alice, "mine"), "k", 2)).await.messages.remove(0);
    assert_eq!((own.seq, texts(&two.history(channel).await)), (1, vec!["mine".to_owned()]));
    assert!(matches!(two.commit(&two.reading(channel, &same_alice, first.id)).await, Outcome::UnknownMessage));
    assert!(store.spend_refresh(foreign, &used("j", "f", START)).await.unwrap().is_some());
    assert!(one.spend("j", "f", START).await.is_some());

    assert_eq!(texts(&one.history(channel).await), ["secret"]);
    assert_eq!(one.store.member_count(&one.tenant, channel).await.unwrap(), 2);
}

pub(crate) async fn reopening_keeps_everything(backing: Backing) {
    let before = Scene::new(&backing).await;
    let (alice, bob) = (before.member("alice").await, before.member("bob").await);
    let channel = before.channel(&[&alice, &bob]).await;
    let request = keyed(before.saying(channel, &alice, "hello"), "k", 1);
    let first = before.done(&request).await;
    before.read(channel, &bob, first.messages[0].id).await;
    assert!(before.spend("j", "f", START).await.is_some());

    let after = Scene { store: backing.open().await, ..before };
    let kept = after.history(channel).await.remove(0);
    assert_eq!((kept.id, kept.read_by), (first.messages[0].id, vec![bob.id]));
    assert_eq!(after.say(channel, &alice, "again").await.seq, 2);
    let Outcome::Duplicate(receipt) = after.commit(&request).await else { panic!("the key was forgotten") };
    assert_eq!(receipt, first.receipt);
    assert!(after.spend("j", "f", START.plus(REFRESH_GRACE)).await.is_none());
}

/// Several brokers start at the same moment, on nothing and then on something.
pub(crate) async fn stores_opened_at_once_share_one_database(backing: Backing) {
    let open = |count: usize| {
        let opening = (0..count).map(|_| {
            tokio::spawn({
                let backing = backing.clone();
                async move { backing.open().await }
            })
        });
        join_all(opening.collect::<Vec<_>>())
    };
    let stores: Vec<_> = open(4).await.into_iter().map(Result::unwrap).collect();
    let scene = Scene::of(stores[0].clone(), "acme").await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let others: Vec<_> = open(4).await.into_iter().map(Result::unwrap).collect();
    for (place, store) in stores.into_iter().chain(others).enumerate() {
        let there = Scene { store, ..scene.clone() };
        assert_eq!(there.say(channel, &alice, "hi").await.seq, place as u64 + 1);
    }
}
