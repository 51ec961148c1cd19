//! Postgres dies, drops its clients, or falls silent: nothing is acked that is not stored, and nobody waits for long.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use switchboard_tests::journal::{Doors, Journal, Pace};
use switchboard_tests::{Goal, Member, Socket, Tenant, Traffic, eventually, figure, mib, plugin, plugin_with, rounds};
use tokio::time::{Instant, interval};

use super::gate::Gate;
use super::{Scene, acks};

/// How many messages each of the tenants has under way at once, over both nodes.
const PUBLISHERS: usize = 4;

/// What needs no store takes far less than the three seconds of a wait for it.
const NOT_HELD_UP: Goal<Duration> = Goal::AtMost(Duration::from_secs(2));

/// Within this time a frame that cannot be stored is refused: the broker waits 3 seconds for the store, and gives a commit
/// up after 4.
const REFUSED_WITHIN: Goal<Duration> = Goal::AtMost(Duration::from_secs(5));

/// The circuit opens while the catalogue cannot be changed, and what ran before comes back all the same.
#[tokio::test]
async fn a_plugin_that_traps_while_the_database_is_away_is_taken_back_when_it_is_there_again() {
    let scene = Scene::start().await;
    let people = scene.people().await;
    let operator = scene.a.operator();
    operator.deploy(plugin("versions")).await;
    operator.deploy(plugin_with("versions", "traps")).await;
    operator.activate("versions", "1.0.0", None, "").await;
    operator.activate("versions", "6.0.0", None, "").await;
    let mut socket = people.alice.join(&people.lobby).await;
    scene.a_to_postgres.set(Traffic::Refuse).await;
    for _ in 0..3 {
        assert_eq!(socket.refused(json!({"type": "versions.which"})).await["code"], 202);
    }
    scene.a.broker().logged("failed to revert a plugin; trying again").await;
    scene.a_to_postgres.set(Traffic::Pass).await;
    let mut answered = async || {
        let frame = socket.request(json!({"type": "versions.which"})).await;
        frame["type"] == "ack"
    };
    eventually("what ran before runs again", async || answered().await).await;
}

/// What a node has stored and has no answer about yet is not read from the store, where nobody's ids are.
#[tokio::test]
async fn a_node_that_learns_late_of_its_own_commit_tells_it_with_its_id() {
    let scene = Scene::start().await;
    let people = scene.people().await;
    let gate = Gate::build(&scene.postgres, &[&people.acme]).await;
    let mut alices = people.alice.join(&people.lobby).await;
    let mut bobs = people.bob.join(&people.lobby).await;
    for round in 0..rounds(3) {
        let id = format!("own-{round}");
        gate.close().await;
        alices.send_json(json!({"type": "chat.message", "id": id, "message": "own"})).await;
        gate.holds(1).await;
        scene.a_to_postgres.set(Traffic::HoldReplies).await;
        gate.open().await;
        gate.committed(&people.acme, &id).await;
        // They come to the other node over the bus, and show it that one is missing, for longer than one may be late.
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(150) {
            bobs.acked(json!({"type": "chat.message", "message": "later"})).await;
        }
        scene.a_to_postgres.set(Traffic::Pass).await;
        let own = alices.next_where("the own one", |frame| frame["message"]["content"] == "own").await;
        assert_eq!(own["client_id"], id);
    }
    assert_eq!(scene.a.broker().metric("switchboard_gap_repairs_total", &[]).await, 0.0);
}

#[tokio::test]
async fn postgres_stopped_and_backends_ended_lose_nothing_and_mix_nothing() {
    let mut scene = Scene::start().await;
    let (acme, apex) = (scene.a.tenant("acme").await, scene.a.tenant("apex").await);
    let mut gate = Gate::build(&scene.postgres, &[&acme, &apex]).await;
    let (of_acme, acme_reads) = tenant_under_load(&scene, &acme).await;
    let (of_apex, apex_reads) = tenant_under_load(&scene, &apex).await;
    let journals = [of_acme, of_apex];
    acks(&journals, 20).await;

    for round in 1..=rounds(2) {
        // In the middle of transactions: everything is written and nothing committed.
        gate.close().await;
        gate.holds(2).await;
        let ended = scene.postgres.terminate_backends().await;
        gate.open().await;
        acks(&journals, 20).await;

        scene.postgres.stop_immediately().await;
        join_all(journals.iter().map(Journal::refusals)).await;
        let acked: Vec<u64> = journals.iter().map(Journal::acked).collect();
        join_all(journals.iter().map(Journal::refusals)).await;
        assert_eq!(journals.iter().map(Journal::acked).collect::<Vec<_>>(), acked, "nothing is acked without a store");
        scene.postgres.start_again().await;
        let healed = Instant::now();
        acks(&journals, 1).await;
        let back = healed.elapsed();
        let mut caught_up = Duration::ZERO;
        for journal in &journals {
            caught_up = caught_up.max(journal.caught_up(healed).await);
        }
        println!(
            "round {round}: {ended} connections ended while commits were held; after a stop and a start acks again \
             after {back:?}, live equal to history after {caught_up:?}"
        );
        gate = Gate::again(&scene.postgres).await;
    }
    for (journal, witness) in journals.into_iter().zip([acme_reads, apex_reads]) {
        println!("{}", journal.verify(&witness).await);
    }
}

