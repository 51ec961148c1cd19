//! Members and their tokens.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use switchboard::model::{Timestamp, TokenId, User, UserId, Username};
use switchboard::store::{Bearer, Outcome, REFRESH_GRACE, RefreshUse, Renamed, Successor};

use crate::store::backing::Backing;
use crate::store::scene::{START, Scene, hours, json, keyed, texts, used, user};

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
        // As versions with fewer rules for names stored it.
        let someone = User { id: UserId::from_stored(text), username: Username::from_stored(text) };
        assert!(store.create_member(tenant, &someone, Some(text), START).await.unwrap());
        assert_eq!(store.member(tenant, &someone.id).await.unwrap(), Some(someone.clone()));
        let channel = scene.channel(&[&someone]).await;
        let mut commit = keyed(scene.saying(channel, &someone, "x"), text, 1);
        commit.drafts[0].1.content = json(&format!("{text}\0\n"));
        scene.done(&commit).await;
        let kept = scene.history(channel).await;
        assert_eq!((texts(&kept), &kept[0].sender), (vec![format!("{text}\0\n")], &someone));
        assert!(matches!(scene.commit(&commit).await, Outcome::Duplicate(_)));
        assert!(store.spend_refresh(tenant, &used(text, text, START)).await.unwrap().is_some());
        assert!(store.tenant_by_external_id(text).await.unwrap().is_none());
    }
}

pub(crate) async fn a_refresh_token_is_spent_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    assert!(scene.spend("a1", "a", START).await.is_some());
    assert!(scene.spend("a2", "a", START).await.is_some());
    assert!(scene.spend("b1", "b", START).await.is_some());
    assert!(scene.spend("a1", "a", START.plus(REFRESH_GRACE)).await.is_none());
}

/// An answer that was lost, a page that was reloaded, two tabs.
pub(crate) async fn a_refresh_token_used_again_soon_gets_the_same_successor(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let spend = async |jti, successor, now| {
        let used = RefreshUse { successor, ..used(jti, "a", now) };
        scene.store.spend_refresh(&scene.tenant, &used).await.unwrap()
    };
    let late = START.plus(REFRESH_GRACE).minus(Duration::from_millis(1));
    let first = Successor { jti: "a2".to_owned(), at: START };
    assert_eq!(spend("a1", "a2", START).await.as_ref(), Some(&first));
    assert_eq!(spend("a1", "x", late).await.as_ref(), Some(&first));
    // Its client has the successor: whoever uses the first one now is somebody else.
    assert!(spend("a2", "a3", late).await.is_some());
    assert!(spend("a1", "x", late).await.is_none());
    assert!(spend("a3", "a4", late).await.is_none(), "the family has ended");
}

pub(crate) async fn a_reused_refresh_token_revokes_its_family(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let late = START.plus(REFRESH_GRACE);
    assert!(scene.spend("a1", "a", START).await.is_some());
    let before = scene.revision().await;
    assert!(scene.spend("a1", "a", late).await.is_none());
    assert!(scene.revision().await > before, "nodes look at their sockets");
    assert!(scene.spend("a2", "a", late).await.is_none(), "the honest token ends with the stolen one");
    assert!(scene.spend("b1", "b", late).await.is_some(), "another family is not touched");
}

pub(crate) async fn a_refresh_token_spent_by_many_at_once_is_spent_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let spending = (0..8).map(|n| {
        let scene = scene.clone();
        tokio::spawn(async move {
            let successor = format!("a2-{n}");
            let used = RefreshUse { successor: &successor, ..used("a1", "a", START) };
            scene.store.spend_refresh(&scene.tenant, &used).await.unwrap()
        })
    });
    let spent = join_all(spending.collect::<Vec<_>>()).await;
    let successors: HashSet<String> = spent.into_iter().map(|spent| spent.unwrap().expect("in time").jti).collect();
    assert_eq!(successors.len(), 1, "all get the one that was first: {successors:?}");
    assert!(scene.spend("a1", "a", START.plus(REFRESH_GRACE)).await.is_none());
    assert!(scene.spend("a2", "a", START).await.is_none());
}

/// The token that was used twice ends first; its successor, which the thief may hold, must not come back to life.
pub(crate) async fn a_revocation_outlives_the_token_that_caused_it(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let spend = async |jti, family, expires_at, now| {
        let used = RefreshUse { expires_at, ..used(jti, family, now) };
        scene.store.spend_refresh(&scene.tenant, &used).await.unwrap().is_some()
    };
    assert!(spend("a1", "a", hours(24), hours(20)).await);
    assert!(!spend("a1", "a", hours(24), hours(21)).await);
    assert!(spend("b1", "b", hours(60), hours(30)).await, "expired rows are forgotten on the way");
    assert!(!spend("a2", "a", hours(44), hours(40)).await);
}

