//! An ack means stored, and an id means once.

use serde_json::json;
use switchboard_tests::{App, Member, Signal, list};

#[tokio::test]
async fn what_was_acked_survives_a_kill_embedded() {
    what_was_acked_survives_a_kill(App::embedded().await).await;
}

#[tokio::test]
async fn what_was_acked_survives_a_kill_on_postgres() {
    what_was_acked_survives_a_kill(App::postgres().await).await;
}

async fn what_was_acked_survives_a_kill(app: App) {
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut a = alice.join(&lobby).await;
    let mut acked = Vec::new();
    for n in 0..20 {
        acked.push(a.say(&format!("message {n}")).await["message_id"].clone());
    }
    let epoch = a.greeting["epoch"].clone();

    let app = app.crash().await;
    let (alice, bob): (Member, Member) = (alice.at(app.door()), bob.at(app.door()));
    let state = bob.join(&lobby).await.greeting;
    let kept: Vec<_> = list(&state, "messages").iter().map(|message| message["id"].clone()).collect();
    assert_eq!(kept, acked);
    assert_eq!(state["epoch"], epoch, "the numbering goes on");
    assert_eq!(alice.join(&lobby).await.say("and on it goes").await["seq"], 21);
    assert_eq!(app.stop(Signal::Terminate).await.code(), Some(0));
}

#[tokio::test]
async fn a_tenants_file_that_is_emptied_stops_that_tenant_and_no_other() {
    let app = App::embedded().await;
    let (acme, apex) = (app.tenant("acme").await, app.tenant("apex").await);
    let (alice, bob) = (acme.member("alice").await, apex.member("bob").await);
    let (lobby, attic) = (acme.channel("lobby", &[&alice]).await, apex.channel("attic", &[&bob]).await);
    alice.join(&lobby).await.say("before").await;
    bob.join(&attic).await.say("before").await;
    let files = app.settings().data().join("tenants");
    let app = app
        .crash_and(|| {
            let file = files.join(format!("{}.db", acme.slug));
            std::fs::write(&file, b"").unwrap();
            std::fs::remove_file(files.join(format!("{}.db-wal", acme.slug))).unwrap();
        })
        .await;
    let (alice, bob) = (alice.at(app.door()), bob.at(app.door()));
    let (status, answer) = alice.get("/api/me/").await;
    assert_eq!((status, &answer["error"]["code"]), (500, &serde_json::json!("internal")), "{answer}");
    assert!(!answer.to_string().contains(&acme.slug), "which file that is, is the operator's affair: {answer}");
    // Its operator reads which file that is.
    app.broker().logged(&format!("{}.db is empty; restore it from a backup", acme.slug)).await;
    assert_eq!(bob.join(&attic).await.say("all is well").await["seq"], 2);
}

#[tokio::test]
async fn the_same_id_gets_the_first_answer_embedded() {
    the_same_id_gets_the_first_answer(App::embedded().await).await;
}

#[tokio::test]
async fn the_same_id_gets_the_first_answer_on_postgres() {
    the_same_id_gets_the_first_answer(App::postgres().await).await;
}

async fn the_same_id_gets_the_first_answer(app: App) {
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut b = bob.join(&lobby).await;
    let frame = json!({"type": "chat.message", "id": "order-66", "message": "once"});

    let mut first = alice.join(&lobby).await.acked(frame.clone()).await;
    let mut again = alice.join(&lobby).await;
    let second = again.acked(frame.clone()).await;
    assert_eq!(second["duplicate"], true);
    first["duplicate"] = json!(true);
    assert_eq!(second, first, "but for that, it is the first answer");

    b.next_of("chat.message").await;
    b.expect_silence("chat.message").await;

    let mut other = frame.clone();
    other["message"] = json!("twice");
    let error = again.refused(other).await;
    assert_eq!((&error["code"], &error["name"]), (&json!(203), &json!("id_conflict")));

    let taken = b.acked(frame).await;
    assert_eq!((&taken["duplicate"], &taken["seq"]), (&json!(false), &json!(2)), "another member's ids are its own");
}

#[tokio::test]
async fn a_sender_who_is_gone_before_the_ack_has_said_it_once_or_not_at_all() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let frame = json!({"type": "chat.message", "id": "c1", "message": "did it arrive?"});
    let mut a = alice.join(&lobby).await;
    a.send_json(frame.clone()).await;
    drop(a);
    let ack = alice.join(&lobby).await.acked(frame).await;
    assert_eq!(ack["seq"], 1);
    let (_, page) = alice.get(&lobby.path("messages/")).await;
    assert_eq!(list(&page, "results").len(), 1, "{page}");
}
