//! Clients are told apart by their addresses, also behind a proxy: what one of them takes, others still have.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::future::join_all;
use serde_json::json;
use switchboard_tests::raw::{RawSocket, connect_from};
use switchboard_tests::{App, Door, Settings, Tenant, eventually};

/// Another address than that of all other clients of the tests.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const PASSWORD: &str = "correct horse battery staple";

/// Tries to log in until that is refused for a while: how many tries were answered before, and the seconds to wait.
async fn exhaust(door: &Door, tenant: &Tenant, name: impl Fn(usize) -> String) -> (usize, u64) {
    const AT_ONCE: usize = 20;
    const AT_MOST: usize = 2_000;
    for first in (0..AT_MOST).step_by(AT_ONCE) {
        let tries = (first..first + AT_ONCE).map(async |n| door.try_to_log_in(&tenant.slug, &name(n), "wrong").await);
        let answers = join_all(tries).await;
        assert!(answers.iter().all(|(status, _)| matches!(status, 401 | 429)), "{answers:?}");
        if let Some(after) = answers.iter().find_map(|(status, after)| (*status == 429).then_some(*after)) {
            let answered = answers.iter().filter(|(status, _)| *status == 401).count();
            return (first + answered, after.expect("the answer says when to come again"));
        }
    }
    panic!("{AT_MOST} wrong passwords were all answered");
}

#[tokio::test]
async fn wrong_passwords_are_bounded_for_a_name_and_others_still_log_in() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    for name in ["alice", "bob"] {
        acme.member_with_password(name, PASSWORD).await;
    }
    let door = app.door();
    for name in ["alice", "nobody"] {
        let (answered, after) = exhaust(door, &acme, |_| name.to_owned()).await;
        println!("{name}: {answered} tries were answered, and the next may come after {after} s");
        // One more comes every six seconds, on a slow machine while the others are answered.
        assert!((10..20).contains(&answered) && (1..=6).contains(&after), "{name}: {answered} {after}");
    }
    let (status, error) = door.log_in(&acme.slug, "alice", PASSWORD).await;
    if status != 200 {
        assert_eq!(
            (status, &error["error"]["code"], &error["error"]["retryable"]),
            (429, &json!("rate_limited"), &json!(true))
        );
    }
    assert_eq!(door.log_in(&acme.slug, "bob", PASSWORD).await.0, 200);
    let refused = app.broker().metric("switchboard_log_ins_refused_total", &["limit=\"name\""]).await;
    assert!(refused >= 1.0, "{refused}");
    eventually("she logs in when there is a try again", async || {
        door.log_in(&acme.slug, "alice", PASSWORD).await.0 == 200
    })
    .await;
    for _ in 0..5 {
        assert_eq!(
            door.try_to_log_in(&acme.slug, "alice", "wrong").await.0,
            401,
            "the right password makes a new start"
        );
    }
}

#[tokio::test]
async fn wrong_passwords_are_bounded_for_an_address_also_behind_a_trusted_proxy() {
    let app = App::start(Settings::embedded().with("SWITCHBOARD_TRUSTED_PROXY", "127.0.0.1")).await;
    let acme = app.tenant("acme").await;
    acme.member_with_password("alice", PASSWORD).await;
    let (proxy, direct) = (|text| app.door().of(PROXY, text), |text| app.door().of(STRANGER, text));
    let names = |n: usize| format!("name-{n}");
    // Nobody trusts this one, so that what it says of others does not help it.
    let (answered, _) = exhaust(&direct("192.0.2.1"), &acme, names).await;
    println!("{answered} tries of as many names were answered");
    assert!(answered >= 300, "{answered}");
    // It is the same client in the words of a proxy that is trusted. Meanwhile five tries a second become free.
    for same in [direct("192.0.2.2"), proxy("198.51.100.1, 127.0.0.2")] {
        let (answered, _) = exhaust(&same, &acme, names).await;
        assert!(answered < 150, "{answered}");
    }
    let neighbour = proxy("127.0.0.2, 203.0.113.8");
    assert_eq!(neighbour.log_in(&acme.slug, "alice", PASSWORD).await.0, 200);
}

/// Connections that say nothing, as many as an attacker likes. Those of others wait for none of them.
#[tokio::test]
async fn an_address_that_connects_again_and_again_keeps_nobody_else_out() {
    const IDLE: usize = 300;
    let app = App::start(Settings::embedded().with_descriptors(1_024)).await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member_with_password("alice", PASSWORD).await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let idle = join_all((0..IDLE).map(|_| connect_from(STRANGER, app.door().address()))).await;
    let hung_up = async |reason: &str| app.broker().metric("switchboard_connections_refused_total", &[reason]).await;
    eventually("the stranger is hung up on", async || hung_up("reason=\"address\"").await > 0.0).await;
    let mut bobs = bob.join(&lobby).await;
    for n in 1..=20 {
        assert_eq!(app.door().log_in(&acme.slug, "alice", PASSWORD).await.0, 200);
        let mut alices = alice.join(&lobby).await;
        assert_eq!(alices.say("nobody keeps me out").await["seq"], n);
        assert_eq!(bobs.next_of("chat.message").await["seq"], n);
        alices.leave().await;
    }
    assert_eq!(hung_up("reason=\"connections\"").await, 0.0, "there was always a place for others");
    app.broker().logged("dropped a connection").await;
    let lines = app.broker().stderr().lines().filter(|line| line.contains("dropped a connection")).count();
    println!("{} of {IDLE} connections were hung up on, in {lines} lines of the log", hung_up("address").await);
    assert!((lines as f64) < hung_up("address").await, "{lines}");
    drop(idle);
}

#[tokio::test]
async fn an_address_has_a_share_of_the_sockets() {
    let app = App::start(Settings::embedded().with("SWITCHBOARD_MAX_CONNECTIONS_PER_ADDRESS", "2")).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let (phone, _laptop) = (alice.join(&lobby).await, alice.join(&lobby).await);
    assert_eq!(alice.knock(&lobby).await.expect_close().await.code, 4100, "her address has its share");
    let path = format!("/ws/?token={}", alice.token);
    let mut elsewhere = RawSocket::open_from(STRANGER, app.door().address(), &path).await;
    elsewhere.text_with("welcome").await;
    let dropped = app.broker().metric("switchboard_sessions_dropped_total", &["reason=\"address_limit\""]).await;
    assert_eq!(dropped, 1.0);
    phone.leave().await;
    eventually("her place is free", async || alice.knock(&lobby).await.is_greeted().await).await;
}
