//! Brokers with what they stand on, ready for tenants.

use std::sync::Arc;

use crate::compiled;
use crate::{Broker, Database, Door, Exit, Listener, Operator, Settings, Signal, Tenant, redis_url};

/// One broker.
#[derive(Debug)]
pub struct App {
    // The broker goes first: a database is dropped only after those who use it.
    broker: Broker,
    settings: Settings,
    door: Door,
    database: Option<Arc<Database>>,
}

impl App {
    /// A broker that needs no service: SQLite and an in-process bus.
    pub async fn embedded() -> Self {
        Self::start(Settings::embedded()).await
    }

    /// A broker on a Postgres database of its own, alone.
    pub async fn postgres() -> Self {
        let database = Arc::new(Database::create().await);
        let settings = Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &database.url());
        Self::start_on(settings, Some(database)).await
    }

    /// A broker with settings of the test's own.
    pub async fn start(settings: Settings) -> Self {
        Self::start_on(settings, None).await
    }

    /// A broker whose standard error is no longer read once it listens.
    pub async fn start_unheard(settings: Settings, listener: Listener) -> Self {
        compiled::lend(&settings.data());
        let broker = Broker::start_unheard(&settings, listener).await;
        let door = Door::new(broker.address());
        Self { broker, settings, door, database: None }
    }

    async fn start_on(settings: Settings, database: Option<Arc<Database>>) -> Self {
        if !settings.has_small_disk() {
            compiled::lend(&settings.data());
        }
        let broker = Broker::start(&settings).await;
        compiled::keep(&settings.data());
        let door = Door::new(broker.address());
        Self { broker, settings, door, database }
    }

    /// Makes a tenant. Its slug begins with this name and is used by no other test.
    pub async fn tenant(&self, name: &str) -> Tenant {
        Tenant::create(&self.settings, &self.door, name).await
    }

    /// Where its clients connect.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Who decides at this broker which plugins run.
    pub fn operator(&self) -> Operator {
        Operator::new(&self.settings, self.broker.admin_address())
    }

    /// The process.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// How it was started, for commands on the same store.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The address of its Postgres database, for what happens behind the broker's back.
    ///
    /// # Panics
    /// When it is embedded.
    pub fn database_url(&self) -> String {
        self.database.as_ref().expect("this broker runs on Postgres").url()
    }

    /// Kills the broker without a word and starts another on the same store. Its address is a new one.
    pub async fn crash(self) -> Self {
        self.crash_and(|| {}).await
    }

    /// As [`App::crash`], with something that happens while no broker runs.
    pub async fn crash_and(mut self, meanwhile: impl FnOnce()) -> Self {
        self.kill().await;
        meanwhile();
        self.start_again().await;
        self
    }

    /// Kills the broker without a word.
    pub async fn kill(&mut self) {
        self.broker.kill().await;
    }

    /// Starts a broker on the same store after an [`App::kill`]. Its address is a new one.
    pub async fn start_again(&mut self) {
        self.broker = Broker::start(&self.settings).await;
        self.door = Door::new(self.broker.address());
    }

    /// Asks the broker to end and waits for it. A database of its own is gone afterwards.
    pub async fn stop(self, signal: Signal) -> Exit {
        self.broker.stop(signal).await
    }

    /// Waits until a broker that was asked to end has ended. A database of its own is gone afterwards.
    pub async fn ended(self) -> Exit {
        self.broker.ended().await
    }
}

/// Two brokers on one database and one Redis.
#[derive(Debug)]
pub struct Cluster {
    /// One node.
    pub a: App,
    /// The other one.
    pub b: App,
}

impl Cluster {
    /// Starts both on the Redis that all tests share, one after the other, as a rolling deployment does.
    pub async fn two_nodes() -> Self {
        Self::two_nodes_on(&redis_url()).await
    }

    /// Starts both on a Redis of the test's own.
    pub async fn two_nodes_on(redis: &str) -> Self {
        Self::two_nodes_of(redis, |node| node).await
    }

    /// Starts both with settings of the test's own, on the Redis that all tests share.
    pub async fn two_nodes_with(settings: impl Fn(Settings) -> Settings) -> Self {
        Self::two_nodes_of(&redis_url(), settings).await
    }

    async fn two_nodes_of(redis: &str, settings: impl Fn(Settings) -> Settings) -> Self {
        let database = Arc::new(Database::create().await);
        let node = || {
            let node = Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &database.url());
            settings(node.with("SWITCHBOARD_REDIS_URL", redis))
        };
        let a = App::start_on(node(), Some(Arc::clone(&database))).await;
        let b = App::start_on(node(), Some(Arc::clone(&database))).await;
        Self { a, b }
    }

    /// Makes a tenant. Its members connect to node `a` until [`crate::Member::at`] sends them elsewhere.
    pub async fn tenant(&self, name: &str) -> Tenant {
        self.a.tenant(name).await
    }
}
