//! A node dies, and everyone who was on it comes to the other one at once.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use switchboard_tests::raw::{RawSocket, TEXT};
use switchboard_tests::tokens::Claims;
use switchboard_tests::{
    Channel, Closed, Cluster, Door, Goal, Latencies, Member, Socket, Tenant, figure, mib, number, text,
};
use tokio::time::{Instant, sleep};

const CLIENTS: usize = 2_000;

/// Messages of a channel that its clients miss.
const MISSED: u64 = 20;

/// Descriptors that this process, and each node, needs beside those of the clients.
const BESIDE: usize = 200;

/// Longer than all of it may take on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Within this time all are back, on a machine that does nothing else but test.
const BACK_WITHIN: Goal<Duration> = Goal::AtMost(Duration::from_secs(10));

/// In the place of a code: the broker hung up before the handshake.
const HUNG_UP: u64 = 0;

/// How long a client waits at first that was sent away.
const BACK_OFF: Duration = Duration::from_millis(200);

/// How many do at once what everyone does before the test begins.
const AT_ONCE: usize = 32;

/// Someone in one channel, on a socket for many.
struct Client {
    token: String,
    channel: Channel,
    socket: RawSocket,
    /// What the client has, as it says when it comes back.
    since: Value,
}

/// What it took to come back.
struct Return {
    /// Everything the client was sent until it had what it had missed.
    texts: Vec<String>,
    took: Duration,
    /// What it was sent away with for the moment: a close of 41xx or 42xx, or an error that says to try again.
    sent_away: Vec<u64>,
}

impl Client {
    async fn join(door: &Door, token: String, channel: &Channel) -> Self {
        let (socket, Return { texts, .. }) = come_in(door, &token, channel, None).await;
        let subscribed = parsed(texts.last().expect("a last text"));
        let since = json!({"epoch": subscribed["epoch"], "seq": subscribed["seq"]});
        Self { token, channel: channel.clone(), socket, since }
    }

    /// Comes back where it was.
    async fn come_back(&mut self, door: &Door) -> Return {
        let (socket, back) = come_in(door, &self.token, &self.channel, Some(&self.since)).await;
        self.socket = socket;
        back
    }
}

/// Joins a channel on a new socket, as often as it takes.
async fn come_in(door: &Door, token: &str, channel: &Channel, since: Option<&Value>) -> (RawSocket, Return) {
    let (began, mut sent_away) = (Instant::now(), Vec::new());
    loop {
        match enter(door, token, channel, since).await {
            Ok((socket, texts)) => return (socket, Return { texts, took: began.elapsed(), sent_away }),
            Err(code) => {
                sent_away.push(code);
                // What a client is told to do: each time it waits longer.
                sleep(BACK_OFF * u32::try_from(sent_away.len()).expect("not that often")).await;
            }
        }
    }
}

