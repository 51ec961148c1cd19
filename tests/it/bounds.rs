//! What those who have no rights, or ordinary ones, can make a broker spend.

use futures_util::future::{join, join_all};
use serde_json::json;
use switchboard_tests::{App, Listener, Settings, Signal, eventually, mib};

/// One after the other they would cost as much memory, where each hash leaves its own behind.
#[tokio::test]
async fn wrong_passwords_cost_the_memory_of_a_few_at_once() {
    const CLIENTS: usize = 30;
    const TRIES: usize = 8;
    /// Of the broker in all: 19 MiB for each of two hashes, and what it has without any.
    const AT_MOST: u64 = 120 << 20;

    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    acme.member_with_password("alice", "correct horse battery staple").await;
    let before = app.broker().memory();
    let door = app.door();
    let tries = (0..CLIENTS).map(async |client| {
        let mut peak = 0;
        for n in 0..TRIES {
            // Right and wrong ones, and names that nobody has.
            let (name, password) = match (client + n) % 3 {
                0 => ("alice", "correct horse battery staple"),
                1 => ("alice", "wrong"),
                _ => ("nobody", "wrong"),
            };
            let (status, answer) = door.log_in(&acme.slug, name, password).await;
            assert!(matches!(status, 200 | 401 | 429), "{status}: {answer}");
            peak = u64::max(peak, app.broker().memory());
        }
        peak
    });
    let mut socket = app.tenant("apex").await.member("bob").await.connect().await;
    let talking = async {
        for _ in 0..20 {
            socket.acked(json!({"type": "ping"})).await;
        }
    };
    let (peaks, ()) = join(join_all(tries), talking).await;
    let peak = peaks.into_iter().max().expect("there were clients");
    let after = app.broker().memory();
    println!("memory: {} before {} log-ins, at most {}, {} after", mib(before), CLIENTS * TRIES, mib(peak), mib(after));
    assert!(peak <= AT_MOST, "{}", mib(peak));
    eventually("log-ins go on", async || {
        door.log_in(&acme.slug, "alice", "correct horse battery staple").await.0 == 200
    })
    .await;
}

/// A pipe holds 64 KiB, and a broker that logs everything writes as much within a few requests.
async fn serves_on_without_anyone_who_reads_its_log(listener: Listener) {
    let settings = Settings::embedded().with("SWITCHBOARD_LOG", "trace");
    let app = App::start_unheard(settings, listener).await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    let dropped = async || app.broker().metric("switchboard_log_dropped_total", &[]).await;
    let mut said = 0;
    eventually("lines of the log are dropped", async || {
        for _ in 0..20 {
            said += 1;
            assert_eq!(a.say("does anyone hear me?").await["seq"], said);
            assert_eq!(b.next_of("chat.message").await["seq"], said);
        }
        dropped().await > 0.0
    })
    .await;
    println!("{said} messages were acked and heard, {} lines of the log dropped", dropped().await);
    assert_eq!(app.door().get("/livez", None).await.0, 200);
    app.broker().ask_to_end(Signal::Terminate).await;
    assert_eq!(a.expect_close().await.code, 4200);
    assert_eq!(app.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_broker_whose_log_nobody_reads_serves_on_and_ends_when_it_is_asked_to() {
    serves_on_without_anyone_who_reads_its_log(Listener::Asleep).await;
}

#[tokio::test]
async fn a_broker_whose_log_is_closed_serves_on_and_ends_when_it_is_asked_to() {
    serves_on_without_anyone_who_reads_its_log(Listener::Gone).await;
}
