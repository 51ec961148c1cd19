//! Nothing of one tenant is visible to another, and what is another's answers as what is not there.

use serde_json::{Value, json};
use switchboard_tests::tokens::Claims;
use switchboard_tests::{App, Channel, Member, Tenant, list};

/// A tenant whose names and ids are the same as the other's: only the tenant differs.
struct Twin {
    tenant: Tenant,
    alice: Member,
    bob: Member,
    lobby: Channel,
}

impl Twin {
    async fn create(app: &App, name: &str) -> Self {
        let tenant = app.tenant(name).await;
        let alice = Self::member(app, &tenant, 1, "alice").await;
        let bob = Self::member(app, &tenant, 2, "bob").await;
        let lobby = tenant.channel("lobby", &[&alice, &bob]).await;
        Self { tenant, alice, bob, lobby }
    }

    async fn member(app: &App, tenant: &Tenant, id: u64, username: &str) -> Member {
        let token = Claims::access(&tenant.slug, id).with("username", username).sign();
        let member = Member::external(app.door(), username, &id.to_string(), token);
        let (status, me) = member.get("/api/me/").await;
        assert_eq!(status, 200, "{me}");
        member
    }
}

async fn twins(app: &App) -> (Twin, Twin) {
    (Twin::create(app, "acme").await, Twin::create(app, "apex").await)
}

#[tokio::test]
async fn sockets_hear_their_own_tenant_only_embedded() {
    sockets_hear_their_own_tenant_only(App::embedded().await).await;
}

#[tokio::test]
async fn sockets_hear_their_own_tenant_only_on_postgres() {
    sockets_hear_their_own_tenant_only(App::postgres().await).await;
}

async fn sockets_hear_their_own_tenant_only(app: App) {
    let (acme, apex) = twins(&app).await;
    let mut theirs = apex.bob.join(&apex.lobby).await;
    let mut ours = acme.bob.join(&acme.lobby).await;
    theirs.forget().await;
    ours.forget().await;

    // The same member id, the same frame id, the same channel name: in the other tenant all of it is someone else's.
    let mut a = acme.alice.join(&acme.lobby).await;
    let frame = json!({"type": "chat.message", "id": "c1", "message": "ours"});
    let ack = a.acked(frame.clone()).await;
    a.acked(json!({"type": "typing", "is_typing": true})).await;
    a.acked(json!({"type": "message.read", "message_id": ack["message_id"]})).await;
    ours.next_of("typing").await;
    assert_eq!(ours.next_of("chat.message").await["message"]["content"], "ours");
    a.leave().await;
    ours.next_of("user.leave").await;
    theirs.expect_none("a frame of another tenant", |_| true).await;

    let first = apex.alice.join(&apex.lobby).await.acked(frame).await;
    assert_eq!((&first["seq"], &first["duplicate"]), (&json!(1), &json!(false)), "ids and numbers are the tenant's");
    let error = theirs.refused(json!({"type": "message.read", "message_id": ack["message_id"]})).await;
    assert_eq!(error["code"], 107, "a message of another tenant is no message: {error}");
}

#[tokio::test]
async fn lists_and_presence_name_their_own_tenant_only() {
    let app = App::embedded().await;
    let (acme, apex) = twins(&app).await;
    let _here = acme.alice.join(&acme.lobby).await;
    acme.alice.post(&acme.lobby.path("messages/"), json!({"message": "ours"})).await;

    let (_, channels) = apex.alice.get("/api/channels/").await;
    let ids: Vec<&Value> = list(&channels, "results").iter().map(|channel| &channel["id"]).collect();
    assert_eq!(ids, [&json!(apex.lobby.id)]);
    let (_, present) = apex.alice.get(&apex.lobby.path("presence/")).await;
    assert_eq!(present["results"], json!([]));
    let (_, messages) = apex.alice.get(&apex.lobby.path("messages/")).await;
    assert_eq!(messages["results"], json!([]));
    let (_, me) = apex.alice.get("/api/me/").await;
    let me = me.to_string();
    assert!(me.contains(&apex.tenant.slug) && !me.contains(&acme.tenant.slug), "{me}");
}

