//! What a plugin that watches messages is promised: to hear of them once they are stored, in order, and to be asked again when
//! it fails, while what it stores is stored once.

use serde_json::{Value, json};
use switchboard_tests::{App, Channel, Member, Settings, Signal, Socket, eventually, number, plugin, text};

const CALLS: &str = "switchboard_stored_calls_total";

struct Office {
    app: App,
    alice: Member,
    lobby: Channel,
    socket: Socket,
}

async fn office() -> Office {
    let settings = Settings::embedded().with("SWITCHBOARD_PLUGIN", plugin("hostile"));
    let app = App::start(settings).await;
    app.operator().be_patient_with("hostile").await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let socket = alice.join(&lobby).await;
    Office { app, alice, lobby, socket }
}

impl Office {
    /// Stores a message that the plugin watches, and that makes it do something.
    async fn watched(&mut self, how: &str) -> Value {
        self.socket.acked(json!({"type": "hostile.watched", "how": how})).await
    }

    async fn kinds(&self) -> Vec<String> {
        self.alice.history(&self.lobby).await.iter().map(|message| text(message, "kind").to_owned()).collect()
    }

    async fn calls(&self, result: &str) -> f64 {
        self.app.broker().metric(CALLS, &["plugin=\"hostile\"", &format!("result=\"{result}\"")]).await
    }

    async fn until_calls(&self, result: &str, count: f64) {
        eventually(&format!("{count} calls end as {result}"), async || self.calls(result).await >= count).await;
    }
}

#[tokio::test]
async fn a_plugin_whose_first_try_traps_answers_once() {
    let mut office = office().await;
    let ack = office.watched("trap once").await;
    let answer = office.socket.next_of("hostile.answer").await;
    assert_eq!(answer["message"]["reply_to"], ack["message_id"]);
    assert_eq!(answer["message"]["sender"], office.alice.as_json(), "in the name of who caused it");
    assert!(answer.get("client_id").is_none(), "it answers no frame");
    office.until_calls("ok", 1.0).await;
    assert_eq!(office.calls("again").await, 1.0, "it was asked twice");
    assert_eq!(office.kinds().await, ["hostile.watched", "hostile.answer"]);
    office.app.broker().logged("a first try").await;
}

#[tokio::test]
async fn a_plugin_that_traps_each_time_is_given_up_and_holds_nothing_up() {
    let mut office = office().await;
    office.watched("trap").await;
    office.socket.say("the sender had the ack, and goes on").await;
    office.until_calls("failed", 1.0).await;
    assert_eq!((office.calls("again").await, office.calls("ok").await), (2.0, 0.0), "three tries");
    office.watched("answer").await;
    office.socket.next_of("hostile.answer").await;
}

#[tokio::test]
async fn a_plugin_that_says_it_is_at_fault_is_called_again() {
    let mut office = office().await;
    office.watched("internal").await;
    office.until_calls("failed", 1.0).await;
    assert_eq!((office.calls("again").await, office.calls("refused").await), (2.0, 0.0), "three tries");
}

#[tokio::test]
async fn a_refusal_is_final() {
    let mut office = office().await;
    office.watched("deny").await;
    office.watched("answer").await;
    office.until_calls("ok", 1.0).await;
    assert_eq!((office.calls("refused").await, office.calls("again").await), (1.0, 0.0));
    office.app.broker().logged("it is not worth an answer").await;
}

#[tokio::test]
async fn a_plugin_that_answers_itself_ends() {
    let mut office = office().await;
    office.watched("echo").await;
    eventually("what lies too deep is not watched", async || {
        office.app.broker().metric("switchboard_stored_dropped_total", &["reason=\"too_deep\""]).await >= 1.0
    })
    .await;
    office.until_calls("ok", 4.0).await;
    assert_eq!(office.kinds().await, ["hostile.watched"; 5], "the event's own, and four of the plugin");
}

#[tokio::test]
async fn messages_are_heard_of_in_their_order() {
    const MESSAGES: u64 = 50;
    let mut office = office().await;
    for n in 0..MESSAGES {
        let frame = json!({"type": "hostile.watched", "id": format!("n{n}"), "how": "answer"});
        office.socket.send_json(frame).await;
    }
    let mut heard = Vec::new();
    for _ in 0..MESSAGES {
        let answer = office.socket.next_of("hostile.answer").await;
        heard.push(text(&answer["message"], "content").parse::<u64>().unwrap());
    }
    let history = office.alice.history(&office.lobby).await;
    let watched = history.iter().filter(|message| message["kind"] == "hostile.watched");
    assert_eq!(heard, watched.map(|message| number(message, "seq")).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_said_over_http_is_heard_of_too() {
    let mut office = office().await;
    let frame = json!({"type": "hostile.watched", "how": "answer"});
    let (status, body) = office.alice.post(&office.lobby.path("messages/"), frame).await;
    assert_eq!(status, 201, "{body}");
    office.socket.next_of("hostile.answer").await;
}

#[tokio::test]
async fn a_node_that_ends_tells_first_what_it_has_stored() {
    let mut office = office().await;
    office.watched("trap once").await;
    // The second try comes after a pause, in which the broker is asked to end.
    office.until_calls("again", 1.0).await;
    let Office { app, alice, lobby, socket } = office;
    drop(socket);
    let settings = app.settings().clone();
    app.stop(Signal::Terminate).await;
    let app = App::start(settings).await;
    let kinds: Vec<Value> =
        alice.at(app.door()).history(&lobby).await.into_iter().map(|mut message| message["kind"].take()).collect();
    assert_eq!(kinds, ["hostile.watched", "hostile.answer"]);
}
