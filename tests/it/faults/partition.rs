//! One node is cut off from Redis, and knows it or does not.

use std::time::Duration;

use serde_json::json;
use switchboard_tests::journal::{HEALS_WITHIN, MessageFrame, Pace, history};
use switchboard_tests::{Traffic, eventually, figure, number, rounds, text};
use tokio::time::Instant;

use super::{People, Scene, readiness};

#[tokio::test]
async fn a_node_whose_bus_refuses_it_misses_nothing() {
    partitioned(Traffic::Refuse).await;
}

#[tokio::test]
async fn a_node_whose_bus_falls_silent_misses_nothing() {
    partitioned(Traffic::Silence).await;
}

async fn partitioned(how: Traffic) {
    let scene = Scene::start().await;
    let people = scene.people().await;
    let journal = scene.load(&people, 2, Pace::STEADY);
    for _ in 0..rounds(1) {
        journal.acks_each(5).await;
        scene.a_to_redis.set(how).await;
        // Right away, while the node may not know yet, and later, when it does.
        for _ in 0..3 {
            resume_is_honest(&scene, &people).await;
            journal.acks_each(5).await;
        }
        // It still is cut off, and falls quiet; then it is not, and falls quiet.
        for traffic in [how, Traffic::Pass] {
            scene.a_to_redis.set(traffic).await;
            let changed = Instant::now();
            journal.acks_each(1).await;
            journal.rest().await;
            let caught_up = journal.caught_up(Instant::now()).await;
            println!(
                "{traffic:?}: live equalled history {caught_up:?} after the last word, {:?} in all",
                changed.elapsed()
            );
            journal.go_on();
        }
    }
    let figures = journal.verify(&people.bob).await;
    println!("{figures}");
    figure("the slowest delivery", figures.slowest_delivery, HEALS_WITHIN);
    let repairs = scene.a.broker().metric("switchboard_gap_repairs_total", &[]).await;
    assert!(repairs > 0.0, "what the bus did not bring came from the store");
}

/// Whoever resumes at the cut-off node is told to have recovered only what there was by then.
async fn resume_is_honest(scene: &Scene, people: &People) {
    const MISSED: u64 = 10;
    let epoch = people.bob.connect().await.subscribe(&people.lobby).await["epoch"].clone();
    let stored = history(&people.bob, &people.lobby).await;
    let since = (stored.len() as u64).saturating_sub(MISSED);

    let mut a = people.alice.at(scene.a.door()).connect().await;
    let resume = json!({"type": "subscribe", "channel": people.lobby.id, "since": {"epoch": epoch, "seq": since}});
    a.send_json(resume).await;
    let mut missed = Vec::new();
    let subscribed = loop {
        let frame = a.next().await;
        match text(&frame, "type") {
            "chat.message" => missed.push(MessageFrame::new(&frame["message"])),
            "subscribed" => break frame,
            _ => {}
        }
    };
    let up_to = number(&subscribed, "seq");
    assert!(up_to >= stored.len() as u64, "{subscribed} is behind the history of {} messages", stored.len());
    assert_eq!(subscribed["recovered"], true, "{MISSED} messages and a few are not too many: {subscribed}");
    let seqs: Vec<u64> = missed.iter().map(|said| said.seq).collect();
    assert_eq!(seqs, (since + 1..=up_to).collect::<Vec<_>>(), "all of it, in order, before {subscribed}");
    let known = stored.len() - usize::try_from(since).expect("a short history");
    assert_eq!(missed[..known], stored[stored.len() - known..], "and as it was stored");
}

/// A message that comes last, on a node that hears nothing and says nothing: no later one shows that it is missing.
#[tokio::test]
async fn the_last_message_reaches_a_quiet_node_that_is_cut_off() {
    let scene = Scene::start().await;
    let People { alice, bob, lobby, .. } = scene.people().await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds(1) {
        for how in [Traffic::Refuse, Traffic::Silence] {
            scene.a_to_redis.set(how).await;
            let ack = b.say("is anyone there?").await;
            let said = Instant::now();
            let heard = a.next_of("chat.message").await;
            slowest = slowest.max(said.elapsed());
            assert_eq!(heard["message"]["id"], ack["message_id"]);
            scene.a_to_redis.set(Traffic::Pass).await;
            eventually("the node is ready again", async || readiness(&scene.a).await == "ready\n").await;
        }
    }
    figure("the last message reached a node without a bus after", slowest, HEALS_WITHIN);
}
