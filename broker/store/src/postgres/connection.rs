//! The database: how calls reach it, and what their failures mean.
//!
//! Nearly every call of the store is a single statement outside a transaction block, so it is atomic by itself and
//! costs one round trip. The other way is a [`Block`], a transaction of several statements.
//!
//! Nothing here changes a session setting, so a connection carries nothing over from its previous user. A call never
//! waits longer than its bound, first for a place and then for its answer, and fails at once while the circuit is open.
//!
//! Invariant: a connection returns to the pool only after the answer to its last statement. If a call is cancelled or
//! late, its connection is closed, and the server rolls an open transaction back.
//!
//! Start with [`Database::bounded`], then `tenant` and `block`.

use std::error::Error as StdError;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::try_join_all;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Row};

use super::circuit::Circuit;
use super::permits::ConnectionPermits;
use super::pool::{Connection, Pool, PoolError, Pooled, STATEMENTS, pool};
use crate::StoreError;
use switchboard_model::TenantSlug;

#[derive(Debug, Clone)]
pub struct Options {
    /// Connections in the pool. Migrations and creating a tenant use one more.
    pub connections: usize,
    /// How long a call may wait for a place among the connections, and then for its answer.
    pub bound: Duration,
    /// Prepared statements kept by each connection; the least recently used go first.
    pub statements: usize,
}

impl Default for Options {
    /// 16 connections with 750 statements each. A bound of 3 seconds, so that clients can have an answer within 5.
    fn default() -> Self {
        Self { connections: 16, bound: Duration::from_secs(3), statements: STATEMENTS }
    }
}

pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// How long a probe waits for its answer.
const LOOK: Duration = Duration::from_secs(1);

/// The pause between probes.
const PACE: Duration = Duration::from_millis(250);

/// Plans are made once and kept, use indexes whatever the size of a table, and are not compiled to machine code, which
/// takes many times as long as running them. See decision 9.
const PLANS: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off";

pub(super) struct Database {
    pool: Pool,
    permits: ConnectionPermits,
    circuit: Arc<Circuit>,
    pub(super) config: Config,
    pub(super) address: String,
    pub(super) bound: Duration,
}

impl Database {
    /// Parses the address; does not connect.
    pub(super) fn new(url: &str, options: &Options) -> Result<Self, StoreError> {
        // The parser's own error may quote the address including the password.
        let mut config: Config = url.parse().map_err(|_| StoreError::Failed(Arc::new(Unreadable)))?;
        let bound = options.bound;
        // The server gives up first: a statement that waits for a lock does not mean that the server is away.
        let millis = (bound * 7 / 8).as_millis();
        // Half the bound, so that whoever waited together with a locked row can still be served without it.
        let locked = (bound / 2).as_millis();
        let given = config.get_options().unwrap_or_default();
        let settings = format!("{given} -c statement_timeout={millis} -c lock_timeout={locked} {PLANS}");
        config.options(&settings);
        config.connect_timeout(bound).tcp_user_timeout(bound);
        if config.get_application_name().is_none() {
            config.application_name("switchboard");
        }
        // A node that dies silently in the middle of a transaction must not keep its locks longer than others wait for
        // them. Migrations, which do not use the pool, may take their time.
        let mut pooled = config.clone();
        let idle = (bound / 6).as_millis();
        pooled.options(format!("{settings} -c idle_in_transaction_session_timeout={idle}"));
        let pool = pool(pooled, options.connections, options.statements);
        let permits = ConnectionPermits::new(options.connections);
        Ok(Self { pool, permits, circuit: Arc::default(), address: address(&config), config, bound })
    }

    /// Bounds a call: first the wait for a place, then the call itself; refused at once while the circuit is open. Not
    /// getting a place means that there are many calls, and says nothing about the server. The calls of one tenant get
    /// at most half of the connections.
    pub(super) async fn bounded<T>(
        &self,
        tenant: Option<&TenantSlug>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let place = timeout(self.bound, self.permits.take(tenant)).await;
        let _permit = place.map_err(|_| self.error(Fault::Crowded(self.bound)))?;
        if self.circuit.is_open() {
            return Err(StoreError::Away);
        }
        let answer = match timeout(self.bound, call).await {
            Ok(answer) => answer,
            Err(_) => Err(self.error(Fault::NoAnswer(self.bound))),
        };
        if let Err(StoreError::Unavailable(error)) = &answer
            && let Some(Unreachable { fault, .. }) = error.downcast_ref()
        {
            self.note(fault);
        }
        answer
    }

