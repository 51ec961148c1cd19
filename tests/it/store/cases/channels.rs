//! Channels, who is in them, and how they look in a list.

use switchboard::model::{ChannelId, Epoch, MessageId, Position, Role};
use switchboard::store::{ChannelSummary, Commit, Outcome};
use uuid::Uuid;

use crate::store::backing::Backing;
use crate::store::scene::{START, Scene, draft, user};

pub(crate) async fn a_channel_needs_members_of_the_tenant(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let (alice, stranger) = (scene.member("alice").await, user("9", "stranger"));
    let id = ChannelId(scene.clock.uuid());
    assert!(!store.create_channel(tenant, &scene.new_channel(id, &[&alice, &stranger])).await.unwrap());
    assert_eq!(store.channel(tenant, id).await.unwrap(), None);
    assert_eq!(store.member_count(tenant, id).await.unwrap(), 0);
    assert!(store.members_among(tenant, &[(id, alice.id.clone())]).await.unwrap().is_empty());

    assert!(store.create_channel(tenant, &scene.new_channel(id, &[&alice, &alice])).await.unwrap());
    let made = store.channel(tenant, id).await.unwrap().unwrap();
    assert_eq!((made.id, made.name.as_str(), made.epoch.as_str()), (id, "lobby", "e1"));
    assert_eq!((made.seq, made.created_at), (0, START));
    assert_eq!(store.role(tenant, id, &alice.id).await.unwrap(), Some(Role::Owner), "the first of two roles stays");
    assert!(store.create_channel(tenant, &scene.new_channel(ChannelId(scene.clock.uuid()), &[])).await.unwrap());
}

pub(crate) async fn positions_of_many_channels_come_at_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let alice = scene.member("alice").await;
    let mut channels = Vec::new();
    for said in 0..3 {
        let channel = scene.channel(&[&alice]).await;
        for number in 0..said {
            scene.say(channel, &alice, &number.to_string()).await;
        }
        channels.push(channel);
    }
    let missing = ChannelId(scene.clock.uuid());
    let asked = [channels[2], missing, channels[0], channels[1]];
    let mut found = store.positions(tenant, &asked).await.unwrap();
    found.sort_by_key(|position| position.seq);
    let epoch: Epoch = "e1".parse().unwrap();
    let expected = (0..).zip(&channels).map(|(seq, channel)| Position { channel: *channel, epoch: epoch.clone(), seq });
    assert_eq!(found, expected.collect::<Vec<_>>());
    assert!(store.positions(tenant, &[missing]).await.unwrap().is_empty());
    assert!(store.positions(tenant, &[]).await.unwrap().is_empty());
}

pub(crate) async fn adding_and_removing_members(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice]).await;
    let add = |channel, id, role| store.add_channel_member(tenant, channel, id, role, START);
    let nobody = "nobody".parse().unwrap();

    assert!(add(channel, &bob.id, Role::Member).await.unwrap());
    assert!(add(channel, &alice.id, Role::Member).await.unwrap());
    assert_eq!(store.role(tenant, channel, &alice.id).await.unwrap(), Some(Role::Owner), "keeps the role");
    assert_eq!(store.role(tenant, channel, &bob.id).await.unwrap(), Some(Role::Member));
    assert_eq!(store.member_count(tenant, channel).await.unwrap(), 2);
    assert!(!add(channel, &nobody, Role::Member).await.unwrap());
    assert!(!add(ChannelId(scene.clock.uuid()), &bob.id, Role::Member).await.unwrap());

    let other = scene.channel(&[&alice]).await;
    let asked = [(channel, &bob.id), (other, &alice.id), (channel, &nobody), (channel, &alice.id), (other, &bob.id)];
    let asked = asked.map(|(channel, user)| (channel, user.clone()));
    let among = async || {
        let mut found = store.members_among(tenant, &asked).await.unwrap();
        found.sort();
        found
    };
    let mut expected = vec![asked[0].clone(), asked[1].clone(), asked[3].clone()];
    expected.sort();
    assert_eq!(among().await, expected);
    assert!(store.members_among(tenant, &[]).await.unwrap().is_empty());

    let said = scene.saying(channel, &bob, "hi");
    assert!(matches!(scene.commit(&said).await, Outcome::Done(_)));
    assert!(store.remove_channel_member(tenant, channel, &bob.id).await.unwrap());
    let late = scene.saying(channel, &bob, "still here?");
    assert!(matches!(scene.commit(&late).await, Outcome::UnknownChannel), "no longer in it");
    assert_eq!(store.channel(tenant, channel).await.unwrap().unwrap().seq, 1);
    expected.retain(|seat| *seat != asked[0]);
    assert_eq!(among().await, expected);
    assert!(!store.remove_channel_member(tenant, channel, &bob.id).await.unwrap());
    assert_eq!(store.role(tenant, channel, &bob.id).await.unwrap(), None);
    assert_eq!(store.member_count(tenant, channel).await.unwrap(), 1);
    assert!(store.channel_summaries(tenant, &bob.id, None, 10).await.unwrap().is_empty());
}

