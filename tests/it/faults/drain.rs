//! A node that is asked to end while everyone is talking.

use std::collections::{BTreeMap, VecDeque};

use futures_util::future::join_all;
use serde_json::{Value, json};
use switchboard_tests::{
    App, Channel, Closed, Cluster, Door, Member, Settings, Signal, Socket, eventually, number, text,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const SPEAKERS: usize = 24;

/// Messages a speaker sends without waiting for their acks.
const AHEAD: usize = 8;

/// Acks after which the node is asked to end.
const UNDER_WAY: f64 = 400.0;

/// Someone who talks without a pause.
struct Speaker {
    member: Member,
    socket: Socket,
    name: String,
    /// The id and `seq` of what was acked, by the client's id.
    acked: BTreeMap<String, (String, u64)>,
    /// What was sent and not acked, oldest first.
    open: VecDeque<String>,
}

impl Speaker {
    async fn new(member: &Member, channel: &Channel, n: usize) -> Self {
        let socket = member.join(channel).await;
        let name = format!("speaker {n}");
        Self { member: member.clone(), socket, name, acked: BTreeMap::new(), open: VecDeque::new() }
    }

    /// Talks until the broker closes the socket; returns how it did.
    async fn talk(&mut self) -> Closed {
        for n in 0.. {
            let id = format!("{} message {n}", self.name);
            self.open.push_back(id.clone());
            self.socket.send_json(frame(&id)).await;
            while self.open.len() >= AHEAD {
                match self.socket.next_or_closed().await {
                    Ok(answer) => self.note(&answer),
                    Err(closed) => return closed,
                }
            }
        }
        unreachable!("the broker closes at some time")
    }

    /// Sends again, elsewhere, what was not acked; all of it is acked then. Returns how much that was, and how much of it
    /// had been stored before.
    async fn come_back(&mut self, door: &Door, channel: &Channel) -> (usize, usize) {
        self.socket = self.member.at(door).join(channel).await;
        let (again, mut before) = (self.open.len(), 0);
        for id in self.open.clone() {
            let ack = self.socket.acked(frame(&id)).await;
            before += usize::from(ack["duplicate"] == true);
            self.note(&ack);
        }
        (again, before)
    }

    fn note(&mut self, answer: &Value) {
        match answer["type"].as_str() {
            Some("ack") => {
                let id = text(answer, "id").to_owned();
                self.open.retain(|open| *open != id);
                let twice = self.acked.insert(id, (text(answer, "message_id").to_owned(), number(answer, "seq")));
                assert_eq!(twice, None, "one answer each: {answer}");
            }
            Some("error") => panic!("{}: {answer}", self.name),
            _ => {}
        }
    }
}

fn frame(id: &str) -> Value {
    json!({"type": "chat.message", "id": id, "message": id})
}

#[tokio::test]
async fn a_node_that_ends_under_load_keeps_what_it_acked_and_its_clients_go_on_elsewhere() {
    let cluster = Cluster::two_nodes().await;
    let acme = cluster.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut listener = bob.at(cluster.b.door()).join(&lobby).await;
    let mut speakers = Vec::new();
    for n in 0..SPEAKERS {
        speakers.push(Speaker::new(&alice, &lobby, n).await);
    }
    let Cluster { a: first, b: second } = cluster;

    let talking = join_all(speakers.iter_mut().map(Speaker::talk));
    let ending = async {
        let labels = [r#"kind="chat.message""#, r#"result="ok""#];
        let under_way = async || first.broker().metric("switchboard_events_total", &labels).await >= UNDER_WAY;
        eventually("they are talking", under_way).await;
        first.broker().ask_to_end(Signal::Terminate).await;
        Instant::now()
    };
    let (closes, asked) = futures_util::future::join(talking, ending).await;
    let closed_within = asked.elapsed();
    let exit = first.ended().await;
    println!("{SPEAKERS} sockets closed within {closed_within:.1?}; the process ended within {:.1?}", asked.elapsed());
    assert_eq!(exit.code(), Some(0));
    assert!(
        !exit.stderr.contains("stopped before all sockets were closed and all requests answered"),
        "{}",
        exit.stderr
    );
    assert!(!exit.stderr.contains("panicked"), "{}", exit.stderr);
    for closed in closes {
        assert_eq!(closed, Closed { code: 4200, reason: "draining".to_owned() });
    }

    let acked: usize = speakers.iter().map(|speaker| speaker.acked.len()).sum();
    let (mut again, mut before) = (0, 0);
    for speaker in &mut speakers {
        let (sent, stored) = speaker.come_back(second.door(), &lobby).await;
        (again, before) = (again + sent, before + stored);
    }
    println!("{acked} messages were acked in time; of {again} sent again elsewhere {before} had been stored");

    let stored: BTreeMap<String, (String, u64)> = bob
        .at(second.door())
        .history(&lobby)
        .await
        .iter()
        .map(|message| (text(message, "content").to_owned(), (text(message, "id").to_owned(), number(message, "seq"))))
        .collect();
    let said: BTreeMap<_, _> = speakers.into_iter().flat_map(|speaker| speaker.acked).collect();
    assert_eq!(stored, said, "each message is stored once, as its ack said");
    for seq in 1..=said.len() as u64 {
        let heard = listener.next_of("chat.message").await;
        assert_eq!(number(&heard, "seq"), seq, "who was on the other node heard all of it in order");
    }
    assert_eq!(second.stop(Signal::Terminate).await.code(), Some(0));
}

#[tokio::test]
async fn a_request_that_is_half_sent_is_answered_before_the_broker_ends() {
    let app = App::start(Settings::embedded()).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let (client_door, operator_door) = (app.door().clone(), Door::new(app.broker().admin_address()));
    let body = r#"{"message":"on my way"}"#;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        lobby.path("messages/"),
        alice.token,
        body.len()
    );
    let (first, second) = body.split_at(body.len() / 2);
    let mut stream = TcpStream::connect(client_door.address()).await.unwrap();
    stream.write_all((head + first).as_bytes()).await.unwrap();
    // The broker has read it: it asks for the head and answers others meanwhile.
    eventually("others are answered", async || client_door.get("/livez", None).await.0 == 200).await;

    app.broker().ask_to_end(Signal::Terminate).await;
    eventually("it drains", async || operator_door.get("/readyz", None).await.0 == 503).await;
    eventually("nobody new comes in", async || TcpStream::connect(client_door.address()).await.is_err()).await;
    stream.write_all(second.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(app.ended().await.code(), Some(0));
}

/// Of 300 sockets, closed at 200 a second, each at a moment of its own.
#[tokio::test]
async fn sockets_close_one_after_the_other_while_the_rest_goes_on_and_nobody_new_comes_in() {
    const SOCKETS: usize = 300;

    let settings = Settings::embedded().with("SWITCHBOARD_MAX_CONNECTIONS_PER_MEMBER", "1000");
    let app = App::start(settings).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let sockets = join_all((0..SOCKETS).map(|_| alice.connect())).await;
    let (client_door, operator_door) = (app.door().clone(), Door::new(app.broker().admin_address()));

    app.broker().ask_to_end(Signal::Terminate).await;
    let draining = async || operator_door.get("/readyz", None).await.0 == 503;
    eventually("the node says that it is not ready", draining).await;
    eventually("nobody new comes in", async || TcpStream::connect(client_door.address()).await.is_err()).await;
    // One after the other, as long as any is open: those whose moment has not come are served as ever.
    let (mut sockets, mut closed, mut served, mut served_after) = (VecDeque::from(sockets), Vec::new(), 0, 0);
    while let Some(mut socket) = sockets.pop_front() {
        socket.send_json(json!({"type": "ping"})).await;
        match socket.next_or_closed().await {
            Ok(frame) => {
                assert_eq!(frame["type"], "pong", "{frame}");
                served += 1;
                served_after += usize::from(!closed.is_empty());
                sockets.push_back(socket);
            }
            Err(end) => closed.push(end),
        }
    }
    println!(
        "{served} times a socket was served when the node was not ready, {served_after} times when others had closed"
    );
    assert!(closed.iter().all(|end| end.code == 4200), "{closed:?}");
    assert!(served_after > 0, "they close apart, and a socket works until its moment");
    assert_eq!(app.ended().await.code(), Some(0));
}