#[tokio::test]
async fn over_http_a_foreign_channel_answers_as_a_missing_one() {
    let app = App::embedded().await;
    let (acme, apex) = twins(&app).await;
    let private = acme.tenant.channel("private", &[&acme.bob]).await;
    let missing = Channel::missing();
    let others = [("another tenant's", &apex.lobby), ("one without her", &private)];

    for rest in ["", "members/", "messages/", "presence/"] {
        let expected = acme.alice.get(&missing.path(rest)).await;
        assert_eq!(expected.0, 404, "GET {rest}: {expected:?}");
        for (what, channel) in others {
            assert_eq!(acme.alice.get(&channel.path(rest)).await, expected, "GET {rest} of {what}");
        }
    }
    for (rest, body) in [
        ("messages/", json!({"message": "knock knock"})),
        ("members/", json!({"user_id": acme.alice.id})),
        ("read/", json!({"message_id": missing.id})),
    ] {
        let expected = acme.alice.post(&missing.path(rest), body.clone()).await;
        assert_eq!(expected.0, 404, "POST {rest}: {expected:?}");
        for (what, channel) in others {
            assert_eq!(acme.alice.post(&channel.path(rest), body.clone()).await, expected, "POST {rest} of {what}");
        }
    }
    for rest in ["members/2/"] {
        let expected = acme.alice.delete(&missing.path(rest)).await;
        assert_eq!(expected.0, 404, "DELETE {rest}: {expected:?}");
        for (what, channel) in others {
            assert_eq!(acme.alice.delete(&channel.path(rest)).await, expected, "DELETE {rest} of {what}");
        }
    }
    assert_eq!(apex.alice.get(&apex.lobby.path("messages/")).await.1["results"], json!([]));
}

#[tokio::test]
async fn over_a_socket_a_foreign_channel_answers_as_a_missing_one() {
    let app = App::embedded().await;
    let (acme, apex) = twins(&app).await;
    let private = acme.tenant.channel("private", &[&acme.bob]).await;
    let missing = Channel::missing();
    let others = [("another tenant's", &apex.lobby), ("one without her", &private)];

    let expected = acme.alice.knock(&missing).await.until_closed().await;
    let codes: Vec<&Value> = expected.0.iter().map(|frame| &frame["code"]).collect();
    assert_eq!((codes, expected.1.code), (vec![&json!(102)], 4003), "{expected:?}");
    for (what, channel) in others {
        assert_eq!(acme.alice.knock(channel).await.until_closed().await, expected, "a socket for {what}");
    }

    let mut a = acme.alice.connect().await;
    for kind in ["subscribe", "unsubscribe", "chat.message", "typing", "message.read"] {
        let frame = |channel: &Channel| {
            json!({"type": kind, "id": "same", "channel": channel.id, "message": "x", "is_typing": true,
                   "message_id": missing.id})
        };
        let expected = a.refused(frame(&missing)).await;
        assert_eq!(expected["code"], 102, "{kind}: {expected}");
        for (what, channel) in others {
            assert_eq!(a.refused(frame(channel)).await, expected, "{kind} for {what}");
        }
    }
}

#[tokio::test]
async fn a_log_in_tells_nothing_of_other_tenants() {
    let app = App::embedded().await;
    let (acme, apex) = (app.tenant("acme").await, app.tenant("apex").await);
    acme.member_with_password("alice", "correct horse battery staple").await;
    apex.member_with_password("alice", "another password entirely").await;
    let door = app.door();
    assert_eq!(door.log_in(&acme.slug, "alice", "correct horse battery staple").await.0, 200);
    let wrong = door.log_in(&apex.slug, "alice", "correct horse battery staple").await;
    assert_eq!(wrong.0, 401, "a password is good in its own tenant only: {wrong:?}");
    assert_eq!(door.log_in("nowhere", "alice", "correct horse battery staple").await, wrong);
}

#[tokio::test]
async fn a_disabled_tenant_refuses_and_the_other_does_not_notice() {
    let app = App::embedded().await;
    let (acme, apex) = twins(&app).await;
    let mut theirs = apex.alice.join(&apex.lobby).await;
    acme.tenant.disable().await;
    assert_eq!(acme.alice.knock(&acme.lobby).await.expect_close().await.code, 4000);
    assert_eq!(acme.alice.get("/api/me/").await.0, 401);
    theirs.say("all is well").await;
}
