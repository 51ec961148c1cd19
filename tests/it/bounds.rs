//! What those who have no rights, or ordinary ones, can make a broker spend.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::json;
use switchboard_tests::raw::{RawSocket, TEXT_BEGIN};
use switchboard_tests::{
    ADMIN_TOKEN, App, DEADLINE, Door, Goal, Latencies, Listener, Member, Settings, Signal, Socket, eventually, figure,
    mib, number,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

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
    let apex = app.tenant("apex").await;
    let bob = apex.member("bob").await;
    let mut socket = bob.join(&apex.channel("lobby", &[&bob]).await).await;
    let alone = acks(&mut socket, || false).await;
    let before = app.broker().memory();
    let door = app.door();
    let tries = (0..CLIENTS).map(async |client| {
        let mut peak = 0;
        for n in 0..TRIES {
            // Right and wrong ones, and names that nobody has.
            let (name, password) = match (client + n) % 3 {
                0 => ("alice".to_owned(), "correct horse battery staple"),
                1 => ("alice".to_owned(), "wrong"),
                // A name has few tries, and a storm has many names.
                _ => (format!("nobody-{client}-{n}"), "wrong"),
            };
            let (status, answer) = door.log_in(&acme.slug, &name, password).await;
            assert!(matches!(status, 200 | 401 | 429), "{status}: {answer}");
            peak = u64::max(peak, app.broker().memory());
        }
        peak
    });
    let over = AtomicBool::new(false);
    let storm = async {
        let peaks = join_all(tries).await;
        over.store(true, Ordering::Relaxed);
        peaks
    };
    let (peaks, beside) = join(storm, acks(&mut socket, || !over.load(Ordering::Relaxed))).await;
    let peak = peaks.into_iter().max().expect("there were clients");
    let after = app.broker().memory();
    println!("memory: {} before {} log-ins, at most {}, {} after", mib(before), CLIENTS * TRIES, mib(peak), mib(after));
    assert!(peak <= AT_MOST, "{}", mib(peak));
    for per_mille in [500, 990] {
        let (alone, beside) = (alone.per_mille(per_mille), beside.per_mille(per_mille));
        println!("of 1000 acks {per_mille} took at most {alone:.1?} alone and {beside:.1?} beside the log-ins");
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        figure(&format!("acks beside log-ins / alone, at {per_mille} per mille"), ratio, Goal::AtMost(3.0));
    }
    eventually("log-ins go on", async || {
        door.log_in(&acme.slug, "alice", "correct horse battery staple").await.0 == 200
    })
    .await;
}

