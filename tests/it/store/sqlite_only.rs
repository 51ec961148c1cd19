//! What only files show: their modes, how many are open, and another process that writes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures_util::future::join_all;
use switchboard::model::TenantSlug;

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
