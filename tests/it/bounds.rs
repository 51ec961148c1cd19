//! What those who have no rights, or ordinary ones, can make a broker spend.

use futures_util::future::{join, join_all};
use switchboard_tests::{App, eventually, mib};

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
            socket.acked(serde_json::json!({"type": "ping"})).await;
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
