//! Fan-out is fair: channels with many sessions hold up no others, and miss nothing themselves.

use futures_util::StreamExt;
use serde_json::{Value, json};
use switchboard_tests::raw::RawSocket;
use switchboard_tests::{
    App, Cluster, Goal, Latencies, Member, Settings, Socket, figure, figures_are_held, number, text,
};
use tokio::time::{Instant, interval};

/// How often the large channel hears something.
const PACE: std::time::Duration = std::time::Duration::from_millis(500);

/// What two people of a small channel do, one after the other.
async fn talk(socket: &mut Socket, messages: usize) -> Latencies {
    let mut times = Vec::with_capacity(messages);
    for _ in 0..messages {
        let since = Instant::now();
        socket.say("how long does this take?").await;
        times.push(since.elapsed());
    }
    times.into_iter().collect()
}

/// Their systems keep for them what they do not read.
async fn crowd(member: &Member, address: std::net::SocketAddr, path: &str, sockets: usize) -> Vec<RawSocket> {
    let path = format!("{path}?token={}", member.token);
    let opening = futures_util::stream::iter(0..sockets).map(|_| RawSocket::open(address, &path));
    opening.buffer_unordered(64).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_of_many_sessions_holds_up_no_other() {
    let (sockets, messages) = if figures_are_held() { (10_000, 2_000) } else { (1_000, 200) };
    let settings = Settings::embedded()
        .with("SWITCHBOARD_MAX_CONNECTIONS_PER_MEMBER", "20000")
        .with("SWITCHBOARD_MAX_CONNECTIONS_PER_ADDRESS", "20000");
    let app = App::start(settings).await;
    app.operator().be_patient_with("chat-message").await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let (square, corner) = (acme.channel("square", &[&alice]).await, acme.channel("corner", &[&bob]).await);
    let crowd = crowd(&alice, app.door().address(), &format!("/ws/chat/{}/", square.id), sockets).await;
    let mut speaker = alice.join(&square).await;
    let (mut bobs, mut heard) = (bob.join(&corner).await, bob.join(&corner).await);

    let alone = talk(&mut bobs, messages).await;
    let crowded = {
        let mut speaking = Box::pin(async {
            let mut pace = interval(PACE);
            loop {
                pace.tick().await;
                speaker.say("to all of you").await;
            }
        });
        tokio::select! {
            crowded = talk(&mut bobs, messages) => crowded,
            () = &mut speaking => unreachable!("it goes on"),
        }
    };
    println!("alone: {alone}; beside a channel of {sockets}: {crowded}");
    let ratio = crowded.per_mille(990).as_secs_f64() / alone.per_mille(990).as_secs_f64();
    figure("p99 of acks beside a large channel / alone", ratio, Goal::AtMost(2.0));
    for _ in 0..2 * messages {
        heard.next_of("chat.message").await;
    }
    drop(crowd);
}

#[tokio::test]
async fn a_channel_with_many_sessions_on_one_node_hears_the_other_node_in_order() {
    const SOCKETS: usize = 300;
    const MESSAGES: u64 = 20;
    let cluster = Cluster::two_nodes_with(|node| node.with("SWITCHBOARD_MAX_CONNECTIONS_PER_MEMBER", "1000")).await;
    let acme = cluster.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await.at(cluster.b.door()));
    let (lobby, desk) = (acme.channel("lobby", &[&alice, &bob]).await, acme.channel("desk", &[&alice, &bob]).await);
    // In one channel so many that a task of its own hands out, and in the other so few that none does.
    let mut listeners = Vec::new();
    for _ in 0..SOCKETS {
        listeners.push(bob.join(&lobby).await);
    }
    let mut few = bob.join(&desk).await;
    let (mut in_lobby, mut at_desk) = (alice.join(&lobby).await, alice.join(&desk).await);
    for n in 1..=MESSAGES {
        let said = |n: u64| json!({"type": "chat.message", "message": n.to_string()});
        tokio::join!(in_lobby.send_json(said(n)), at_desk.send_json(said(n)));
    }
    let in_order = async |socket: &mut Socket| {
        for n in 1..=MESSAGES {
            let heard: Value = socket.next_of("chat.message").await;
            assert_eq!((number(&heard, "seq"), text(&heard["message"], "content")), (n, n.to_string().as_str()));
        }
    };
    in_order(&mut few).await;
    for listener in &mut listeners {
        in_order(listener).await;
    }
    let repairs = cluster.b.broker().metric("switchboard_gap_repairs_total", &[]).await;
    figure("repairs", repairs, Goal::AtMost(0.0));
}
