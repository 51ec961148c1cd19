//! The pool, and the two ways of statements through it.
//!
//! Nearly every call of the store is a single statement outside any transaction block, so it is atomic by itself and costs
//! one round trip. The other way is a [`Block`]. Nothing here changes a setting of a session: whoever gets a connection
//! next finds nothing of whoever had it before.

use std::error::Error as StdError;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Row};

use super::circuit::Circuit;
use super::places::Places;
use super::pool::{Connection, Pool, PoolError, Pooled, STATEMENTS, pool};
use crate::StoreError;
use switchboard_model::TenantSlug;

/// How the broker uses the server.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many connections the pool holds at most. Migrations and the making of a tenant take one more.
    pub connections: usize,
    /// How long a call may take, the wait for a connection counted in.
    pub bound: Duration,
    /// How many prepared statements a connection keeps; those used longest ago go first.
    pub statements: usize,
}

impl Default for Options {
    /// 16 connections of 750 statements, 3 seconds: a client has its answer within 5, whatever else it had to wait for.
    fn default() -> Self {
        Self { connections: 16, bound: Duration::from_secs(3), statements: STATEMENTS }
    }
}

/// A parameter of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// How long whoever looks for an absent server waits for its answer.
const LOOK: Duration = Duration::from_secs(1);

/// How long after a look the next one follows.
const PACE: Duration = Duration::from_millis(250);

/// A plan is made once and kept, it looks rows up in an index at any size of a table, and it is not compiled to machine
/// code, which takes many times as long as running it. `docs/decisions/0009-plans-are-made-once.md` says why.
const PLANS: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off";

/// A database and how to reach it.
pub(super) struct Database {
    pool: Pool,
    places: Places,
    circuit: Arc<Circuit>,
    pub(super) config: Config,
    pub(super) address: String,
    pub(super) bound: Duration,
}

impl Database {
    /// Reads the address; connects to nothing yet.
    pub(super) fn new(url: &str, options: &Options) -> Result<Self, StoreError> {
        // The parser's own error may quote the address, password and all.
        let mut config: Config = url.parse().map_err(|_| StoreError::Failed(Box::new(Unreadable)))?;
        let bound = options.bound;
        // The server gives up first: a statement that waits for a lock is no sign that the server is away.
        let millis = (bound * 7 / 8).as_millis();
        // Twice, so that what waited with a locked row can still be done without it.
        let locked = (bound / 2).as_millis();
        let given = config.get_options().unwrap_or_default();
        let settings = format!("{given} -c statement_timeout={millis} -c lock_timeout={locked} {PLANS}");
        config.options(&settings);
        config.connect_timeout(bound).tcp_user_timeout(bound);
        if config.get_application_name().is_none() {
            config.application_name("switchboard");
        }
        // A node that stops in the middle of a transaction, without a word, must not keep its locks for longer than others
        // wait for them. Who migrates may take its time.
        let mut pooled = config.clone();
        let idle = (bound / 6).as_millis();
        pooled.options(format!("{settings} -c idle_in_transaction_session_timeout={idle}"));
        let pool = pool(pooled, options.connections, options.statements);
        let places = Places::new(options.connections);
        Ok(Self { pool, places, circuit: Arc::default(), address: address(&config), config, bound })
    }

    /// Gives a call its time and not more, once it is its turn; none at all while the server is known to be away. A turn
    /// that does not come says that others are many, and nothing about the server. Calls of one tenant have half of the
    /// connections at most.
    pub(super) async fn bounded<T>(
        &self,
        tenant: Option<&TenantSlug>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let place = timeout(self.bound, self.places.take(tenant)).await;
        let _place = place.map_err(|_| self.error(Fault::Crowded(self.bound)))?;
        if self.circuit.is_open() {
            return Err(StoreError::Away);
        }
        let answer = match timeout(self.bound, call).await {
            Ok(answer) => answer,
            Err(_) => Err(self.error(Fault::NoHostData(self.bound))),
        };
        if let Err(StoreError::Unavailable(error)) = &answer
            && let Some(Unreachable { fault, .. }) = error.downcast_ref()
        {
            self.note(fault);
        }
        answer
    }

    /// Notes what a fault tells of the server, and sees to it that somebody looks whether it is there.
    fn note(&self, fault: &Fault) {
        let change = match fault {
            Fault::NoHostData(_) => self.circuit.silent(Instant::now()),
            Fault::Broken(_) => self.circuit.broken(),
            // It shuts down, it crashed, or it is not up yet.
            Fault::Refused { code, .. } if matches!(code.as_str(), "57P01" | "57P02" | "57P03") => {
                self.circuit.broken()
            }
            _ => return,
        };
        if change.opened {
            opened(&self.pool, fault);
        }
        if change.look {
            tokio::spawn(look(Arc::downgrade(&self.circuit), self.pool.clone(), self.address.clone()));
        }
    }

