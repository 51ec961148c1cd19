//! Nodes die, at any moment and at the worst ones.

use futures_util::future::join;
use serde_json::json;
use switchboard_tests::journal::{Doors, HEALS_WITHIN, Journal, Pace, history};
use switchboard_tests::servers::{PrivatePostgres, PrivateRedis};
use switchboard_tests::{App, Settings, Traffic, figure, rounds};
use tokio::time::Instant;

use super::gate::Gate;
use super::{People, Scene, acks};

/// Twenty clients of four channels, and a kill for each thousand acks.
#[tokio::test]
async fn nodes_killed_under_load_lose_nothing_that_was_acked() {
    const CHANNELS: u64 = 4;
    const CLIENTS: u64 = 5;
    const KILLS: u64 = 20;
    const ACKS_A_KILL: u64 = 1_000;

    let (postgres, redis) = join(PrivatePostgres::start(), PrivateRedis::start()).await;
    let settings = || Settings::node(&postgres.url(), &redis.url());
    let mut nodes = [App::start(settings()).await, App::start(settings()).await];
    let doors = Doors::new(nodes.iter().map(App::door));

    let acme = nodes[0].tenant("acme").await;
    let members = [acme.member("alice").await, acme.member("bob").await];
    let everyone = [&members[0], &members[1]];
    let mut journals = Vec::new();
    for number in 0..CHANNELS {
        let mut journal = Journal::of(&acme.channel(&format!("room-{number}"), &everyone).await);
        for (_, member) in (0..CLIENTS).zip(members.iter().cycle()) {
            journal.publisher(member, &doors, Pace::FULL);
        }
        for member in everyone {
            journal.reader(member, &doors);
        }
        journals.push(journal);
    }

    let begun = Instant::now();
    for kill in 0..rounds(KILLS) {
        // Clients have found their way after the kill before, and there are as many acks as there should be.
        acks(&journals, 25).await;
        while journals.iter().map(Journal::acked).sum::<u64>() < (kill + 1) * ACKS_A_KILL {
            acks(&journals, 5).await;
        }
        let place = usize::try_from(kill % 2).expect("nought or one");
        nodes[place].kill().await;
        nodes[place].start_again().await;
        doors.replace(place, nodes[place].door());
    }
    acks(&journals, 1).await;
    let took = begun.elapsed();
    journals.iter().for_each(Journal::stop);

    let witness = members[0].at(nodes[0].door());
    let mut acked = 0;
    for journal in journals {
        let figures = journal.verify(&witness).await;
        println!("{figures}");
        assert_eq!((figures.unknown, figures.refused), (0, 0), "everything was answered in the end");
        acked += figures.acked;
    }
    println!("{} kills, {acked} acked messages in {took:?}, none lost, none twice", rounds(KILLS));
    assert!(acked >= rounds(KILLS * ACKS_A_KILL), "{acked}");
}

#[tokio::test]
async fn a_message_committed_by_a_node_that_dies_before_the_ack_is_there_once() {
    let mut scene = Scene::start().await;
    let People { acme, alice, bob, lobby } = scene.people().await;
    let gate = Gate::build(&scene.postgres, &[&acme]).await;
    for round in 1..=rounds(2) {
        let id = format!("c{round}");
        let frame = json!({"type": "chat.message", "id": id, "message": "did it arrive?"});
        let mut a = alice.at(scene.a.door()).join(&lobby).await;

        gate.close().await;
        a.send_json(frame.clone()).await;
        gate.holds(1).await;
        scene.a_to_postgres.set(Traffic::HoldReplies).await;
        gate.open().await;
        gate.committed(&acme, &id).await;
        scene.a.kill().await;
        let (heard, _) = a.until_closed().await;
        assert!(heard.iter().all(|frame| frame["id"] != id.as_str()), "no answer came before the end: {heard:?}");

        let retried = alice.at(scene.b.door()).join(&lobby).await.acked(frame).await;
        assert_eq!((&retried["duplicate"], &retried["seq"]), (&json!(true), &json!(round)), "{retried}");
        // What the dead node held is gone with it.
        scene.a_to_postgres.set(Traffic::Refuse).await;
        scene.a_to_postgres.set(Traffic::Pass).await;
        scene.a.start_again().await;
    }
    let stored = history(&bob, &lobby).await;
    println!("{} nodes killed between commit and ack: {} messages, each once", rounds(2), stored.len());
    assert_eq!(stored.len() as u64, rounds(2));
}

#[tokio::test]
async fn a_message_committed_by_a_node_that_dies_before_the_bus_has_it_reaches_other_nodes() {
    let mut scene = Scene::start().await;
    let People { alice, bob, lobby, .. } = scene.people().await;
    let mut b = bob.join(&lobby).await;
    let mut slowest = std::time::Duration::ZERO;
    for round in 1..=rounds(2) {
        let mut a = alice.at(scene.a.door()).join(&lobby).await;
        // Joining is done on the bus, too, and is over now.
        scene.a_to_redis.set(Traffic::HoldRequests).await;
        let ack = a.say("can you hear me?").await;
        let said = Instant::now();
        scene.a.kill().await;
        let heard = b.next_of("chat.message").await;
        slowest = slowest.max(said.elapsed());
        assert_eq!((&heard["seq"], &heard["message"]["id"]), (&json!(round), &ack["message_id"]));
        // What the dead node held is gone with it.
        scene.a_to_redis.set(Traffic::Refuse).await;
        scene.a_to_redis.set(Traffic::Pass).await;
        scene.a.start_again().await;
    }
    println!("{} nodes killed between commit and bus", rounds(2));
    figure("heard elsewhere after", slowest, HEALS_WITHIN);
    // The bus had nothing to tell, so it was the comparison with the store that found each of them.
    let repairs = scene.b.broker().metric("switchboard_gap_repairs_total", &[]).await;
    assert!(repairs >= rounds(2) as f64, "{repairs}");
}
