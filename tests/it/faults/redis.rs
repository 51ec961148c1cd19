//! Redis dies, forgets and cuts off: the nodes go on, and each client has everything soon after.

use std::time::Duration;

use serde_json::json;
use switchboard_tests::journal::{HEALS_WITHIN, Journal, Pace};
use switchboard_tests::{eventually, figure, rounds};
use tokio::time::Instant;

use super::{People, Scene, readiness};
use crate::redis_server::ask;

#[tokio::test]
async fn redis_killed_under_load_costs_latency_and_no_message() {
    let mut scene = Scene::start().await;
    let people = scene.people().await;
    let journal = scene.load(&people, 2, Pace::STEADY);
    journal.acks_each(5).await;
    for round in 1..=rounds(2) {
        both_are_ready(&scene).await;
        scene.redis.kill();
        for node in [&scene.a, &scene.b] {
            eventually("the node says that it is degraded", async || {
                readiness(node).await == "degraded: bus unavailable\n"
            })
            .await;
        }
        journal.acks_each(10).await;
        // Each node serves its own, and reads what the other node's clients say from the store.
        local_delivery_goes_on(&scene, &people).await;
        let meanwhile = journal.caught_up(Instant::now()).await;
        // The last words before its return have no later ones behind them.
        journal.rest().await;
        scene.redis.start_again().await;
        let healed = Instant::now();
        both_are_ready(&scene).await;
        let ready = healed.elapsed();
        let afterwards = journal.caught_up(healed).await;
        journal.go_on();
        println!(
            "round {round}: live equalled history after {meanwhile:?} without Redis, {afterwards:?} after its return; \
             ready after {ready:?}"
        );
    }
    let figures = journal.verify(&people.bob).await;
    println!("{figures}");
    figure("the slowest delivery", figures.slowest_delivery, HEALS_WITHIN);
}

#[tokio::test]
async fn redis_that_forgets_or_cuts_off_subscribers_costs_no_message() {
    let scene = Scene::start().await;
    let people = scene.people().await;
    let journal = scene.load(&people, 2, Pace::STEADY);
    for _ in 0..rounds(3) {
        journal.acks_each(10).await;
        let () = ask(&scene.redis.url(), &["FLUSHALL"]).await;
        let flushed = falls_quiet(&journal).await;
        // A connection that is cut off soon after it was made is made anew later and later.
        both_are_ready(&scene).await;
        let cut: u64 = ask(&scene.redis.url(), &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert_eq!(cut, 2, "the bus of each node");
        let cut_off = falls_quiet(&journal).await;
        println!("live equalled history {flushed:?} after FLUSHALL, {cut_off:?} after CLIENT KILL");
    }
    println!("{}", journal.verify(&people.bob).await);
}

/// A few more messages, and then none that would show that one before it is missing.
async fn falls_quiet(journal: &Journal) -> Duration {
    let done = Instant::now();
    journal.acks_each(1).await;
    journal.rest().await;
    journal.caught_up(Instant::now()).await;
    journal.go_on();
    done.elapsed()
}

async fn both_are_ready(scene: &Scene) {
    for node in [&scene.a, &scene.b] {
        eventually("the node is ready", async || readiness(node).await == "ready\n").await;
    }
}

async fn local_delivery_goes_on(scene: &Scene, people: &People) {
    let doors = [scene.a.door(), scene.b.door()];
    for door in doors {
        let (mut alice, mut bob) =
            (people.alice.at(door).join(&people.lobby).await, people.bob.at(door).join(&people.lobby).await);
        alice.send_json(json!({"type": "typing", "is_typing": true})).await;
        bob.next_of("typing").await;
    }
}