    /// One statement on the catalogue.
    pub(super) async fn catalogue(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let call = pin!(async { self.attempt(sql, params).await.map_err(|fault| self.error(fault)) });
        self.bounded(None, call).await
    }

    /// One statement on a tenant; `{t}` in it stands for the tenant's schema.
    pub(super) async fn tenant(
        &self,
        tenant: &TenantSlug,
        template: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        // Pinned here and in boxes where they are rare: what a call moves on, it keeps room for twice, and thousands of joins may
        // wait in this one.
        let call = pin!(async {
            match self.attempt(&within(tenant, template), params).await {
                Ok(rows) => Ok(rows),
                Err(fault) => Err(Box::pin(self.tenant_error(tenant, fault)).await),
            }
        });
        self.bounded(Some(tenant), call).await
    }

    /// One statement, prepared once a connection. Not bounded: the caller is.
    pub(super) async fn attempt(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        let lease = Lease(Some(self.pool.get().await?));
        let connection = lease.connection();
        let answer = match connection.prepare(sql).await {
            // `query` ends with ReadyForQuery, which the server sends after the commit is on its disk.
            Ok(statement) => connection.query(&statement, params).await,
            Err(error) => Err(error),
        };
        lease.give_back();
        Ok(answer?)
    }

    /// A connection for a transaction. Not bounded: the caller is.
    pub(super) async fn block(&self) -> Result<Block, Fault> {
        Ok(Block(Lease(Some(self.pool.get().await?))))
    }

    /// What to say of a fault in a tenant's schema. That the schema is not there is found out by the failure, so that
    /// no other call has to ask the catalogue first.
    pub(super) async fn tenant_error(&self, tenant: &TenantSlug, fault: Fault) -> StoreError {
        if fault.code().is_some_and(|code| matches!(code, "42P01" | "3F000")) {
            match self.attempt("SELECT FROM switchboard.tenant WHERE slug = $1", &[tenant]).await {
                Ok(rows) if rows.is_empty() => return StoreError::NoTenant(tenant.clone()),
                Ok(_) => {}
                Err(other) => return self.error(other),
            }
        }
        self.error(fault)
    }

    /// What to say of a fault.
    pub(super) fn error(&self, fault: Fault) -> StoreError {
        if fault.code() == Some("55P03") {
            StoreError::Contended
        } else if fault.is_passing() {
            StoreError::Unavailable(Box::new(Unreachable { address: self.address.clone(), fault }))
        } else {
            StoreError::Failed(Box::new(fault))
        }
    }
}

/// Asks the server whether it is there, again and again until it is.
async fn look(circuit: Weak<Circuit>, pool: Pool, address: String) {
    loop {
        let asking = async {
            let lease = Lease(Some(pool.get().await?));
            lease.connection().simple_query("").await?;
            lease.give_back();
            Ok(())
        };
        let answer = timeout(LOOK, asking).await.unwrap_or(Err(Fault::NoHostData(LOOK)));
        let Some(circuit) = circuit.upgrade() else { return };
        match answer {
            Ok(_) => {
                if let Some(after) = circuit.answered(Instant::now()) {
                    metrics::gauge!("switchboard_database_away").set(0.0);
                    tracing::info!(address, ?after, "the database is back");
                }
                return;
            }
            Err(fault) if circuit.silent(Instant::now()).opened => opened(&pool, &fault),
            Err(_) => {}
        }
        drop(circuit);
        tokio::time::sleep(PACE).await;
    }
}

fn opened(pool: &Pool, fault: &Fault) {
    metrics::gauge!("switchboard_database_away").set(1.0);
    tracing::warn!(%fault, "the database is away; calls fail at once until it answers");
    // What is idle may lead to where the server was: each such connection would cost its user the whole time.
    pool.retain(|_, _| false);
}

/// A statement's text for one tenant. A slug cannot hold a quote.
pub(super) fn within(tenant: &TenantSlug, template: &str) -> String {
    template.replace("{t}", &format!("\"{}\"", schema(tenant)))
}

/// The name of a tenant's schema, unquoted.
pub(super) fn schema(tenant: &TenantSlug) -> String {
    format!("tenant_{tenant}")
}

/// A statement and its parameters.
pub(super) type Step<'a> = (&'a str, &'a [Param<'a>]);

/// A connection for a transaction of several statements, for what one statement cannot say. Dropped before its end, which
/// is what a cancelled or late call does, it is closed, and the server undoes what was done.
pub(super) struct Block(Lease);

