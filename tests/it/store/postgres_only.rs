//! What only a server can do to a store: be away, be slow, be restarted, be left in the middle of a call.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use switchboard::model::{ChannelId, User};
use switchboard::store::postgres::{Options, Postgres};
use switchboard::store::{Commit, Outcome, Store, StoreError};
use switchboard_tests::DEADLINE;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::backing::{Backing, connect, on_postgres};
use super::cases::catalogue::one_line;
use super::scene::{START, Scene, duplicate, keyed, plugin, put, texts};

/// Longer than anything here takes, and what a call may take whose end is not waited for.
const HOUR: Duration = Duration::from_secs(3_600);

/// A store with one connection, so that the next call gets the one that the last call had.
async fn single(backing: &Backing, bound: Duration) -> (Scene, Client) {
    let Backing::Postgres(url) = backing else { panic!("not a Postgres") };
    let store = Postgres::open(url, Options { connections: 1, bound, ..Options::default() }).await.unwrap();
    (Scene::of(std::sync::Arc::new(store), "acme").await, connect(url).await)
}

/// Asks the server until it says yes. Within a transaction it would go on saying what it said first.
async fn eventually(admin: &Client, question: &str) {
    let asking = async {
        while !admin.query_one(question, &[]).await.unwrap().get::<_, bool>(0) {
            admin.batch_execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
        }
    };
    timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("never: {question}"));
}

const BLOCKED: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock')";
const SETTLED: &str = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                       AND pid <> pg_backend_pid() AND state <> 'idle')";

/// As a read of a slow plugin may, which runs on threads of its own.
#[tokio::test]
async fn a_connection_that_another_runtime_asked_for_outlives_it_on_postgres() {
    on_postgres(async |backing: Backing| {
        let (scene, admin) = single(&backing, DEADLINE).await;
        let backends = async || -> Vec<i32> {
            let theirs = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                          AND application_name = 'switchboard'";
            admin.query(theirs, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
        };
        // The store has one connection, and loses it.
        for backend in backends().await {
            admin.execute("SELECT pg_terminate_backend($1)", &[&backend]).await.unwrap();
        }
        let gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                    AND application_name = 'switchboard')";
        eventually(&admin, gone).await;
        let (store, tenant) = (scene.store.clone(), scene.tenant.clone());
        let elsewhere = std::thread::spawn(move || {
            let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // The first call may find the lost one.
            other.block_on(async { while store.tenant(&tenant).await.is_err() {} });
        });
        tokio::task::spawn_blocking(move || elsewhere.join().unwrap()).await.unwrap();
        let made = backends().await;
        scene.store.tenant(&scene.tenant).await.unwrap();
        assert_eq!((made.len(), backends().await), (1, made), "it is the same connection, and still driven");
    })
    .await;
}

/// What an active member of a tenant has the store do.
async fn a_visit(scene: &Scene, channel: ChannelId, alice: &User) {
    let said = scene.say(channel, alice, "hi").await;
    scene.read(channel, alice, said.id).await;
    assert!(scene.store.role(&scene.tenant, channel, &alice.id).await.unwrap().is_some());
    assert!(scene.store.channel_summary(&scene.tenant, channel, &alice.id).await.unwrap().is_some());
    assert_eq!(scene.store.positions(&scene.tenant, &[channel]).await.unwrap().len(), 1);
    assert!(!scene.history(channel).await.is_empty() && scene.seq(channel).await > 0);
}