pub(crate) async fn members_come_in_pages(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let mut users = Vec::new();
    // Byte order: capitals before small letters, and letters beyond ASCII after them.
    for name in ["b", "é", "B", "a", "10", "9"] {
        users.push(scene.member(name).await);
    }
    let channel = scene.channel(&users.iter().collect::<Vec<_>>()).await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = scene.store.channel_members(&scene.tenant, channel, after.as_ref(), 4).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        after = Some(last.user.id.clone());
        seen.extend(page);
    }
    let names: Vec<_> = seen.iter().map(|member| member.user.username.as_str()).collect();
    assert_eq!(names, ["10", "9", "B", "a", "b", "é"]);
    let owner = seen.iter().find(|member| member.role == Role::Owner).unwrap();
    assert_eq!((owner.user.id.as_str(), owner.joined_at), ("b", START));
}

pub(crate) async fn a_summary_is_for_members_only(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (store, tenant) = (&scene.store, &scene.tenant);
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice]).await;
    assert!(store.channel_summary(tenant, channel, &bob.id).await.unwrap().is_none());
    assert!(store.channel_summary(tenant, ChannelId(scene.clock.uuid()), &alice.id).await.unwrap().is_none());
    let summary = store.channel_summary(tenant, channel, &alice.id).await.unwrap().unwrap();
    assert_eq!((summary.channel.id, summary.role, summary.member_count), (channel, Role::Owner, 1));
    assert_eq!((summary.unread, summary.last_message.is_none()), (0, true));
}

pub(crate) async fn summaries_come_in_pages(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let mut channels = Vec::new();
    for place in 0..5 {
        let id = ChannelId(Uuid::from_u128(1_000 - place));
        let made = scene.new_channel(id, &[&alice, &bob]);
        assert!(scene.store.create_channel(&scene.tenant, &made).await.unwrap());
        channels.push(id);
    }
    scene.channel(&[&bob]).await;
    let said = scene.say(channels[2], &bob, "hi").await;
    channels.sort_unstable();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = scene.store.channel_summaries(&scene.tenant, &alice.id, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(last.channel.id);
        seen.extend(page);
    }
    assert_eq!(seen.iter().map(|summary| summary.channel.id).collect::<Vec<_>>(), channels);
    let last: Vec<_> = seen.iter().filter_map(|summary| summary.last_message.as_ref()).collect();
    assert_eq!(last.len(), 1);
    assert_eq!((last[0].id, &last[0].sender, last[0].seq), (said.id, &bob, 1));
}

pub(crate) async fn unread_counts_what_others_said_after_the_mark(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice, &bob]).await;
    let unread = async |user: &switchboard::model::User| {
        scene.store.channel_summary(&scene.tenant, channel, &user.id).await.unwrap().unwrap().unread
    };
    let first = scene.say(channel, &bob, "1").await;
    scene.say(channel, &alice, "2").await;
    scene.say(channel, &bob, "3").await;
    assert_eq!((unread(&alice).await, unread(&bob).await), (2, 1));
    scene.read(channel, &alice, first.id).await;
    assert_eq!(unread(&alice).await, 1);
    let newest = scene.say(channel, &bob, "4").await;
    assert_eq!(unread(&alice).await, 2);
    scene.read(channel, &alice, newest.id).await;
    assert_eq!((unread(&alice).await, unread(&bob).await), (0, 1));
}

pub(crate) async fn unread_is_counted_up_to_a_bound(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice, &bob]).await;
    let count = ChannelSummary::MAX_UNREAD + 7;
    let drafts = (0..count).map(|place| (MessageId(scene.clock.uuid()), draft(&place.to_string()))).collect();
    scene.done(&Commit { drafts, ..scene.nothing(channel, &bob) }).await;
    let summary = scene.store.channel_summary(&scene.tenant, channel, &alice.id).await.unwrap().unwrap();
    assert_eq!((summary.unread, summary.last_message.unwrap().seq), (ChannelSummary::MAX_UNREAD, count));
}