    /// Reports a fault to the circuit breaker, and starts the probe if it asks for one.
    fn note(&self, fault: &Fault) {
        let change = match fault {
            Fault::NoAnswer(_) => self.circuit.silent(Instant::now()),
            Fault::Broken(_) => self.circuit.broken(),
            // Shutting down, crashed, or not up yet.
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

    pub(super) async fn catalogue(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let call = pin!(async { self.attempt(sql, params).await.map_err(|fault| self.error(fault)) });
        self.bounded(None, call).await
    }

    /// One statement on a tenant's schema, which `{t}` stands for.
    pub(super) async fn tenant(
        &self,
        tenant: &TenantSlug,
        template: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        // Pinned on the stack, with the rare path boxed: a future moved into another takes its space twice, and
        // thousands of joins may wait here.
        let call = pin!(async {
            match self.attempt(&within(tenant, template), params).await {
                Ok(rows) => Ok(rows),
                Err(fault) => Err(Box::pin(self.tenant_error(tenant, fault)).await),
            }
        });
        self.bounded(Some(tenant), call).await
    }

    /// One statement, prepared once for each connection. The caller must bound it.
    pub(super) async fn attempt(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        let lease = Lease(Some(self.pool.get().await?));
        let connection = lease.connection();
        let answer = match connection.prepare(sql).await {
            // `query` ends with ReadyForQuery, which the server sends once the commit is on its disk.
            Ok(statement) => connection.query(&statement, params).await,
            Err(error) => Err(error),
        };
        lease.give_back();
        Ok(answer?)
    }

    /// A connection for a transaction. The caller must bound it.
    pub(super) async fn block(&self) -> Result<Block, Fault> {
        Ok(Block(Lease(Some(self.pool.get().await?))))
    }

    /// Explains a fault in a tenant's schema. A missing schema is noticed by the failure itself, so that no other call
    /// has to check the catalogue first.
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

    pub(super) fn error(&self, fault: Fault) -> StoreError {
        if fault.code() == Some("55P03") {
            StoreError::Contended
        } else if fault.is_passing() {
            StoreError::Unavailable(Arc::new(Unreachable { address: self.address.clone(), fault }))
        } else {
            StoreError::Failed(Arc::new(fault))
        }
    }
}

/// Probes the server until it answers.
async fn look(circuit: Weak<Circuit>, pool: Pool, address: String) {
    loop {
        let asking = async {
            let lease = Lease(Some(pool.get().await?));
            lease.connection().simple_query("").await?;
            lease.give_back();
            Ok(())
        };
        let answer = timeout(LOOK, asking).await.unwrap_or(Err(Fault::NoAnswer(LOOK)));
        let Some(circuit) = circuit.upgrade() else { return };
        match answer {
            Ok(_) => {
                if let Some(after) = circuit.answered(Instant::now()) {
                    switchboard_metrics::DATABASE_AWAY.handle().set(0.0);
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
    switchboard_metrics::DATABASE_AWAY.handle().set(1.0);
    tracing::warn!(%fault, "lost the database; calls fail at once until it answers");
    // Idle connections may lead to where the server was. Each would cost its next user the whole bound.
    pool.retain(|_, _| false);
}

/// A statement's text for one tenant. A slug cannot contain a quote, so this is safe.
pub(super) fn within(tenant: &TenantSlug, template: &str) -> String {
    template.replace("{t}", &format!("\"{}\"", schema(tenant)))
}

/// Longest identifier of Postgres, in bytes. It cuts longer ones off, so that two could become one.
const MAX_IDENTIFIER: usize = 63;

/// The unquoted name of a tenant's schema. A slug that is too long with its prefix is shortened, with a digest that keeps it
/// apart from others. No slug contains the `~` before the digest, so none can be chosen to have the schema of another one.
pub(super) fn schema(tenant: &TenantSlug) -> String {
    let whole = format!("tenant_{tenant}");
    if whole.len() <= MAX_IDENTIFIER {
        return whole;
    }
    let digest = hex::encode(&Sha256::digest(tenant.as_str())[..12]);
    format!("{}~{digest}", &whole[..MAX_IDENTIFIER - digest.len() - 1])
}

pub(super) type Step<'a> = (&'a str, &'a [Param<'a>]);

/// A transaction of several statements, for what one statement cannot express. Dropping it early, as a cancelled or
/// late call does, closes the connection, and the server rolls back.
pub(super) struct Block(Lease);

impl Block {
    /// Runs statements in order but sent together: one round trip once they are prepared. Each sees the effects of
    /// those before it. After a failure none of the rest takes effect, and the first failure is returned.
    pub(super) async fn run<const N: usize>(&self, steps: [Step<'_>; N]) -> Result<[Vec<Row>; N], Fault> {
        let connection = self.0.connection();
        let mut prepared = Vec::with_capacity(N);
        for (sql, _) in &steps {
            prepared.push(connection.prepare(sql).await?);
        }
        // The futures are polled in order, so the driver sends the statements in this order without waiting for
        // answers.
        let sent = prepared.iter().zip(&steps).map(|(statement, (_, params))| connection.query(statement, params));
        let answers = try_join_all(sent).await?;
        Ok(answers.try_into().unwrap_or_else(|_| unreachable!("as many answers as statements")))
    }

    /// Returns the connection. Call after the transaction was committed.
    pub(super) fn end(self) {
        self.0.give_back();
    }

    /// Rolls back and returns the connection. If that fails, the connection is closed.
    pub(super) async fn undo(self) {
        if self.0.connection().simple_query("ROLLBACK").await.is_ok() {
            self.0.give_back();
        }
    }
}

/// A pooled connection in use. Dropped before its answer, as in a cancelled or late call, it is closed instead of
/// returned, so that nobody waits behind another caller's statement.
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
    /// The server's refusal. Its detail is left out, because it quotes rows.
    #[error("{message} ({code})")]
    Refused {
        /// The SQLSTATE.
        code: String,
        constraint: Option<String>,
        message: String,
    },
    /// The connection broke or could not be made.
    #[error("{0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// All connections were in use for this long.
    #[error("all connections were in use for {0:?}")]
    Crowded(Duration),
    /// A value could not be encoded or decoded.
    #[error(transparent)]
    Driver(tokio_postgres::Error),
}

impl Fault {
    /// The SQLSTATE, if the server answered.
    pub(super) fn code(&self) -> Option<&str> {
        if let Fault::Refused { code, .. } = self { Some(code) } else { None }
    }

    pub(super) fn is_violation_of(&self, index: &str) -> bool {
        matches!(self, Fault::Refused { code, constraint: Some(name), .. } if code == "23505" && name == index)
    }

    fn is_passing(&self) -> bool {
        match self {
            Fault::Broken(_) | Fault::NoAnswer(_) | Fault::Crowded(_) => true,
            Fault::Driver(_) => false,
            // Connection exceptions, rollbacks after a deadlock, lack of resources, operator intervention (which
            // includes the statement timeout), a server turned standby, and a transaction that was left idle.
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
#[error("the database URL must have the form postgres://user:password@host:port/name")]
struct Unreadable;

/// A row that does not contain what was written.
pub(super) fn unreadable(error: tokio_postgres::Error) -> StoreError {
    StoreError::Failed(Arc::new(error))
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

    /// A crowd of clients arriving at once waits in a few of these.
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
        assert_eq!(schema(&"x".repeat(56).parse().unwrap()).len(), MAX_IDENTIFIER);
        let (one, two) = (format!("{}1", "x".repeat(62)), format!("{}2", "x".repeat(62)));
        let (one, two) = (schema(&one.parse().unwrap()), schema(&two.parse().unwrap()));
        assert!(one != two && one.len() == MAX_IDENTIFIER && two.len() == MAX_IDENTIFIER, "{one} {two}");
        let posing = one.strip_prefix("tenant_").unwrap();
        assert!(posing.parse::<TenantSlug>().is_err(), "{posing} would have the schema of another tenant");
    }
}
