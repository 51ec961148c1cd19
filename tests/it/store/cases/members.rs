//! Members and their refresh tokens.

use futures_util::future::join_all;
use switchboard::store::Outcome;

use crate::store::backing::Backing;
use crate::store::scene::{START, Scene, hours, json, keyed, texts, user};

pub(crate) async fn a_member_is_found_by_id_and_by_name(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let alice = user("42", "alice");
    assert!(store.create_member(tenant, &alice, Some("$argon2id$…"), START).await.unwrap());
    assert_eq!(store.member(tenant, &alice.id).await.unwrap(), Some(alice.clone()));
    let found = store.credentials(tenant, &alice.username).await.unwrap().unwrap();
    assert_eq!((found.user, found.password_hash.as_deref()), (alice.clone(), Some("$argon2id$…")));
    assert!(store.member(tenant, &"alice".parse().unwrap()).await.unwrap().is_none());
    assert!(store.credentials(tenant, &"ALICE".parse().unwrap()).await.unwrap().is_none());
    let bob = scene.member("bob").await;
    assert_eq!(store.credentials(tenant, &bob.username).await.unwrap().unwrap().password_hash, None);
}

pub(crate) async fn an_id_or_a_name_is_taken_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let alice = user("1", "alice");
    assert!(store.create_member(tenant, &alice, None, START).await.unwrap());
    for taken in [user("1", "other"), user("2", "alice"), alice.clone()] {
        assert!(!store.create_member(tenant, &taken, Some("hash"), START).await.unwrap(), "{taken:?}");
    }
    assert_eq!(store.credentials(tenant, &alice.username).await.unwrap().unwrap().password_hash, None);
    assert!(store.member(tenant, &"2".parse().unwrap()).await.unwrap().is_none());
}

pub(crate) async fn hostile_text_comes_back_as_it_was(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let hostile = ["'; DROP TABLE member; --", "\"{t}\" $1 ?1 %s \\", "𝒂ł\u{301}ïčé 🦀 \u{202e}", "0x00", "NULL"];
    for text in hostile {
        let someone = user(text, text);
        assert!(store.create_member(tenant, &someone, Some(text), START).await.unwrap());
        assert_eq!(store.member(tenant, &someone.id).await.unwrap(), Some(someone.clone()));
        let channel = scene.channel(&[&someone]).await;
        let mut commit = keyed(scene.saying(channel, &someone, "x"), text, 1);
        commit.drafts[0].1.content = json(&format!("{text}\0\n"));
        scene.done(&commit).await;
        let kept = scene.history(channel).await;
        assert_eq!((texts(&kept), &kept[0].sender), (vec![format!("{text}\0\n")], &someone));
        assert!(matches!(scene.commit(&commit).await, Outcome::Duplicate(_)));
        assert!(store.spend_refresh(tenant, text, text, START, START).await.unwrap());
        assert!(store.tenant_by_external_id(text).await.unwrap().is_none());
    }
}

pub(crate) async fn a_refresh_token_is_spent_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let spend = |jti, family| scene.store.spend_refresh(&scene.tenant, jti, family, hours(24), START);
    assert!(spend("a1", "a").await.unwrap());
    assert!(spend("a2", "a").await.unwrap());
    assert!(spend("b1", "b").await.unwrap());
    assert!(!spend("a1", "a").await.unwrap());
}

pub(crate) async fn a_reused_refresh_token_revokes_its_family(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let spend = |jti, family| scene.store.spend_refresh(&scene.tenant, jti, family, hours(24), START);
    assert!(spend("a1", "a").await.unwrap());
    assert!(!spend("a1", "a").await.unwrap());
    assert!(!spend("a2", "a").await.unwrap(), "the honest token ends with the stolen one");
    assert!(spend("b1", "b").await.unwrap(), "another family is not touched");
}

pub(crate) async fn a_refresh_token_spent_by_many_at_once_is_spent_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let spending = (0..8).map(|_| {
        let scene = scene.clone();
        tokio::spawn(
            async move { scene.store.spend_refresh(&scene.tenant, "a1", "a", hours(24), START).await.unwrap() },
        )
    });
    let spent = join_all(spending.collect::<Vec<_>>()).await;
    assert_eq!(spent.into_iter().filter(|spent| *spent.as_ref().unwrap()).count(), 1);
    assert!(!scene.store.spend_refresh(&scene.tenant, "a2", "a", hours(24), START).await.unwrap());
}

/// The token that was used twice ends first; its successor, which the thief may hold, must not come back to life.
pub(crate) async fn a_revocation_outlives_the_token_that_caused_it(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let spend = |jti, family, expires, now| scene.store.spend_refresh(&scene.tenant, jti, family, expires, now);
    assert!(spend("a1", "a", hours(24), hours(20)).await.unwrap());
    assert!(!spend("a1", "a", hours(24), hours(21)).await.unwrap());
    assert!(spend("b1", "b", hours(60), hours(30)).await.unwrap(), "expired rows are forgotten on the way");
    assert!(!spend("a2", "a", hours(44), hours(40)).await.unwrap());
}
