//! Changes of messages that are there: they keep their place, and what was taken out is gone.

use futures_util::future::join_all;
use switchboard::model::{ChannelId, MessageId, User};
use switchboard::store::{Commit, Outcome};

use crate::store::backing::Backing;
use crate::store::scene::{Scene, amending, done, duplicate, hours, keyed, plugin, put, texts};

/// A commit that changes a message, and nothing else.
fn change(scene: &Scene, channel: ChannelId, sender: &User, message: MessageId, text: Option<&str>) -> Commit {
    Commit { amendments: vec![amending(message, text)], ..scene.nothing(channel, sender) }
}

pub(crate) async fn an_edited_message_keeps_its_place(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice, &bob]).await;
    let first = scene.say(channel, &alice, "frist").await;
    scene.say(channel, &bob, "second").await;
    scene.read(channel, &bob, first.id).await;
    // A message beside it is how those who were away learn of it.
    let edit = Commit {
        amendments: vec![amending(first.id, Some("lost")), amending(first.id, Some("first"))],
        at: hours(1),
        ..scene.saying(channel, &bob, "edited")
    };
    let edited = scene.done(&edit).await;
    assert_eq!((edited.receipt.seq, edited.messages.len()), (3, 1), "the change itself takes no number");
    let kept = scene.history(channel).await;
    assert_eq!(texts(&kept), ["first", "second", "edited"]);
    let message = &kept[0];
    assert_eq!((message.id, message.seq, &message.sender, message.created_at), (first.id, 1, &alice, first.created_at));
    assert_eq!((message.edited_at, message.deleted_at), (Some(hours(1)), None));
    assert_eq!((message.read_by.as_slice(), message.attachments.get()), ([bob.id.clone()].as_slice(), "[]"));
    assert_eq!((kept[1].edited_at, kept[2].edited_at), (None, None));
    scene.done(&Commit { at: hours(2), ..change(&scene, channel, &alice, first.id, Some("once more")) }).await;
    let again = scene.store.message(&scene.tenant, channel, first.id).await.unwrap().unwrap();
    assert_eq!((texts(std::slice::from_ref(&again)), again.edited_at), (vec!["once more".to_owned()], Some(hours(2))));
}

