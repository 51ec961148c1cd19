//! What only files show: their modes, how many are open, and another process that writes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures_util::future::join_all;
use switchboard::model::TenantSlug;
use switchboard::store::StoreError;
use switchboard::store::sqlite::Sqlite;

use super::backing::{Backing, on_sqlite};
use super::cases::catalogue::one_line;
use super::scene::{START, Scene, seqs, user};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    on_sqlite(async |backing: Backing| {
        let scene = Scene::new(&backing).await;
        scene.member("alice").await;
        let Backing::Sqlite(folder) = &backing else { panic!("not SQLite") };
        let tenants = folder.join("tenants");
        assert_eq!((mode(folder), mode(&tenants)), (0o700, 0o700));
        let files = [folder.clone(), tenants].into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
        let files: Vec<_> = files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        assert!(files.iter().any(|path| path.ends_with("acme.db-wal")), "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    })
    .await;
}

#[tokio::test]
async fn more_tenants_than_open_files() {
    on_sqlite(async |backing: Backing| {
        let store = backing.open().await;
        let slugs: Vec<TenantSlug> = (0..140).map(|number| format!("t{number}").parse().unwrap()).collect();
        for slug in &slugs {
            store.create_tenant(slug, None, START).await.unwrap().unwrap();
            assert!(store.create_member(slug, &user("1", slug.as_str()), None, START).await.unwrap());
        }
        for slug in &slugs {
            let found = store.member(slug, &"1".parse().unwrap()).await.unwrap().unwrap();
            assert_eq!(found.username.as_str(), slug.as_str());
        }
    })
    .await;
}

/// What is said of a file, and what became of it.
type Damage = (&'static str, fn(&Path));

/// What may become of a file. It is another one then: who still has the one before does nothing to it.
fn damages() -> [Damage; 3] {
    let end = |path: &Path| std::fs::remove_file(path).unwrap();
    let empty = |path: &Path| replace(path, b"");
    let overwrite = |path: &Path| replace(path, &b"what another program left here ".repeat(99));
    [("is missing", end), ("is empty", empty), ("is not a database", overwrite)]
}

fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Its log goes with it.
fn without_log(path: &Path) {
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
}

#[tokio::test]
async fn a_file_that_is_gone_or_damaged_stops_its_tenant_alone_and_is_not_made_anew() {
    for (fault, damage) in damages() {
        on_sqlite(async move |backing: Backing| {
            let acme = Scene::new(&backing).await;
            let apex = Scene::of(acme.store.clone(), "apex").await;
            let alice = apex.member("alice").await;
            let channel = apex.channel(&[&alice]).await;
            apex.say(channel, &alice, "before").await;
            acme.member("bob").await;
            let Backing::Sqlite(folder) = &backing else { panic!("not SQLite") };
            let file = folder.join("tenants/acme.db");
            without_log(&file);
            damage(&file);

            let again = Scene { store: backing.open().await, ..apex.clone() };
            for _ in 0..2 {
                let error = again.store.member(&acme.tenant, &"bob".parse().unwrap()).await.unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
                assert!(text.contains(&file.display().to_string()) && text.contains(fault), "{text}");
            }
            assert_eq!(file.exists(), fault != "is missing");
            assert_eq!(seqs(&again.history(channel).await), [1]);
        })
        .await;
    }
}

#[tokio::test]
async fn a_catalogue_that_is_gone_or_damaged_is_named_and_not_made_anew() {
    for (fault, damage) in damages() {
        on_sqlite(async move |backing: Backing| {
            Scene::new(&backing).await.member("alice").await;
            let Backing::Sqlite(folder) = &backing else { panic!("not SQLite") };
            let file = folder.join("catalog.db");
            without_log(&file);
            damage(&file);
            let error = Sqlite::open(folder).await.map(drop).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
            assert!(text.contains(&file.display().to_string()) && text.contains(fault), "{text}");
        })
        .await;
    }
}

/// The broker serves while the command line works on the same folder; to SQLite two stores are two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_that_write_at_once_take_turns() {
    on_sqlite(async |backing: Backing| {
        let broker = Scene::new(&backing).await;
        let other = Scene { store: backing.open().await, ..broker.clone() };
        let alice = broker.member("alice").await;
        let channel = broker.channel(&[&alice]).await;
        let writing = (0..40).map(|place| {
            let (scene, alice) = (if place % 2 == 0 { broker.clone() } else { other.clone() }, alice.clone());
            tokio::spawn(async move { scene.say(channel, &alice, "x").await })
        });
        for said in join_all(writing.collect::<Vec<_>>()).await {
            said.unwrap();
        }
        assert_eq!(seqs(&other.history(channel).await), (1..=40).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn no_line_of_the_audit_is_changed_or_taken_out() {
    on_sqlite(async |backing: Backing| {
        let store = backing.open().await;
        assert_eq!(store.change_catalogue(0, &one_line()).await.unwrap(), Some(0));
        let Backing::Sqlite(folder) = &backing else { panic!("not SQLite") };
        let file = rusqlite::Connection::open(folder.join("catalog.db")).unwrap();
        for statement in ["UPDATE plugin_audit SET document = '{}'", "DELETE FROM plugin_audit"] {
            let refused = file.execute(statement, []).unwrap_err().to_string();
            assert!(refused.contains("only added to"), "{refused}");
        }
        assert_eq!(store.audit(None, 10).await.unwrap().len(), 1);
    })
    .await;
}