impl Block {
    /// Runs statements in their order, sent together: one round trip for all, once they are prepared. Each sees what those
    /// before it did. After one that failed none is done, and the first failure is what is returned.
    pub(super) async fn run<const N: usize>(&self, steps: [Step<'_>; N]) -> Result<[Vec<Row>; N], Fault> {
        let connection = self.0.connection();
        let mut prepared = Vec::with_capacity(N);
        for (sql, _) in &steps {
            prepared.push(connection.prepare(sql).await?);
        }
        let sent = prepared.iter().zip(&steps).map(|(statement, (_, params))| connection.query(statement, params));
        let answers = try_join_all(sent).await?;
        Ok(answers.try_into().unwrap_or_else(|_| unreachable!("as many answers as statements")))
    }

    /// After the transaction was committed.
    pub(super) fn end(self) {
        self.0.give_back();
    }

    /// Takes back what was done.
    pub(super) async fn undo(self) {
        if self.0.connection().simple_query("ROLLBACK").await.is_ok() {
            self.0.give_back();
        }
    }
}

/// A pooled connection in use. Dropped before its answer came, which is what a cancelled or late call does, it is
/// closed instead of going back, so that nobody waits behind another's statement.
struct Lease(Option<Pooled>);

impl Lease {
    fn connection(&self) -> &Connection {
        self.0.as_ref().expect("a lease has its connection until it is returned")
    }

    fn give_back(mut self) {
        self.0.take();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Pooled::take(connection));
        }
    }
}

/// Why a statement has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The server's own words. Its detail is left out, since it quotes rows.
    #[error("{message} ({code})")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// Which constraint, if it was one.
        constraint: Option<String>,
        /// The primary message.
        message: String,
    },
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    NoHostData(Duration),
    /// All connections were in use for so long.
    #[error("not asked, since all connections were in use for {0:?}")]
    Crowded(Duration),
    /// A value could not be sent or read.
    #[error(transparent)]
    Driver(tokio_postgres::Error),
}

impl Fault {
    /// The SQLSTATE, if the server answered.
    pub(super) fn code(&self) -> Option<&str> {
        if let Fault::Refused { code, .. } = self { Some(code) } else { None }
    }

    /// Whether a unique index refused a row.
    pub(super) fn is_violation_of(&self, index: &str) -> bool {
        matches!(self, Fault::Refused { code, constraint: Some(name), .. } if code == "23505" && name == index)
    }

    fn is_passing(&self) -> bool {
        match self {
            Fault::Broken(_) | Fault::NoHostData(_) | Fault::Crowded(_) => true,
            Fault::Driver(_) => false,
            // Connection exceptions, rollbacks on a deadlock, a lack of resources, an operator's doing (which a
            // statement's time limit counts as), a server that has become a standby, a transaction that was left alone.
            Fault::Refused { code, .. } => {
                ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
                    || matches!(code.as_str(), "25006" | "25P03")
            }
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(refusal) = error.as_db_error() {
            return Fault::Refused {
                code: refusal.code().code().to_owned(),
                constraint: refusal.constraint().map(str::to_owned),
                message: refusal.message().to_owned(),
            };
        }
        match error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) {
            Some(cause) => Fault::Broken(format!("{error}: {cause}")),
            None if error.is_closed() => Fault::Broken(error.to_string()),
            None => Fault::Driver(error),
        }
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            other => Fault::Broken(other.to_string()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{address}: {fault}")]
struct Unreachable {
    address: String,
    #[source]
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
#[error("the database URL does not read as postgres://user:password@host:port/name")]
struct Unreadable;

/// A row that does not read as what was written.
pub(super) fn unreadable(error: tokio_postgres::Error) -> StoreError {
    StoreError::Failed(Box::new(error))
}

fn address(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(i, host)| {
        let port = ports.get(i).or(ports.first()).unwrap_or(&5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    hosts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_never_shows_its_password() {
        for url in
            ["postgres://a:hunter2@h:1/d?x=y", "postgre://a:hunter2@h:1/d?sslmode=x", "hunter2", "password='hunter2"]
        {
            let error = Database::new(url, &Options::default()).map(|_| ()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn an_address_names_host_and_port() {
        let shown = |url: &str| address(&url.parse().unwrap());
        assert_eq!(shown("postgres://a:secret@db.example/x"), "db.example:5432");
        assert_eq!(shown("postgres://a@one:1,two:2/x"), "one:1,two:2");
    }

    /// Each of a crowd of clients that come at once waits in a few of them.
    #[tokio::test]
    async fn a_call_that_waits_is_small() {
        let database = Database::new("postgres://a@h:1/d", &Options::default()).unwrap();
        let size = size_of_val(&database.tenant(&"acme".parse().unwrap(), "SELECT 1", &[]));
        println!("{size} bytes");
        assert!(size <= 2_500, "{size} bytes");
    }

    #[test]
    fn a_tenant_is_confined_to_its_quoted_schema() {
        let slug = "acme-corp".parse().unwrap();
        assert_eq!(within(&slug, "SELECT FROM {t}.member"), r#"SELECT FROM "tenant_acme-corp".member"#);
    }
}