pub(crate) async fn a_deleted_message_loses_its_content_for_good(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let mut secret = scene.saying(channel, &alice, "secret");
    secret.drafts[0].1.attachments = serde_json::value::RawValue::from_string(r#"[{"url":"x"}]"#.into()).unwrap();
    let secret = scene.done(&secret).await.messages.remove(0);
    scene.done(&Commit { at: hours(1), ..change(&scene, channel, &alice, secret.id, Some("edited")) }).await;
    scene.done(&Commit { at: hours(2), ..change(&scene, channel, &alice, secret.id, None) }).await;
    for text in [None, Some("back again")] {
        let refused = scene.commit(&Commit { at: hours(3), ..change(&scene, channel, &alice, secret.id, text) }).await;
        assert!(matches!(refused, Outcome::UnknownMessage), "{refused:?}");
    }
    let kept = scene.history(channel).await.remove(0);
    assert_eq!((kept.content.get(), kept.attachments.get()), ("null", "[]"));
    assert_eq!((kept.seq, kept.edited_at, kept.deleted_at), (1, Some(hours(1)), Some(hours(2))));
    // Its place can still be read up to and answered.
    scene.read(channel, &alice, secret.id).await;
    let mut answer = scene.saying(channel, &alice, "answer");
    answer.drafts[0].1.reply_to = Some(secret.id);
    assert_eq!(scene.done(&answer).await.receipt.seq, 2);
}

pub(crate) async fn a_message_that_is_not_in_the_channel_is_not_changed(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let (here, there) = (scene.channel(&[&alice]).await, scene.channel(&[&alice, &bob]).await);
    let (near, far) = (scene.say(here, &alice, "near").await, scene.say(there, &alice, "far").await);
    let said = scene.saying(here, &alice, "x");
    let own = said.drafts[0].0;
    for unknown in [far.id, MessageId(scene.clock.uuid()), own] {
        let commit = Commit {
            amendments: vec![amending(near.id, Some("changed")), amending(unknown, Some("changed"))],
            kv: Some((plugin("edit"), vec![put("edits", "1")])),
            ..keyed(said.clone(), "k", 1)
        };
        assert!(matches!(scene.commit(&commit).await, Outcome::UnknownMessage));
    }
    let stranger = scene.commit(&change(&scene, here, &bob, near.id, None)).await;
    assert!(matches!(stranger, Outcome::UnknownChannel), "{stranger:?}");
    let twice = Commit {
        amendments: vec![amending(near.id, None), amending(near.id, Some("back again"))],
        ..scene.nothing(here, &alice)
    };
    assert!(matches!(scene.commit(&twice).await, Outcome::UnknownMessage));
    let kept = [scene.history(here).await, scene.history(there).await].concat();
    assert_eq!(texts(&kept), ["near", "far"]);
    assert!(kept.iter().all(|message| message.edited_at.is_none() && message.deleted_at.is_none()));
    assert_eq!(scene.store.kv_get(&scene.tenant, &plugin("edit"), "edits", hours(0)).await.unwrap(), None);
    assert_eq!(scene.done(&keyed(said, "k", 1)).await.receipt.seq, 2);
}

pub(crate) async fn a_batch_changes_messages_in_its_order(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice, &bob]).await;
    let (one, two) = (scene.say(channel, &alice, "one").await, scene.say(channel, &alice, "two").await);
    let mut refused = change(&scene, channel, &alice, two.id, None);
    refused.reads = vec![switchboard::model::ReadUpTo {
        kind: "message.read".parse().unwrap(),
        message: MessageId(scene.clock.uuid()),
    }];
    let at = |hour, commit| Commit { at: hours(hour), ..commit };
    let batch = [
        refused,
        at(1, change(&scene, channel, &alice, one.id, Some("edited"))),
        at(2, change(&scene, channel, &bob, two.id, Some("b"))),
        at(3, change(&scene, channel, &alice, one.id, None)),
        at(4, change(&scene, channel, &bob, one.id, Some("back again"))),
        at(5, change(&scene, channel, &alice, two.id, Some("a"))),
        scene.saying(channel, &bob, "three"),
    ];
    let told: Vec<_> = scene.batch(&batch).await.iter().map(|outcome| matches!(outcome, Outcome::Done(_))).collect();
    assert_eq!(told, [false, true, true, true, false, true, true]);
    let kept = scene.history(channel).await;
    assert_eq!(
        (kept[0].content.get(), kept[0].edited_at, kept[0].deleted_at),
        ("null", Some(hours(1)), Some(hours(3)))
    );
    assert_eq!(texts(&kept[1..]), ["a", "three"]);
    assert_eq!((kept[1].edited_at, kept[1].deleted_at), (Some(hours(5)), None));
}

pub(crate) async fn a_change_under_a_key_is_made_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let first = scene.say(channel, &alice, "one").await;
    let delete = keyed(change(&scene, channel, &alice, first.id, None), "k", 1);
    let receipt = scene.done(&delete).await.receipt;
    assert_eq!((receipt.message, receipt.seq), (None, 1));
    assert_eq!(duplicate(scene.commit(&delete).await), receipt, "though the message is gone");
    let edit = keyed(change(&scene, channel, &alice, first.id, Some("x")), "k", 2);
    assert!(matches!(scene.commit(&edit).await, Outcome::IdConflict));
}

/// On two stores, as two nodes do it.
pub(crate) async fn of_those_who_delete_a_message_at_once_one_does(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let nodes = [scene.clone(), Scene { store: backing.open().await, ..scene.clone() }];
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    for round in 0..10 {
        let message = scene.say(channel, &alice, "x").await.id;
        let deleting = (0..4).map(|place| {
            let scene = nodes[place % 2].clone();
            let gone = scene.saying(channel, &alice, &format!("{round} is gone"));
            let delete = Commit { amendments: vec![amending(message, None)], ..gone };
            tokio::spawn(async move { scene.commit(&delete).await })
        });
        let outcomes = join_all(deleting.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        let (won, lost): (Vec<_>, Vec<_>) =
            outcomes.into_iter().partition(|outcome| matches!(outcome, Outcome::Done(_)));
        assert!(lost.iter().all(|outcome| matches!(outcome, Outcome::UnknownMessage)), "{lost:?}");
        assert_eq!(won.len(), 1);
        assert_eq!(done(won[0].clone()).receipt.seq, 2 * round + 2);
    }
}
