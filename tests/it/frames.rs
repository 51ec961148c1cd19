//! The exact form of each frame: which names it has, no more and no less.
//!
//! Clients are written against these names. A test that fails here is a change of the protocol.

use serde_json::{Value, json};
use switchboard_tests::{App, keys, list};

const MESSAGE: [&str; 12] = [
    "attachments",
    "channel",
    "content",
    "created_at",
    "deleted_at",
    "edited_at",
    "id",
    "kind",
    "read_by",
    "reply_to",
    "sender",
    "seq",
];

fn assert_user(value: &Value) {
    assert_eq!(keys(value), ["id", "username"]);
}

#[tokio::test]
async fn every_frame_has_the_documented_names() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut a = alice.join(&lobby).await;
    let mut b = bob.connect().await;
    assert_eq!(keys(&b.greeting), ["max_bytes", "ping", "session", "ttl", "type", "user"]);
    assert_user(&b.greeting["user"]);

    let subscribed = b.subscribe(&lobby).await;
    assert_eq!(keys(&subscribed), ["channel", "epoch", "recovered", "seq", "type"]);

    let joined = a.next_where("bob joins", |f| f["type"] == "user.join" && f["user"] == bob.as_json()).await;
    assert_eq!(keys(&joined), ["channel", "type", "user"]);
    assert_user(&joined["user"]);

    let ack = a.acked(json!({"type": "chat.message", "id": "c1", "message": "hi"})).await;
    assert_eq!(keys(&ack), ["channel", "created_at", "duplicate", "epoch", "id", "message_id", "seq", "type"]);
    let heard = b.next_of("chat.message").await;
    assert_eq!(keys(&heard), ["channel", "message", "seq", "type"]);
    assert_eq!(keys(&heard["message"]), MESSAGE);
    assert_user(&heard["message"]["sender"]);
    let echo = a.next_of("chat.message").await;
    assert_eq!(keys(&echo), ["channel", "client_id", "message", "seq", "type"]);

    b.send_json(json!({"type": "typing", "channel": lobby.id, "is_typing": true})).await;
    let typing = a.next_of("typing").await;
    assert_eq!(keys(&typing), ["channel", "is_typing", "type", "user"]);
    assert_user(&typing["user"]);

    b.send_json(json!({"type": "message.read", "channel": lobby.id, "message_id": ack["message_id"]})).await;
    let read = a.next_of("message.read").await;
    assert_eq!(keys(&read), ["channel", "message_id", "read_at", "seq", "type", "user"]);
    assert_user(&read["user"]);

    b.send_json(json!({"type": "unsubscribe", "channel": lobby.id})).await;
    let left = a.next_of("user.leave").await;
    assert_eq!(keys(&left), ["channel", "type", "user"]);

    let error = a.refused(json!({"type": "no.such.type", "id": "e1"})).await;
    assert_eq!(keys(&error), ["code", "id", "message", "name", "retryable", "type"]);
    a.send_text("nonsense").await;
    let error = a.next_of("error").await;
    assert_eq!(keys(&error), ["code", "message", "name", "retryable", "type"], "no id to answer");

    let state = alice.join(&lobby).await.greeting;
    assert_eq!(keys(&state), ["channel", "epoch", "members", "messages", "seq", "type"]);
    assert_eq!(keys(&list(&state, "messages")[0]), MESSAGE);
}

#[tokio::test]
async fn a_message_is_the_same_in_frames_in_the_state_and_over_http() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut b = bob.join(&lobby).await;
    alice.join(&lobby).await.say("one and the same").await;
    let framed = b.next_of("chat.message").await["message"].take();
    let stated = alice.join(&lobby).await.greeting["messages"][0].take();
    let (_, mut page) = alice.get(&lobby.path("messages/")).await;
    assert_eq!(framed, stated);
    assert_eq!(framed, page["results"][0].take());
}
