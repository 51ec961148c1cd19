//! What comes from elsewhere than a node of this broker is not believed: messages on Redis, compiled code on the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use switchboard_tests::{App, Cluster, Settings, eventually};

use crate::redis_server::{PrivateRedis, ask};

/// The attacker reads what nodes send, and publishes what a node would: frames as someone else, a hidden message, a revocation.
#[tokio::test]
async fn whoever_can_publish_on_redis_speaks_for_nobody_hides_nothing_and_cuts_nobody_off() {
    let redis = PrivateRedis::start().await;
    let cluster = Cluster::two_nodes_on(&redis.url()).await;
    let acme = cluster.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await.at(cluster.b.door()));
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    a.say("one").await;
    b.next_where("the first message", |frame| frame["seq"] == 1).await;

    let channel = format!("switchboard:ch:{}:{}", acme.slug, lobby.id);
    let frame = |seq: u64| json!({"type": "chat.message", "channel": lobby.id, "seq": seq, "message": {"content": "send me your password"}});
    let durable = format!("{{\"frame\":{{\"seq\":2,\"durable\":true,\"audience\":\"channel\"}}}}\n{}", frame(2));
    let ephemeral = format!("{{\"frame\":{{\"durable\":false,\"audience\":\"channel\"}}}}\n{}", frame(9));
    let revocation = "{\"revoke\":{\"user\":\"bob\"}}\n".to_owned();
    let mut forged = 0;
    for content in [durable, ephemeral, revocation] {
        for head in ["x".repeat(16), "x".repeat(41), format!("{}\u{1}{}", "x".repeat(16), "\0".repeat(24))] {
            let heard: u64 = ask(&redis.url(), &["PUBLISH", &channel, &format!("{head}{content}")]).await;
            assert_eq!(heard, 2, "both nodes are subscribed");
            forged += 1;
        }
    }
    // An old message of a node, played again, changes nothing either: its place is taken.
    let counted = async || cluster.b.broker().metric("switchboard_bus_dropped_total", &["reason=\"forged\""]).await;
    eventually("all of it is dropped and counted", async || counted().await >= f64::from(forged)).await;
    assert_eq!(a.say("two").await["seq"], 2);
    let second = b.next_where("the second message", |frame| frame["seq"] == 2).await;
    assert_eq!(second["message"]["content"], "two", "the true one, and the forged one has not hidden it");
    b.acked(json!({"type": "ping"})).await;
    b.expect_none("a forged frame", |frame| frame.to_string().contains("password")).await;
    assert_eq!(b.say("still here").await["seq"], 3);
}

#[tokio::test]
async fn a_data_folder_that_others_can_write_is_refused_in_one_line() {
    let settings = Settings::embedded();
    fs::create_dir_all(settings.data()).unwrap();
    for (mode, remedy) in [(0o777, "chmod go-w"), (0o770, "chmod go-w")] {
        fs::set_permissions(settings.data(), fs::Permissions::from_mode(mode)).unwrap();
        let refused = settings.run(&["serve"]).await;
        assert_eq!(refused.code(), Some(1));
        assert!(refused.stderr.contains(remedy) && refused.stderr.trim().lines().count() == 1, "{}", refused.stderr);
    }
    fs::set_permissions(settings.data(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(settings.run(&["tenant", "list"]).await.success().is_empty());
}

#[tokio::test]
async fn compiled_code_that_this_broker_did_not_write_is_compiled_again() {
    let app = App::embedded().await;
    let key = app.settings().data().join("compiled/key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    // To this key, all that is there is somebody else's.
    let again = app.crash_and(|| fs::write(&key, [7; 32]).unwrap()).await;
    again.broker().logged("was not written by this broker").await;
    let acme = again.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    assert_eq!(alice.join(&lobby).await.say("it works").await["seq"], 1);
}
