//! Holds commits back at the last moment, within the database: everything of a transaction is done but its end.

use switchboard_tests::servers::PrivatePostgres;
use switchboard_tests::{Tenant, eventually};
use tokio_postgres::Client;

/// The lock that commits wait for.
const LOCK: i64 = 4_711;

/// A gate that all messages of some tenants pass when they are committed. It is open at first.
pub(super) struct Gate {
    client: Client,
}

impl Gate {
    pub(super) async fn build(postgres: &PrivatePostgres, tenants: &[&Tenant]) -> Self {
        let client = postgres.client().await;
        // A deferred trigger runs when its transaction commits, whether that was said or comes with a lone statement.
        let pass = format!(
            "CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK}); RETURN NULL; END $$"
        );
        client.batch_execute(&pass).await.unwrap();
        for tenant in tenants {
            let built = format!(
                "CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON \"tenant_{}\".chat_message
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pass_gate()",
                tenant.slug
            );
            client.batch_execute(&built).await.unwrap();
        }
        Self { client }
    }

    /// The gate that was built before the server was started again.
    pub(super) async fn again(postgres: &PrivatePostgres) -> Self {
        Self { client: postgres.client().await }
    }

    /// From now on commits wait.
    pub(super) async fn close(&self) {
        self.client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.unwrap();
    }

    /// Lets all commits through.
    pub(super) async fn open(&self) {
        self.client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await.unwrap();
    }

    /// Waits until so many transactions wait at the gate.
    pub(super) async fn holds(&self, transactions: i64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
        eventually("commits wait at the gate", async || {
            self.client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) >= transactions
        })
        .await;
    }

    /// Waits until a message with this client id is committed, as another connection sees it.
    pub(super) async fn committed(&self, tenant: &Tenant, id: &str) {
        let stored = format!("SELECT count(*) FROM \"tenant_{}\".chat_message WHERE client_id = $1", tenant.slug);
        eventually("the message is committed", async || {
            self.client.query_one(&stored, &[&id]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
    }
}