/// Opens a socket and joins a channel; returns what came up to `subscribed`. `Err`: the client was sent away for now.
async fn enter(
    door: &Door,
    token: &str,
    channel: &Channel,
    since: Option<&Value>,
) -> Result<(RawSocket, Vec<String>), u64> {
    let for_now = |closed: Closed| {
        assert!((4100..4300).contains(&closed.code), "{closed:?}");
        u64::from(closed.code)
    };
    let socket = RawSocket::open_within(PATIENCE, door.address(), &format!("/ws/?token={token}")).await;
    let mut socket = socket.ok_or(HUNG_UP)?;
    socket.texts_until(&[r#""type":"welcome""#]).await.map_err(for_now)?;
    let mut frame = json!({"type": "subscribe", "channel": channel.id});
    if let Some(since) = since {
        frame["since"] = since.clone();
    }
    socket.send(TEXT, frame.to_string().as_bytes()).await;
    let texts = socket.texts_until(&[r#""type":"subscribed""#, r#""type":"error""#]).await.map_err(for_now)?;
    let last = parsed(texts.last().expect("a last text"));
    if last["type"] == "error" {
        assert_eq!(last["retryable"], true, "{last}");
        return Err(number(&last, "code"));
    }
    Ok((socket, texts))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("frames are JSON")
}

#[tokio::test]
async fn two_thousand_clients_of_a_dead_node_come_back_at_once_and_miss_nothing() {
    come_back_at_once(20).await;
}

#[tokio::test]
async fn two_thousand_clients_of_one_channel_come_back_at_once_and_miss_nothing() {
    come_back_at_once(1).await;
}

/// While others join or come back a client's socket is not read, so nobody answers pings: the nodes send none.
async fn come_back_at_once(rooms: usize) {
    enough_descriptors();
    let mut cluster = Cluster::two_nodes_with(|node| node.with("SWITCHBOARD_PING_INTERVAL", "1h")).await;
    let acme = cluster.tenant("acme").await;
    let speaker = acme.member("speaker").await;
    let members = provision(&acme, cluster.b.door()).await;
    let channels = join_all(members.chunks(CLIENTS / rooms).enumerate().map(async |(n, members)| {
        let all: Vec<&Member> = members.iter().chain([&speaker]).collect();
        acme.channel(&format!("room {n}"), &all).await
    }))
    .await;
    let began = Instant::now();
    let doors = cluster.a.door().clone();
    let joining = members
        .iter()
        .enumerate()
        .map(|(n, member)| Client::join(&doors, member.token.clone(), &channels[n / (CLIENTS / rooms)]));
    let mut clients: Vec<Client> = stream::iter(joining).buffer_unordered(AT_ONCE).collect().await;
    let (took, worked) = (began.elapsed(), cluster.a.broker().worked());
    println!("{CLIENTS} clients in {rooms} channels: joined within {took:.1?}, {worked:.1?} of the node's work");

    let mut said: Vec<Socket> = Vec::new();
    for channel in &channels {
        said.push(speaker.at(cluster.b.door()).join(channel).await);
    }
    cluster.a.kill().await;
    for n in 0..MISSED {
        join_all(said.iter_mut().map(|socket| socket.say(if n % 2 == 0 { "while you were away" } else { "again" })))
            .await;
    }
    let (before, idle) = (cluster.b.broker().memory(), cluster.b.broker().worked());
    let began = Instant::now();
    let door = cluster.b.door();
    let back = join_all(clients.iter_mut().map(|client| client.come_back(door))).await;
    let took = began.elapsed();
    let each: Latencies = back.iter().map(|back| back.took).collect();
    let worked = cluster.b.broker().worked() - idle;
    println!("{worked:.1?} of the node's work; {each}");
    let sent_away: Vec<u64> = back.iter().flat_map(|back| back.sent_away.clone()).collect();
    println!("sent away for a moment: {} times {:?}", sent_away.len(), sent_away.iter().collect::<BTreeSet<_>>());
    println!("memory of the node: {} before, {} after", mib(before), mib(cluster.b.broker().memory()));
    figure("all came back within", took, BACK_WITHIN);
    let lost = cluster.b.broker().metric("switchboard_resumes_total", &[r#"recovered="no""#]).await;
    assert_eq!(lost, 0.0, "each came back where it was");

    for (client, back) in clients.iter().zip(&back) {
        let frames: Vec<Value> = back.texts.iter().map(|text| parsed(text)).filter(|frame| !is_notice(frame)).collect();
        let (subscribed, missed) = frames.split_last().expect("a last frame");
        assert_eq!(subscribed["recovered"], true, "{subscribed}");
        let first = number(&client.since, "seq");
        assert_eq!(number(subscribed, "seq"), first + MISSED);
        let seqs: Vec<u64> = missed.iter().map(|frame| number(frame, "seq")).collect();
        assert_eq!(seqs, (first + 1..=first + MISSED).collect::<Vec<_>>(), "what was missed, in order, each once");
        assert!(missed.iter().all(|frame| frame["channel"] == client.channel.id.as_str()));
    }

    // And from there on they hear what is said.
    join_all(said.iter_mut().map(|socket| socket.say("welcome back"))).await;
    let heard = join_all(clients.iter_mut().map(|client| client.socket.texts_until(&["welcome back"]))).await;
    for texts in heard {
        let texts = texts.expect("the socket stays open");
        let frames: Vec<Value> = texts.iter().map(|text| parsed(text)).filter(|frame| !is_notice(frame)).collect();
        assert_eq!(frames.len(), 1, "nothing between what was missed and what is new: {frames:?}");
        assert_eq!(text(&frames[0]["message"], "content"), "welcome back");
    }
}

/// Someone joined or left: that is sent to whoever is there, at best once.
fn is_notice(frame: &Value) -> bool {
    frame["type"] == "user.join" || frame["type"] == "user.leave"
}

/// Members as another application knows them: their first request makes them.
async fn provision(tenant: &Tenant, door: &Door) -> Vec<Member> {
    let members = (0..CLIENTS).map(async |n| {
        let (id, name) = (format!("u{n:04}"), format!("user {n}"));
        let token = Claims::access(&tenant.slug, id.as_str()).with("username", name.as_str());
        let token = token.ending_in(86_400).sign();
        let member = Member::external(door, &name, &id, token);
        let (status, me) = member.get("/api/me/").await;
        assert_eq!(status, 200, "{me}");
        member
    });
    stream::iter(members).buffered(AT_ONCE).collect().await
}

/// # Panics
/// When this process, and so the brokers it starts, may not open as many sockets.
fn enough_descriptors() {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the system tells limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("there is such a limit");
    let soft = line.split_whitespace().next().expect("a number or a word");
    let enough = soft.parse::<usize>().map_or(soft == "unlimited", |soft| soft >= CLIENTS + BESIDE);
    assert!(enough, "a process may open {soft} files; tests/run raises that, or `ulimit -n {}`", CLIENTS + BESIDE);
}