/// A tenant with a channel in which members at both nodes speak and listen.
async fn tenant_under_load(scene: &Scene, tenant: &Tenant) -> (Journal, Member) {
    let (alice, bob) = (tenant.member("alice").await, tenant.member("bob").await);
    let lobby = tenant.channel("lobby", &[&alice, &bob]).await;
    let mut journal = Journal::of(&lobby);
    let doors = Doors::new([scene.a.door(), scene.b.door()]);
    for member in [&alice, &bob] {
        journal.reader(member, &doors);
        for _ in 0..PUBLISHERS / 2 {
            journal.publisher(member, &doors, Pace::STEADY);
        }
    }
    (journal, bob)
}

#[tokio::test]
async fn a_postgres_that_falls_silent_is_waited_for_within_bounds() {
    /// How often someone types meanwhile. If typing waited for the store, all of it would take minutes.
    const TYPED: usize = 100;
    /// Errors to the publishers meanwhile: each has had several.
    const REFUSED: u64 = 200;
    const MORE_MEMORY: u64 = 64 << 20;

    let scene = Scene::start().await;
    let people = scene.people().await;
    let (alice, bob) = (people.acme.member("carol").await, people.acme.member("dave").await);
    let hall = people.acme.channel("hall", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&hall).await, bob.join(&hall).await);
    let journal = scene.load(&people, 3, Pace::FULL);
    journal.acks(200).await;

    let node = scene.a.broker();
    let before = node.memory();
    let (mut peak, mut slowest) = (before, Duration::ZERO);
    scene.postgres.freeze();
    let frozen = Instant::now();
    let (mut typed, mut pace) = (0, interval(Duration::from_millis(20)));
    while typed < TYPED || journal.retries() < REFUSED {
        slowest = slowest.max(types_to(&mut a, &mut b).await);
        typed += 1;
        peak = peak.max(node.memory());
        pace.tick().await;
    }
    let (silent, refused) = (frozen.elapsed(), journal.retries());
    scene.postgres.thaw();
    let healed = Instant::now();
    journal.acks_each(1).await;
    let back = healed.elapsed();
    journal.acks(200).await;
    let caught_up = journal.caught_up(Instant::now()).await;
    let after = node.memory();
    let figures = journal.verify(&people.bob).await;

    println!("Postgres silent for {silent:?}: {refused} frames refused, {typed} times typing and ping");
    figure("the slowest answer to a frame", figures.slowest_answer, REFUSED_WITHIN);
    figure("the slowest of typing and ping", slowest, NOT_HELD_UP);
    println!("memory of the broker: {} before, {} at most, {} after", mib(before), mib(peak), mib(after));
    println!("acks again {back:?} after its return, live equal to history {caught_up:?} later");
    println!("{figures}");
    assert!(peak < before + MORE_MEMORY, "{} more", mib(peak - before));
}

/// The frames of a channel go one after the other, and a wait for the store is not the next one's wait as well.
#[tokio::test]
async fn frames_behind_one_that_waits_for_a_silent_postgres_do_not_wait_anew() {
    const FRAMES: usize = 8;

    let scene = Scene::start().await;
    let people = scene.people().await;
    let mut a = people.alice.join(&people.lobby).await;
    a.say("before").await;
    scene.postgres.freeze();
    let sent = Instant::now();
    for n in 0..FRAMES {
        a.send_json(json!({"type": "chat.message", "id": format!("c{n}"), "message": "meanwhile"})).await;
    }
    let mut answered = Vec::new();
    for _ in 0..FRAMES {
        let error = a.next_of("error").await;
        answered.push(sent.elapsed());
        assert_eq!(error["code"], 108, "{error}");
    }
    let (first, last) = (answered[0], answered[FRAMES - 1]);
    figure("the first of them was answered after", first, REFUSED_WITHIN);
    figure("the last of them was answered after", last, REFUSED_WITHIN);
    // The first one's wait is three seconds of the broker's clock. If each waited anew, the last would take as long as all.
    assert!(last < first * FRAMES as u32 / 2, "{answered:?}");
    scene.postgres.thaw();
}

/// One types, the other sees it and asks whether anyone is there; says how long that took.
async fn types_to(one: &mut Socket, other: &mut Socket) -> Duration {
    let begun = Instant::now();
    one.send_json(json!({"type": "typing", "is_typing": true})).await;
    other.next_of("typing").await;
    other.send_json(json!({"type": "ping"})).await;
    other.next_of("pong").await;
    begun.elapsed()
}
