//! One id, one message, one answer: also when it is sent twice at the same moment, and whatever a client calls an id.

use futures_util::future::join;
use serde_json::{Value, json};
use switchboard_tests::{App, Cluster, Socket, number};

/// Pairs of frames sent at once. Each round is a race of its own.
const ROUNDS: u64 = 150;

#[tokio::test]
async fn what_is_no_id_is_refused_and_the_conversation_goes_on() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let ids = [
        json!("x".repeat(65)),
        json!("é".repeat(65)),
        json!("a\u{0}b"),
        json!("a\nb"),
        json!("a\u{7f}b"),
        json!(""),
        json!(0),
        json!(1.5),
        json!(true),
        json!(["c1"]),
        json!({"id": "c1"}),
    ];
    for mut socket in [alice.join(&lobby).await, alice.connect().await] {
        for id in &ids {
            let frame = json!({"type": "chat.message", "channel": lobby.id, "id": id, "message": "hi"});
            socket.send_json(frame).await;
            let error = socket.next_of("error").await;
            assert_eq!((&error["code"], &error["name"]), (&json!(107), &json!("bad_request")), "{id}: {error}");
            assert!(error.get("id").is_none(), "what is no id is not sent back: {error}");
        }
        socket.acked(json!({"type": "ping"})).await;
    }
    for id in &ids {
        let (status, answer) = alice.post(&lobby.path("messages/"), json!({"id": id, "message": "hi"})).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("bad_request")), "{id}: {answer}");
    }
    assert_eq!(alice.history(&lobby).await, Vec::<Value>::new());

    let longest = "é".repeat(64);
    let ack = alice.join(&lobby).await.acked(json!({"type": "chat.message", "id": longest, "message": "hi"})).await;
    assert_eq!((&ack["id"], &ack["seq"]), (&json!(longest), &json!(1)), "64 characters are an id, in any script");
}

#[tokio::test]
async fn of_the_same_frame_twice_at_once_one_is_stored_embedded() {
    let app = App::embedded().await;
    race(&app, &app).await;
}

#[tokio::test]
async fn of_the_same_frame_twice_at_once_one_is_stored_on_postgres() {
    let app = App::postgres().await;
    race(&app, &app).await;
}

#[tokio::test]
async fn of_the_same_frame_twice_at_once_one_is_stored_on_two_nodes() {
    let cluster = Cluster::two_nodes().await;
    race(&cluster.a, &cluster.b).await;
}

/// Alice sends each frame from two sockets at the same moment, now and then with another body from one of them.
async fn race(one: &App, other: &App) {
    let acme = one.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut first, mut second) = (alice.join(&lobby).await, alice.at(other.door()).join(&lobby).await);
    let mut listeners = [bob.join(&lobby).await, bob.at(other.door()).join(&lobby).await];
    let mut firsts = 0;
    for round in 1..=ROUNDS {
        let frame = |message: String| json!({"type": "chat.message", "id": format!("c{round}"), "message": message});
        let said = format!("message {round}");
        let differs = round % 3 == 0;
        let otherwise = if differs { format!("not message {round}") } else { said.clone() };
        let (a, b) = join(first.request(frame(said.clone())), second.request(frame(otherwise.clone()))).await;

        let (stored, repeated, content) = if is_first(&a) { (&a, &b, said) } else { (&b, &a, otherwise) };
        firsts += u64::from(is_first(&a));
        assert!(is_first(stored) && !is_first(repeated), "of two at once one is the first: {a} {b}");
        assert_eq!(number(stored, "seq"), round, "{a} {b}");
        if differs {
            assert_eq!((&repeated["code"], &repeated["name"]), (&json!(203), &json!("id_conflict")), "{a} {b}");
        } else {
            let mut again = stored.clone();
            again["duplicate"] = json!(true);
            assert_eq!(repeated, &again, "but for that, the answers are the same");
        }
        for listener in &mut listeners {
            let heard = listener.next_of("chat.message").await;
            assert_eq!((number(&heard, "seq"), &heard["message"]["content"]), (round, &json!(content)));
            assert_eq!(heard["message"]["id"], stored["message_id"]);
        }
    }
    for listener in &mut listeners {
        listener.expect_silence("chat.message").await;
    }
    assert_eq!(alice.history(&lobby).await.len() as u64, ROUNDS);
    println!("{ROUNDS} rounds: the first socket was first in {firsts}");
}

#[tokio::test]
async fn the_same_frame_many_times_in_a_row_is_stored_once_on_postgres() {
    let app = App::postgres().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut sockets: Vec<Socket> = Vec::new();
    for _ in 0..4 {
        sockets.push(alice.join(&lobby).await);
    }
    // Nobody waits for an answer: the same request stands in the broker's queues several times over.
    for _ in 0..8 {
        for socket in &mut sockets {
            socket.send_json(json!({"type": "chat.message", "id": "once", "message": "hi"})).await;
        }
    }
    let mut firsts = 0;
    for socket in &mut sockets {
        for _ in 0..8 {
            let ack = socket.next_of("ack").await;
            firsts += u64::from(is_first(&ack));
            assert_eq!(number(&ack, "seq"), 1, "{ack}");
        }
    }
    assert_eq!(firsts, 1);
    assert_eq!(alice.history(&lobby).await.len(), 1);
}

fn is_first(answer: &Value) -> bool {
    answer["type"] == "ack" && answer["duplicate"] == false
}
