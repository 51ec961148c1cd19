//! The five built-in message types on both kinds of sockets.

use serde_json::json;
use switchboard_tests::{App, list, number, text};

#[tokio::test]
async fn a_message_reaches_everyone_and_is_acked_to_its_sender() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);

    let ack = a.acked(json!({"type": "chat.message", "id": "c1", "message": "hi"})).await;
    assert_eq!((&ack["id"], &ack["channel"], &ack["seq"]), (&json!("c1"), &json!(lobby.id), &json!(1)));
    assert_eq!(ack["duplicate"], false);
    assert_eq!(ack["epoch"], a.greeting["epoch"], "an ack counts in the numbering that the socket joined in");

    let heard = b.next_of("chat.message").await;
    assert_eq!((&heard["channel"], &heard["seq"]), (&json!(lobby.id), &json!(1)));
    let message = &heard["message"];
    assert_eq!(message["id"], ack["message_id"]);
    assert_eq!(message["created_at"], ack["created_at"]);
    assert_eq!(message["sender"], alice.as_json());
    assert_eq!((&message["content"], &message["kind"]), (&json!("hi"), &json!("chat.message")));
    assert!(heard.get("client_id").is_none(), "the sender's own id is the sender's: {heard}");

    let mut echo = a.next_of("chat.message").await;
    assert_eq!(echo.as_object_mut().and_then(|echo| echo.remove("client_id")), Some(json!("c1")));
    assert_eq!(echo, heard, "the echo differs from what others hear by the client's id alone");
}

#[tokio::test]
async fn a_message_may_answer_another_and_carry_attachments() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut a = alice.join(&lobby).await;

    let first = a.say("who has the plan?").await;
    let attachments = json!([{"name": "plan.pdf", "url": "https://files.example/plan.pdf"}]);
    let answer = json!({"content": "here", "reply_to": first["message_id"], "attachments": attachments});
    a.acked(json!({"type": "chat.message", "message": answer})).await;

    let heard = a.next_where("the answer", |frame| frame["seq"] == 2 && frame["type"] == "chat.message").await;
    assert_eq!(heard["message"]["content"], "here");
    assert_eq!(heard["message"]["reply_to"], first["message_id"]);
    assert_eq!(heard["message"]["attachments"], attachments);
}

#[tokio::test]
async fn an_answer_to_a_message_of_another_channel_is_refused() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let (lobby, attic) = (acme.channel("lobby", &[&alice]).await, acme.channel("attic", &[&alice]).await);
    let elsewhere = alice.join(&attic).await.say("up here").await;
    let mut a = alice.join(&lobby).await;

    let answer = json!({"content": "what?", "reply_to": elsewhere["message_id"]});
    let error = a.refused(json!({"type": "chat.message", "message": answer})).await;
    assert_eq!(error["code"], 107, "{error}");
    let next = a.say("hello?").await;
    assert_eq!(next["seq"], 1, "a refused message leaves no hole");
}

#[tokio::test]
async fn typing_reaches_the_others_and_not_the_one_who_types() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    let mut second = alice.join(&lobby).await;

    for is_typing in [true, false] {
        let ack = a.acked(json!({"type": "typing", "is_typing": is_typing})).await;
        assert!(ack.get("message_id").is_none(), "typing is not stored: {ack}");
        let seen = b.next_of("typing").await;
        assert_eq!(seen["user"], alice.as_json());
        assert_eq!(seen["is_typing"], is_typing);
    }
    a.expect_silence("typing").await;
    second.expect_silence("typing").await;

    let ack = a.say("done").await;
    assert_eq!(ack["seq"], 1, "typing takes no place in the channel");
}

#[tokio::test]
async fn a_read_mark_is_told_once_and_shows_in_history() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    let first = a.say("one").await;
    let second = a.say("two").await;

    b.acked(json!({"type": "message.read", "message_id": second["message_id"]})).await;
    let read = a.next_of("message.read").await;
    assert_eq!(read["user"], bob.as_json());
    assert_eq!(read["message_id"], second["message_id"]);
    assert_eq!(read["channel"], lobby.id.as_str());
    assert!(!text(&read, "read_at").is_empty());

    // A mark that does not move forward changes nothing, so nobody is told.
    b.acked(json!({"type": "message.read", "message_id": first["message_id"]})).await;
    a.say("three").await;
    a.expect_silence("message.read").await;

    let (status, page) = alice.get(&lobby.path("messages/")).await;
    assert_eq!(status, 200, "{page}");
    let readers: Vec<_> = list(&page, "results").iter().map(|message| message["read_by"].clone()).collect();
    assert_eq!(readers, [json!([bob.id]), json!([bob.id]), json!([])], "up to and including the message");
}

#[tokio::test]
async fn a_read_mark_needs_a_message_of_the_channel() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut a = alice.join(&lobby).await;
    for message_id in [json!(lobby.id), json!("no id"), json!(7), json!(null)] {
        let error = a.refused(json!({"type": "message.read", "message_id": message_id})).await;
        assert_eq!(error["code"], 107, "{message_id}: {error}");
    }
}

#[tokio::test]
async fn joining_and_leaving_are_told_to_the_others() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut a = alice.join(&lobby).await;

    let b = bob.join(&lobby).await;
    let joined = a.next_where("bob joins", |f| f["type"] == "user.join" && f["user"] == bob.as_json()).await;
    assert_eq!(joined["channel"], lobby.id.as_str());

    // A second window of the same member is no news, and neither is closing one of the two.
    let second = bob.join(&lobby).await;
    b.leave().await;
    a.say("still there?").await;
    a.expect_silence("user.leave").await;
    a.expect_none("a second join", |f| f["type"] == "user.join" && f["user"] == bob.as_json()).await;

    second.leave().await;
    let left = a.next_of("user.leave").await;
    assert_eq!((&left["user"], &left["channel"]), (&bob.as_json(), &json!(lobby.id)));
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_leave_too() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut a = alice.join(&lobby).await;
    drop(bob.join(&lobby).await);
    assert_eq!(a.next_of("user.leave").await["user"], bob.as_json());
}

#[tokio::test]
async fn a_newcomer_is_told_the_state_of_the_channel() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut a = alice.join(&lobby).await;
    assert_eq!(a.greeting["seq"], 0);
    assert_eq!(list(&a.greeting, "messages").len(), 0);
    for n in 1..=60 {
        a.say(&format!("message {n}")).await;
    }

    let state = bob.join(&lobby).await.greeting;
    assert_eq!(state["channel"]["id"], lobby.id.as_str());
    assert_eq!(state["channel"]["name"], "lobby");
    assert_eq!(number(&state, "seq"), 60);
    let seqs: Vec<u64> = list(&state, "messages").iter().map(|message| number(message, "seq")).collect();
    assert_eq!(seqs, (11..=60).collect::<Vec<_>>(), "the last 50, oldest first");
    let mut members: Vec<&str> = list(&state, "members").iter().map(|member| text(member, "username")).collect();
    members.sort_unstable();
    assert_eq!(members, ["alice", "bob"]);
}

#[tokio::test]
async fn what_is_said_on_one_kind_of_socket_is_heard_on_the_other() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut one = alice.join(&lobby).await;
    let mut many = bob.connect().await;
    let subscribed = many.subscribe(&lobby).await;
    assert_eq!(subscribed["epoch"], one.greeting["epoch"]);

    one.say("from one").await;
    assert_eq!(many.next_of("chat.message").await["message"]["content"], "from one");
    one.next_of("chat.message").await;
    many.say_in(&lobby, "from many").await;
    assert_eq!(one.next_of("chat.message").await["message"]["content"], "from many");
}