#[tokio::test]
async fn a_connections_statements_are_bounded_and_the_used_ones_stay_on_postgres() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let metrics = recorder.handle();
    on_postgres(async move |backing: Backing| {
        let prepared = || -> usize {
            let text = metrics.render();
            let line = text.lines().find_map(|line| line.strip_prefix("switchboard_database_prepared_total "));
            line.map_or(0, |count| count.parse().unwrap())
        };
        let Backing::Postgres(url) = &backing else { panic!("not a Postgres") };
        let admin = connect(url).await;
        // What a server's process has for itself.
        let own_kib = async || -> usize {
            let theirs = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                          AND application_name = 'switchboard'";
            let [row] = &admin.query(theirs, &[]).await.unwrap()[..] else { panic!("one connection") };
            let map = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", row.get::<_, i32>(0))).unwrap();
            let line = map.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("how much it wrote");
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let opened = async |statements: usize| {
            let options = Options { connections: 1, bound: DEADLINE, statements };
            let store: Arc<dyn Store> = Arc::new(Postgres::open(url, options).await.unwrap());
            store
        };
        let mut tenants = Vec::new();
        let enough = Options::default().statements;
        let first = opened(enough).await;
        for tenant in 0..60 {
            let scene = Scene::of(first.clone(), &format!("t{tenant}")).await;
            let alice = scene.member("alice").await;
            let channel = scene.channel(&[&alice]).await;
            tenants.push((scene, channel, alice));
        }
        let (before, fresh) = (prepared(), own_kib().await);
        for _ in 0..2 {
            for (scene, channel, alice) in &tenants {
                a_visit(scene, *channel, alice).await;
            }
            println!("{} statements are prepared for 60 tenants", prepared());
        }
        let kept = prepared() - before;
        assert_eq!(kept % tenants.len(), 0, "each was prepared once");
        let (each, all_kib) = (kept / tenants.len(), own_kib().await);
        println!("a statement takes {:.1} KiB of the server", all_kib.saturating_sub(fresh) as f64 / kept as f64);

        // With room for two tenants, the one that is there all the time keeps its own.
        let few = opened(2 * each).await;
        tenants.iter_mut().for_each(|(scene, ..)| scene.store = few.clone());
        drop(first);
        few.ping().await.unwrap();
        let one = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'switchboard'";
        eventually(&admin, one).await;
        let before = prepared();
        let (resident, visitors) = tenants.split_first().unwrap();
        for (scene, channel, alice) in visitors {
            a_visit(&resident.0, resident.1, &resident.2).await;
            a_visit(scene, *channel, alice).await;
        }
        assert_eq!(prepared() - before, kept, "one of each tenant's statements");
        let few_kib = own_kib().await;
        assert!(few_kib < all_kib / 2, "{fresh} KiB at first, {all_kib} with all, {few_kib} with few");
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_server_is_named_without_its_password() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://alice:hunter2@127.0.0.1:{closed}/chat");
    let error = Postgres::open(&url, Options::default()).await.map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(&format!("127.0.0.1:{closed}")) && !text.contains("hunter2"), "{text}");
    assert!(text.contains("refused"), "it is the first refusal that is told, and none is waited for: {text}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://alice:hunter2@{}/chat", silent.local_addr().unwrap());
    let options = Options { bound: Duration::from_millis(200), ..Options::default() };
    let opened = timeout(DEADLINE, Postgres::open(&url, options)).await.unwrap().map(drop);
    assert!(matches!(opened, Err(StoreError::Unavailable(_))), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_calls_is_no_sign_that_the_server_is_away() {
    on_postgres(async |backing: Backing| {
        let (scene, admin) = single(&backing, Duration::from_secs(3)).await;
        let alice = scene.member("alice").await;
        let channel = scene.channel(&[&alice]).await;
        scene.say(channel, &alice, "before").await;
        admin.batch_execute("BEGIN; SELECT FROM tenant_acme.chat_channel FOR UPDATE").await.unwrap();
        // Each waits for the lock until the server gives up, one after the other: most never have their turn.
        let waiting = (0..8).map(|n| {
            let (scene, commit) = (scene.clone(), scene.saying(channel, &alice, &n.to_string()));
            async move { scene.store.commit(&scene.tenant, &[commit]).await }
        });
        let refused = futures_util::future::join_all(waiting).await;
        let crowded = refused.iter().filter(|answer| format!("{answer:?}").contains("Crowded")).count();
        assert!(refused.iter().all(|answer| answer.as_ref().is_err_and(StoreError::is_unavailable)), "{refused:?}");
        assert!(crowded > 0, "{refused:?}");
        // A server that was held to be away would be asked by one call at a time, and refuse the others unasked.
        admin.batch_execute("ROLLBACK").await.unwrap();
        let (one, other) = tokio::join!(scene.seq(channel), scene.seq(channel));
        assert_eq!((one, other), (1, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_commit_leaves_no_half_transaction() {
    on_postgres(async |backing: Backing| {
        let (scene, admin) = single(&backing, HOUR).await;
        let alice = scene.member("alice").await;
        let channel = scene.channel(&[&alice]).await;
        let lock = "BEGIN; SELECT FROM tenant_acme.chat_channel FOR UPDATE";
        admin.batch_execute(lock).await.unwrap();
        let request = keyed(scene.saying(channel, &alice, "dropped"), "k", 1);
        let dropped = tokio::spawn({
            let (scene, request) = (scene.clone(), request.clone());
            async move { scene.commit(&request).await }
        });
        eventually(&admin, BLOCKED).await;
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());

        // The next user has a connection at once, though the dropped statement still waits for the lock.
        let next = timeout(DEADLINE, scene.seq(channel)).await.expect("it does not wait behind the other");
        assert_eq!(next, 0);
        admin.batch_execute("ROLLBACK").await.unwrap();
        eventually(&admin, SETTLED).await;

        // Whether the server finished the dropped commit is its own affair: there is one message after a repetition.
        match scene.commit(&request).await {
            Outcome::Done(done) => assert_eq!(done.receipt.seq, 1),
            other => assert_eq!(duplicate(other).seq, 1),
        }
        assert_eq!((texts(&scene.history(channel).await), scene.seq(channel).await), (vec!["dropped".to_owned()], 1));
        assert_eq!(scene.say(channel, &alice, "next").await.seq, 2);
        eventually(&admin, SETTLED).await;
    })
    .await;
}

/// Its caller goes away after the first wait, after the second, and so on until it stays to the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_commit_of_keys_and_a_message_leaves_both_or_neither() {
    on_postgres(async |backing: Backing| {
        let (scene, admin) = single(&backing, Duration::from_secs(5)).await;
        let alice = scene.member("alice").await;
        let channel = scene.channel(&[&alice]).await;
        let (mut dropped, mut stayed) = (0, 0);
        while stayed < 3 {
            let before = texts(&scene.history(channel).await).len().to_string();
            let next = (before.parse::<usize>().unwrap() + 1).to_string();
            let commit = Commit {
                kv: Some((plugin("poll"), vec![put("count", &next)])),
                ..scene.saying(channel, &alice, &next)
            };
            let batch = [commit];
            let mut committing = scene.store.commit(&scene.tenant, &batch);
            let mut waits = 0;
            let whole = std::future::poll_fn(|task| match committing.as_mut().poll(task) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if waits == dropped => Poll::Ready(None),
                Poll::Pending => {
                    waits += 1;
                    Poll::Pending
                }
            })
            .await;
            drop(committing);
            match whole {
                Some(answer) => {
                    assert!(matches!(answer.unwrap()[..], [Outcome::Done(_)]));
                    stayed += 1;
                }
                None => dropped += 1,
            }
            eventually(&admin, SETTLED).await;
            let kept = scene.store.kv_get(&scene.tenant, &plugin("poll"), "count", START).await.unwrap();
            let count = kept.map_or("0".to_owned(), |entry| String::from_utf8(entry.value).unwrap());
            assert_eq!(count, scene.history(channel).await.len().to_string(), "after {dropped} waits");
        }
        println!("dropped after each of {dropped} waits");
        assert!(dropped > 3, "it is more than one statement");
    })
    .await;
}

/// A future that nobody polls is a node that stands still: its connection is there, and nothing comes through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_freezes_in_a_transaction_does_not_keep_its_locks() {
    on_postgres(async |backing: Backing| {
        // A node's transaction may stand still for a sixth of this, and another one waits a quarter for a lock.
        let bound = Duration::from_secs(12);
        let (scene, admin) = single(&backing, bound).await;
        let alice = scene.member("alice").await;
        let channel = scene.channel(&[&alice]).await;
        let voting = |text: &str| Commit {
            kv: Some((plugin("poll"), vec![put("votes", text)])),
            ..scene.saying(channel, &alice, text)
        };
        admin.batch_execute("BEGIN; SELECT FROM tenant_acme.chat_channel FOR UPDATE").await.unwrap();
        let batch = [voting("frozen")];
        let mut frozen = scene.store.commit(&scene.tenant, &batch);
        tokio::select! {
            answer = &mut frozen => panic!("{answer:?}"),
            () = eventually(&admin, BLOCKED) => {}
        }
        admin.batch_execute("ROLLBACK").await.unwrap();
        let Backing::Postgres(url) = &backing else { panic!("not a Postgres") };
        let store = Postgres::open(url, Options { connections: 1, bound, ..Options::default() }).await.unwrap();
        let other = Scene { store: std::sync::Arc::new(store), ..scene.clone() };
        let done = timeout(DEADLINE, other.done(&voting("goes on"))).await.expect("the locks are given back");
        assert_eq!(done.receipt.seq, 1);
        let thawed = frozen.await;
        assert!(matches!(thawed, Err(StoreError::Unavailable(_))), "{thawed:?}");
        assert_eq!(texts(&other.history(channel).await), ["goes on"]);
        let kept = other.store.kv_get(&other.tenant, &plugin("poll"), "votes", START).await.unwrap().unwrap();
        assert_eq!(kept.value, b"goes on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_too_long_fails_and_the_next_one_works() {
    on_postgres(async |backing: Backing| {
        let (scene, admin) = single(&backing, Duration::from_secs(3)).await;
        let alice = scene.member("alice").await;
        let channel = scene.channel(&[&alice]).await;
        admin.batch_execute("BEGIN; SELECT FROM tenant_acme.chat_channel FOR UPDATE").await.unwrap();
        let commit = [scene.saying(channel, &alice, "late")];
        let late = timeout(DEADLINE, scene.store.commit(&scene.tenant, &commit)).await.expect("a call ends");
        assert!(matches!(late, Err(StoreError::Contended)), "{late:?}");
        eventually(&admin, &BLOCKED.replacen("SELECT", "SELECT NOT", 1)).await;
        admin.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(scene.say(channel, &alice, "in time").await.seq, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ended_every_connection_is_found_again() {
    on_postgres(async |backing: Backing| {
        let (scene, admin) = single(&backing, Duration::from_secs(5)).await;
        scene.store.ping().await.unwrap();
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        admin.batch_execute(end).await.unwrap();
        let back = async {
            while let Err(error) = scene.store.ping().await {
                assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            }
        };
        timeout(DEADLINE, back).await.expect("the store connects again");
    })
    .await;
}

/// A wire to the server that can be cut: connections stay and nothing comes through any more, as when a network is split.
struct Wire {
    address: std::net::SocketAddr,
    whole: tokio::sync::watch::Sender<bool>,
}

impl Wire {
    async fn to(server: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, (whole, cut)) = (listener.local_addr().unwrap(), tokio::sync::watch::channel(true));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut cut) = (server.clone(), cut.clone());
                tokio::spawn(async move {
                    drop(cut.wait_for(|whole| *whole).await);
                    let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
                    let torn = async { drop(cut.wait_for(|whole| !*whole).await) };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = torn => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, whole }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_calls_fail_at_once_and_it_is_found_again() {
    on_postgres(async |backing: Backing| {
        let Backing::Postgres(url) = &backing else { panic!("not a Postgres") };
        let (host, name) = url.rsplit_once('@').unwrap().1.split_once('/').unwrap();
        let wire = Wire::to(host.to_owned()).await;
        let bound = Duration::from_secs(1);
        let through = format!("postgres://postgres@{}/{name}", wire.address);
        let store = Postgres::open(&through, Options { connections: 4, bound, ..Options::default() }).await.unwrap();
        let scene = Scene::of(std::sync::Arc::new(store), "acme").await;
        let alice = scene.member("alice").await;
        let channel = scene.channel(&[&alice]).await;
        scene.say(channel, &alice, "before").await;

        wire.whole.send_replace(false);
        let commit = [scene.saying(channel, &alice, "meanwhile")];
        let first = timeout(DEADLINE, scene.store.commit(&scene.tenant, &commit)).await.expect("a call ends");
        assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
        // Somebody looks for the server meanwhile, and it is none of the callers: one that waited would say so.
        let began = Instant::now();
        let calls = (0..200).map(|_| scene.store.commit(&scene.tenant, &commit));
        for answer in futures_util::future::join_all(calls).await {
            assert!(matches!(answer, Err(StoreError::Away)), "{answer:?}");
        }
        for _ in 0..200 {
            let answer = scene.store.ping().await;
            assert!(matches!(answer, Err(StoreError::Away)), "{answer:?}");
        }
        println!("400 calls failed in {:?}", began.elapsed());

        wire.whole.send_replace(true);
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        let back = async {
            while scene.store.ping().await.is_err() {
                pace.tick().await;
            }
        };
        timeout(DEADLINE, back).await.expect("it is found again without a restart");
        scene.say(channel, &alice, "after").await;
        // Whether the first one got through before the wire was cut is open.
        let mut said = texts(&scene.history(channel).await);
        said.retain(|text| text != "meanwhile");
        assert_eq!(said, ["before", "after"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_of_a_newer_broker_is_refused() {
    on_postgres(async |backing: Backing| {
        let (_, admin) = single(&backing, Duration::from_secs(5)).await;
        let newer = "INSERT INTO tenant_acme.refinery_schema_history \
                     SELECT 99, 'newer', applied_on, checksum FROM tenant_acme.refinery_schema_history LIMIT 1";
        admin.batch_execute(newer).await.unwrap();
        let Backing::Postgres(url) = &backing else { panic!("not a Postgres") };
        let refused = Postgres::open(url, Options::default()).await.map(drop);
        let text = format!("{:?}", refused.as_ref().unwrap_err());
        assert!(matches!(refused, Err(StoreError::Migrate { .. })) && text.contains("tenant_acme"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_schema_that_is_gone_stops_its_tenant_alone_and_is_not_made_anew() {
    on_postgres(async |backing: Backing| {
        let (scene, admin) = single(&backing, Duration::from_secs(5)).await;
        let other = Scene::of(scene.store.clone(), "apex").await;
        let alice = other.member("alice").await;
        let channel = other.channel(&[&alice]).await;
        other.say(channel, &alice, "before").await;
        admin.batch_execute("DROP SCHEMA tenant_acme CASCADE").await.unwrap();

        let again = Scene { store: backing.open().await, ..other.clone() };
        assert_eq!(texts(&again.history(channel).await), ["before"]);
        assert!(again.store.member(&scene.tenant, &"1".parse().unwrap()).await.is_err());
        let made = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'tenant_acme')";
        assert!(!admin.query_one(made, &[]).await.unwrap().get::<_, bool>(0));
    })
    .await;
}

#[tokio::test]
async fn no_line_of_the_audit_is_changed_or_taken_out() {
    on_postgres(async |backing: Backing| {
        let (scene, admin) = single(&backing, Duration::from_secs(5)).await;
        assert_eq!(scene.store.change_catalogue(0, &one_line()).await.unwrap(), Some(0));
        for statement in ["UPDATE switchboard.plugin_audit SET document = '{}'", "DELETE FROM switchboard.plugin_audit"]
        {
            let refused = admin.batch_execute(statement).await.unwrap_err();
            let reason = refused.as_db_error().expect("the server's own words").message();
            assert!(reason.contains("only added to"), "{reason}");
        }
        assert_eq!(scene.store.audit(None, 10).await.unwrap().len(), 1);
    })
    .await;
}