pub(crate) async fn whoever_is_dismissed_may_not_enter_with_an_old_token(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let alice = scene.member("alice").await;
    let old = token(Some(START), "j1", Some("f1"));
    let new = token(Some(hours(2)), "j2", Some("f2"));
    assert!(scene.may_enter(&alice, &old).await && scene.may_enter(&alice, &new).await);

    let mut revision = scene.revision().await;
    let mut grew = async || {
        let before = std::mem::replace(&mut revision, scene.revision().await);
        assert!(revision > before, "nodes look at their sockets");
    };
    assert!(store.set_member_enabled(tenant, &alice.id, false, hours(1)).await.unwrap());
    assert!(!store.set_member_enabled(tenant, &alice.id, false, hours(1)).await.unwrap(), "it is");
    grew().await;
    assert!(!scene.may_enter(&alice, &old).await && !scene.may_enter(&alice, &new).await);
    assert!(store.set_member_enabled(tenant, &alice.id, true, hours(1)).await.unwrap());
    grew().await;
    assert!(!scene.may_enter(&alice, &old).await, "a token from before");
    assert!(!scene.may_enter(&alice, &token(None, "j3", None)).await, "a token of unknown age");
    assert!(scene.may_enter(&alice, &new).await);

    store.revoke_family(tenant, "f2", hours(24)).await.unwrap();
    grew().await;
    assert!(!scene.may_enter(&alice, &new).await);
    let single = token(Some(hours(2)), "j4", None);
    assert!(scene.may_enter(&alice, &single).await);
    store.revoke_token(tenant, "j4", hours(24), hours(2)).await.unwrap();
    grew().await;
    assert!(!scene.may_enter(&alice, &single).await);

    let later = token(Some(hours(3)), "j5", None);
    assert!(store.set_password(tenant, &alice.id, Some("hash"), hours(4)).await.unwrap());
    grew().await;
    assert!(!scene.may_enter(&alice, &later).await);
    assert!(!store.set_password(tenant, &"nobody".parse().unwrap(), None, hours(4)).await.unwrap());

    let latest = token(Some(hours(5)), "j6", None);
    assert!(store.set_tenant_enabled(tenant, true, hours(6)).await.unwrap());
    grew().await;
    assert!(!scene.may_enter(&alice, &latest).await, "the tenant's tokens have ended");
}

pub(crate) async fn bearers_come_in_the_order_in_which_they_were_asked_for(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let asked: Vec<Bearer> = [&bob, &user("nobody", "nobody"), &alice, &bob]
        .map(|user| Bearer { user: user.id.clone(), token: TokenId::default() })
        .into();
    let known = scene.store.bearers(&scene.tenant, &asked).await.unwrap();
    let names: Vec<Option<&str>> =
        known.iter().map(|known| known.as_ref().map(|known| known.user.username.as_str())).collect();
    assert_eq!(names, [Some("bob"), None, Some("alice"), Some("bob")]);
    assert!(scene.store.bearers(&scene.tenant, &[]).await.unwrap().is_empty());
}

pub(crate) async fn a_deleted_member_is_out_for_good_and_its_messages_stay(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice, &bob]).await;
    scene.done(&scene.saying(channel, &bob, "hello")).await;
    let left: Username = "deleted-1".parse().unwrap();
    assert!(store.delete_member(tenant, &bob.id, &left, hours(1)).await.unwrap());
    assert!(!store.delete_member(tenant, &bob.id, &left, hours(1)).await.unwrap());
    assert!(!scene.may_enter(&bob, &token(Some(hours(2)), "j", None)).await);
    assert!(!store.set_member_enabled(tenant, &bob.id, true, hours(2)).await.unwrap());
    assert!(!store.create_member(tenant, &bob, None, hours(2)).await.unwrap(), "the id stays taken");
    assert!(store.create_member(tenant, &user("b2", "bob"), None, hours(2)).await.unwrap(), "the name is free");
    assert_eq!(store.member_count(tenant, channel).await.unwrap(), 1);
    assert_eq!(scene.history(channel).await[0].sender.username, left);
}

pub(crate) async fn a_member_is_renamed_unless_the_name_is_taken(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let rename = async |to: &str, at, ends| {
        store.rename_member(tenant, &alice.id, &to.parse().unwrap(), at, ends).await.unwrap()
    };
    assert_eq!(rename("bob", hours(1), true).await, Renamed::Taken);
    let old = token(Some(START), "j", None);
    assert_eq!(rename("zoe", hours(1), false).await, Renamed::Yes);
    assert!(scene.may_enter(&alice, &old).await);
    let known = scene.known(&alice, &old).await.unwrap();
    assert_eq!((known.user.username.as_str(), known.named_at), ("zoe", hours(1)));
    assert_eq!(rename("zoe", hours(2), true).await, Renamed::Yes, "to what it is called");
    assert!(!scene.may_enter(&alice, &old).await);
    assert!(scene.may_enter(&bob, &old).await);
    let nobody = store.rename_member(tenant, &"nobody".parse().unwrap(), &"x".parse().unwrap(), hours(1), true).await;
    assert_eq!(nobody.unwrap(), Renamed::Unknown);
}

fn token(issued_at: Option<Timestamp>, jti: &str, family: Option<&str>) -> TokenId {
    TokenId { issued_at, jti: Some(jti.to_owned()), family: family.map(str::to_owned) }
}