/// How long acks take, a hundred at least, and for as long as is said.
async fn acks(socket: &mut Socket, go_on: impl Fn() -> bool) -> Latencies {
    let mut took = Vec::new();
    for said in 0.. {
        if said >= 100 && !go_on() {
            break;
        }
        let began = Instant::now();
        socket.say("is anybody there?").await;
        took.push(began.elapsed());
    }
    took.into_iter().collect()
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

/// The status that a request has in the end, of which a piece is sent again and again.
async fn status_of(address: SocketAddr, head: String, piece: &[u8], pause: Duration) -> String {
    let (mut reads, mut writes) = TcpStream::connect(address).await.unwrap().into_split();
    writes.write_all(head.as_bytes()).await.unwrap();
    let sending = async {
        let mut pace = interval(pause);
        loop {
            pace.tick().await;
            // Once nobody takes it any more the answer is on its way.
            let _ = writes.write_all(piece).await;
        }
    };
    let mut line = [0; 12];
    let answered = async {
        tokio::select! {
            answered = reads.read_exact(&mut line) => drop(answered.expect("an answer")),
            () = sending => {}
        }
    };
    timeout(DEADLINE, answered).await.expect("an answer comes");
    String::from_utf8(line.to_vec()).unwrap().split_off(9)
}

/// Waits until a connection is hung up on, to which this was sent and then a byte each second.
async fn is_hung_up_on(address: SocketAddr, first: &[u8], then: Option<u8>) {
    let (mut reads, mut writes) = TcpStream::connect(address).await.unwrap().into_split();
    writes.write_all(first).await.unwrap();
    let sending = async {
        let mut pace = interval(Duration::from_secs(1));
        loop {
            pace.tick().await;
            if let Some(byte) = then {
                let _ = writes.write_all(&[byte]).await;
            }
        }
    };
    let mut answer = Vec::new();
    let hung_up = async {
        tokio::select! {
            // However it ends: with an answer before it, or with a reset by what was sent too late.
            _ = reads.read_to_end(&mut answer) => {}
            () = sending => {}
        }
    };
    timeout(DEADLINE, hung_up).await.expect("the broker hangs up");
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_head_that_does_not_come_or_does_not_end_is_not_waited_for() {
    let app = App::embedded().await;
    let half = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    let listeners = [app.door().address(), app.broker().admin_address()];
    join_all(listeners.into_iter().map(async |address| {
        join(is_hung_up_on(address, half, None), is_hung_up_on(address, half, Some(b'x'))).await;
    }))
    .await;
    assert_eq!(app.door().get("/livez", None).await.0, 200);
}

/// What a connection pool does: it asks, waits, and asks again.
async fn asks(connection: &mut TcpStream) {
    let exchange = async {
        connection.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"live\n") {
            answer.push(connection.read_u8().await.expect("the connection is still open"));
        }
    };
    timeout(DEADLINE, exchange).await.expect("an answer comes");
}

#[tokio::test]
async fn a_connection_may_pause_between_requests_for_longer_than_a_head_may_take() {
    /// A head may take 10 seconds.
    const PAUSE: Duration = Duration::from_secs(12);
    let app = App::embedded().await;
    let listeners = [app.door().address(), app.broker().admin_address()];
    join_all(listeners.into_iter().map(async |address| {
        let mut connection = TcpStream::connect(address).await.unwrap();
        asks(&mut connection).await;
        tokio::time::sleep(PAUSE).await;
        asks(&mut connection).await;
        // The next head has no longer than the first.
        connection.write_all(b"GET /livez HT").await.unwrap();
        let mut rest = Vec::new();
        let hung_up = timeout(Duration::from_secs(60), connection.read_to_end(&mut rest));
        let _ = hung_up.await.expect("the broker hangs up sooner than after a pause");
    }))
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_or_does_not_end_is_not_waited_for() {
    let app = App::embedded().await;
    let (clients, operators) = (app.door().address(), app.broker().admin_address());
    let log_in = |how: &str| {
        format!("POST /api/token/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{how}\r\n\r\n")
    };
    let decide = format!(
        "PUT /api/policies/poll/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Length: 5000\r\n\r\n"
    );
    let (second, moment) = (Duration::from_secs(1), Duration::from_millis(1));
    let chunk = [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat();
    let statuses = futures_util::join!(
        status_of(clients, log_in("Content-Length: 5000"), b"", second),
        status_of(clients, log_in("Content-Length: 5000"), b" ", second),
        status_of(operators, decide, b" ", second),
        status_of(clients, log_in("Transfer-Encoding: chunked"), &chunk, moment),
        status_of(clients, log_in("Content-Length: 9000000"), b"", second),
    );
    assert_eq!(statuses, ("408".into(), "408".into(), "408".into(), "413".into(), "413".into()));
    assert_eq!(app.broker().metric("switchboard_requests_late_total", &[]).await, 3.0);
}

#[tokio::test]
async fn idle_connections_take_no_descriptor_from_those_who_serve() {
    const IDLE: usize = 300;
    let app = App::start(Settings::embedded().with_descriptors(200)).await;
    let listening = app.broker().events("listening").remove(0);
    let (all, connections) = (number(&listening, "descriptors"), number(&listening, "connections"));
    println!("of {all} descriptors {connections} are for clients, {} for their sockets", listening["sockets"]);
    assert_eq!(all, 200);
    let tenants = [app.tenant("acme").await, app.tenant("apex").await];
    let mut rooms = Vec::new();
    for tenant in &tenants {
        let (alice, bob) = (tenant.member("alice").await, tenant.member("bob").await);
        let lobby = tenant.channel("lobby", &[&alice, &bob]).await;
        rooms.push((alice.join(&lobby).await, bob.join(&lobby).await));
    }

    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(app.door().address()).await.unwrap());
    }
    let refused = async || app.broker().metric("switchboard_connections_refused_total", &[]).await;
    eventually("some are hung up on", async || refused().await >= (IDLE as u64 - connections) as f64).await;
    for n in 1..=10 {
        for (a, b) in &mut rooms {
            assert_eq!(a.say("we do not notice").await["seq"], n);
            assert_eq!(b.next_of("chat.message").await["seq"], n);
        }
        let (status, ready) = Door::new(app.broker().admin_address()).get("/readyz", None).await;
        assert_eq!((status, ready), (200, json!("ready\n")));
    }
    println!("{} of {IDLE} idle connections were hung up on", refused().await);
    drop(idle);
    let newcomer = tenants[0].member("carol").await;
    eventually("there is room again", async || app.door().try_get("/api/me/", &newcomer.token).await.is_some()).await;
}

#[tokio::test]
async fn with_too_few_descriptors_a_start_says_what_to_do() {
    let settings = Settings::embedded().with_descriptors(64);
    let exit = settings.run(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).await;
    assert_eq!(exit.code(), Some(1), "{exit:?}");
    assert!(exit.stderr.contains("64 open files") && exit.stderr.contains("ulimit -n"), "{exit:?}");
}

/// Who has shown no token holds no place of those who have.
#[tokio::test]
async fn strangers_keep_no_member_out() {
    const STRANGERS: usize = 40;
    let app = App::start(Settings::embedded().with("SWITCHBOARD_MAX_CONNECTIONS", "20")).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let address = app.door().address();
    let mut strangers: Vec<RawSocket> =
        join_all((0..STRANGERS).map(async |_| RawSocket::open(address, "/ws/").await)).await;
    let turned_away =
        async || app.broker().metric("switchboard_sessions_dropped_total", &["reason=\"unauthenticated\""]).await;
    eventually("some of them are sent away at once", async || turned_away().await > 0.0).await;
    let sockets = join_all((0..20).map(|_| alice.join(&lobby))).await;
    assert_eq!(alice.knock(&lobby).await.expect_close().await.code, 4100, "twenty are as many as there may be");
    println!("{} strangers of {STRANGERS} were sent away, and {} members are in", turned_away().await, sockets.len());
    for stranger in &mut strangers {
        assert!(matches!(stranger.expect_close().await.code, 4005 | 4100));
    }
}

#[tokio::test]
async fn a_member_and_a_tenant_have_a_share_of_the_sockets() {
    let settings = Settings::embedded()
        .with("SWITCHBOARD_MAX_CONNECTIONS_PER_TENANT", "3")
        .with("SWITCHBOARD_MAX_CONNECTIONS_PER_MEMBER", "2");
    let app = App::start(settings).await;
    let (acme, apex) = (app.tenant("acme").await, app.tenant("apex").await);
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (phone, _laptop) = (alice.join(&lobby).await, alice.connect().await);
    assert_eq!(alice.knock(&lobby).await.expect_close().await.code, 4100, "her share is two");
    let mut b = bob.join(&lobby).await;
    assert_eq!(bob.knock(&lobby).await.expect_close().await.code, 4100, "the tenant's share is three");
    let _other = apex.member("alice").await.connect().await;
    phone.leave().await;
    eventually("her place is free", async || alice.knock(&lobby).await.is_greeted().await).await;
    b.say("who is in does not notice").await;
}

/// Sockets of a client that begin a message of nearly the largest size and never end it.
async fn unfinished(app: &App, member: &Member, from: [u8; 4], count: usize) -> Vec<RawSocket> {
    let path = format!("/ws/?token={}", member.token);
    let opening = (0..count).map(async |_| {
        let mut socket = RawSocket::open_from(from.into(), app.door().address(), &path).await;
        socket.text_with("welcome").await;
        socket.send(TEXT_BEGIN, &[b'x'; 250_000]).await;
        socket
    });
    join_all(opening).await
}

/// An address has a quarter of what there is for messages that are not complete, and all of them have no more than that.
#[tokio::test]
async fn messages_that_never_end_cost_a_bounded_amount_of_memory() {
    const SOCKETS: usize = 80;
    /// What one of these messages takes, and how many fit into the share of an address.
    const SHARE: usize = (16 << 20) / (256 << 10);
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    let before = app.broker().memory();
    let dropped = async || app.broker().metric("switchboard_sessions_dropped_total", &["reason=\"unfinished\""]).await;
    let held = async || app.broker().metric("switchboard_unfinished_bytes", &[]).await;

    let mut crowds = Vec::new();
    for last in 2..=4 {
        let member = acme.member(&format!("member {last}")).await;
        crowds.push(unfinished(&app, &member, [127, 0, 0, last], SOCKETS).await);
        let beyond = (crowds.len() * (SOCKETS - SHARE)) as f64;
        eventually("those beyond the share are closed", async || dropped().await >= beyond).await;
        // Whoever is on another address has room for messages of any size.
        a.say(&"long ".repeat(1_500)).await;
        a.acked(json!({"type": "chat.message", "message": "padded", "padding": "x".repeat(60_000)})).await;
        assert_eq!(b.next_of("chat.message").await["type"], "chat.message");
    }
    for last in 5..=6 {
        let member = acme.member(&format!("member {last}")).await;
        crowds.push(unfinished(&app, &member, [127, 0, 0, last], SOCKETS).await);
    }
    let beyond = (crowds.len() * SOCKETS - 4 * SHARE) as f64;
    eventually("those beyond the budget are closed", async || dropped().await >= beyond).await;
    // Small messages take nothing of it.
    for _ in 0..10 {
        a.say("we do not notice").await;
    }
    let (bytes, peak) = (held().await, app.broker().peak_memory());
    println!(
        "{} messages of 250,000 bytes were begun: {} are held, {} sockets closed; memory {} before, at most {}",
        crowds.len() * SOCKETS,
        mib(bytes as u64),
        dropped().await,
        mib(before),
        mib(peak)
    );
    assert!(bytes <= f64::from(64 << 20), "{bytes}");
    // And what sockets cost, and the allocator keeps.
    assert!(peak <= before + (112 << 20), "{} before, {}", mib(before), mib(peak));
    let closes =
        join_all(crowds.pop().into_iter().flatten().map(async |mut socket| socket.expect_close().await.code)).await;
    assert!(closes.iter().all(|code| *code == 4102), "{closes:?}");
    drop(crowds);
    eventually("what was held is free", async || held().await == 0.0).await;
}
