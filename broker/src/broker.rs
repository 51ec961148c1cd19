//! The composition root: the only file that knows every part of the broker.
//!
//! It creates and starts the parts in the order of their dependencies, and stops them in reverse order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::auth::{AuthError, KeyError, KeySetFollower, Keys, Passwords, Tokens, follow_file};
use crate::bus::memory::Exchange;
use crate::bus::redis::{BusKeys, RedisBus};
use crate::bus::{Bus, BusError, Inbox};
use crate::config::{Config, ConfigError, Data, Descriptors, Secret};
use crate::deploy::{self, ControlPlane, Parts, Reconciler};
use crate::effects::{Effects, Hooks};
use crate::host_data::Reads;
use crate::http::{ConnectionBounds, ListenError, Listeners, Serving, State, Stop, TrustedProxies};
use crate::hub::Hub;
use crate::identity::{Identity, Policy};
use crate::model::Clock;
use crate::plugin::{Bounds, Compiler, Engine, Generation, LoadError, Options, Order, Registry, private_folder};
use crate::presence::memory::MemoryPresence;
use crate::presence::redis::RedisPresence;
use crate::presence::{LEASE, Presence, PresenceError};
use crate::rates::Rates;
use crate::relay::Relay;
use crate::router::Router;
use crate::session::{Dismissal, LiveSessions, Roster, Services, SocketLimits, SocketPermits, Unfinished};
use crate::store::postgres::{Options as PostgresOptions, Postgres};
use crate::store::sqlite::Sqlite;
use crate::store::{Store, StoreError};

/// Why the broker failed to start: one line that says what to set or to repair.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Presence(#[from] PresenceError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Passwords(#[from] AuthError),
    #[error(transparent)]
    Plugin(#[from] LoadError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("failed to use the data folder {0}: another broker is running on it")]
    Taken(PathBuf),
    #[error("failed to use the data folder {path}: {source}")]
    Data {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Sockets that a draining broker closes per second, if the drain window is long enough; their clients reconnect to the
/// other nodes at the same rate.
const CLOSES_A_SECOND: u32 = 200;

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    public: SocketAddr,
    admin: SocketAddr,
    stop: Stop,
    drain: watch::Sender<Option<Duration>>,
    serving: Serving,
    sessions: TaskTracker,
    hooks: Arc<Hooks>,
    drain_within: Duration,
    /// Background tasks, such as following the catalogue of plugins. They end with the broker.
    _upkeep: JoinSet<()>,
    _alone: Option<Alone>,
}

impl Broker {
    /// Creates every part and starts to listen. `secret` signs the tokens.
    pub async fn start(config: &Config, secret: Secret, metrics: PrometheusHandle) -> Result<Self, StartError> {
        let clock = Clock::system();
        // First what can fail at once: a start that fails has then compiled and changed nothing.
        let descriptors = Descriptors::claim()?;
        let listeners = Listeners::bind(config)?;
        let bus_keys = BusKeys::new(
            secret.reveal().as_bytes(),
            config.auth.previous_secret.as_ref().map(|secret| secret.reveal().as_bytes()),
        );
        let keys = Arc::new(Keys::new(secret, &config.auth)?);
        let alone = Alone::claim(&config.data)?;
        let mut upkeep = JoinSet::new();
        follow_keys(&keys, config, &mut upkeep).await?;
        let store = open_store_for(&config.data, Some(descriptors.tenants)).await?;
        let (bus, inbox, presence) = open_cluster(&config.data, bus_keys, &clock).await?;
        let hub = Arc::new(Hub::default());
        let relay = Relay::start(Arc::clone(&hub), Arc::clone(&bus), inbox, Arc::clone(&store), clock.clone());

        let reads = Arc::new(Reads::new(Arc::clone(&store), Arc::clone(&presence), clock.clone()));
        let options = Options {
            folder: config.data.folder.join("compiled"),
            compiler: Compiler::Child,
            bounds: Bounds::default(),
            clock: clock.clone(),
        };
        let (engine, incidents) = Engine::new(options, reads)?;
        let registry = Arc::new(Registry::default());
        let built_in = load_plugins(&engine, config).await?;
        let own = |source| StartError::Data { path: config.data.folder.clone(), source };
        let (public, admin) = (listeners.public_address().map_err(own)?, listeners.admin_address().map_err(own)?);
        let parts = Parts {
            node: node(public, &clock),
            secret: keys.fingerprint(),
            built_in,
            engine,
            registry: Arc::clone(&registry),
            clock: clock.clone(),
        };
        // Before serving anyone, so that a new node handles nothing with a generation that is not in force.
        let reconciler = Reconciler::start(parts, Arc::clone(&store), Arc::clone(&relay)).await?;
        let control = Arc::new(ControlPlane::new(Arc::clone(&reconciler)));
        upkeep.spawn(reconciler.run());
        upkeep.spawn(deploy::act_on(incidents, Arc::clone(&control)));

        let tokens = Tokens::new(Arc::clone(&keys), &config.auth, clock.clone());
        let passwords = Passwords::new(clock.clone()).await?;
        let rates = Rates::new(&config.rates);
        let policy =
            Policy { auto_provision: config.auth.auto_provision, exchange_external: config.auth.exchange_external };
        let identity =
            Arc::new(Identity::new(tokens, passwords, Arc::clone(&rates), Arc::clone(&store), policy, clock.clone()));

        let hooks = Hooks::new(Arc::clone(&registry));
        let after_commit = hooks.after_commit();
        let effects = Effects::new(Arc::clone(&store), Arc::clone(&relay), after_commit, clock.clone());
        hooks.start(effects.clone());
        let router = Arc::new(Router::new(registry, effects, clock.clone()));
        let (drain, draining) = watch::channel(None);
        let sockets = descriptors.sockets(config.limits.connections);
        let limits = SocketLimits {
            all: sockets,
            tenant: config.limits.tenant_connections.unwrap_or(sockets),
            member: config.limits.member_connections,
            address: config.limits.address_connections.unwrap_or((sockets / 2).max(1_024)),
        };
        let roster = Roster {
            relay: Arc::clone(&relay),
            presence: Arc::clone(&presence),
            router: Arc::clone(&router),
            joined: "user.join".parse().expect("a valid kind"),
            left: "user.leave".parse().expect("a valid kind"),
        };
        let live = Arc::<LiveSessions>::default();
        upkeep.spawn(Dismissal::new(Arc::clone(&live), Arc::clone(&store), Arc::clone(&relay)).run());
        let services = Arc::new(Services {
            identity: Arc::clone(&identity),
            router: Arc::clone(&router),
            relay: Arc::clone(&relay),
            store: Arc::clone(&store),
            presence: Arc::clone(&presence),
            clock: clock.clone(),
            limits: config.limits.clone(),
            permits: SocketPermits::new(limits),
            live,
            rates: Arc::clone(&rates),
            unfinished: Unfinished::new(config.limits.unfinished_bytes),
            draining: draining.clone(),
            roster: Arc::new(roster),
        });
        let sessions = TaskTracker::new();
        let state = Arc::new(State {
            identity,
            keys,
            rates,
            router,
            relay,
            store,
            presence,
            clock,
            draining,
            services,
            control,
            admin_token: config.listen.admin_token.clone(),
            bus,
            metrics,
            allowed_origins: config.listen.allowed_origins.clone(),
            trusted_proxies: TrustedProxies::new(config.listen.trusted_proxies.clone()),
            sessions: sessions.clone(),
        });

        let (stop, stopping) = Stop::new();
        let Descriptors { all, connections, operators, .. } = descriptors;
        let bounds = ConnectionBounds { clients: connections, sockets, operators };
        let serving = listeners.serve(state, bounds, stopping);
        tracing::info!(address = %public, admin_address = %admin, descriptors = all, connections, sockets, "listening");
        Ok(Self {
            public,
            admin,
            stop,
            drain,
            serving,
            sessions,
            hooks,
            drain_within: config.limits.drain,
            _upkeep: upkeep,
            _alone: alone,
        })
    }

    /// The address for clients.
    pub fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// The address for operators.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Stops accepting, closes the sockets as draining, spread over time, and waits for them and for open requests, at
    /// most for the configured time.
    pub async fn stop(self) {
        let sockets = self.sessions.len();
        let spread = spread(sockets, self.drain_within);
        tracing::info!(sockets, ?spread, "draining");
        // These send even if no receiver is left.
        self.drain.send_replace(Some(spread));
        self.stop.clients();
        self.sessions.close();
        let finished = async {
            self.sessions.wait().await;
            // Waits until open requests are answered.
            let _ = self.serving.clients.await;
            // Runs the post-commit hooks of the last messages.
            self.hooks.finish().await;
            // Operators can see that the broker is draining until it is done.
            self.stop.operators();
            let _ = self.serving.operators.await;
        };
        if tokio::time::timeout(self.drain_within, finished).await.is_err() {
            tracing::warn!(
                sockets = self.sessions.len(),
                "stopped before all sockets were closed and all requests answered"
            );
        }
        tracing::info!("stopped");
    }
}

/// The name of this node: the host name, for people, and a part that no other node has.
fn node(address: SocketAddr, clock: &Clock) -> String {
    let machine = rustix::system::uname();
    let host: String = machine.nodename().to_string_lossy().chars().filter(char::is_ascii_graphic).take(64).collect();
    let host = if host.is_empty() { "node" } else { &host };
    format!("{host}:{}-{}", address.port(), hex::encode(clock.random::<3>()))
}

/// The time over which to close this many sockets: a few close at once, many over the first part of the window. The rest
/// of the window is for the last ones to finish their work.
fn spread(sockets: usize, window: Duration) -> Duration {
    let sockets = u32::try_from(sockets).unwrap_or(u32::MAX);
    (Duration::from_secs(1).saturating_mul(sockets) / CLOSES_A_SECOND).min(window * 3 / 5)
}

/// An embedded broker's lock on its data folder: a second broker would not receive what clients of the first one send.
/// The system releases it however the process ends.
#[derive(Debug)]
struct Alone(#[expect(dead_code, reason = "it is held, not read")] std::fs::File);

impl Alone {
    fn claim(data: &Data) -> Result<Option<Self>, StartError> {
        if !data.is_embedded() {
            return Ok(None);
        }
        make_folder(data)?;
        let failed = |source| StartError::Data { path: data.folder.clone(), source };
        let file = std::fs::File::create(data.folder.join("broker.lock")).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(std::fs::TryLockError::WouldBlock) => Err(StartError::Taken(data.folder.clone())),
            Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Opens the store that the settings name. The command line uses it without a broker.
pub async fn open_store(data: &Data) -> Result<Arc<dyn Store>, StartError> {
    open_store_for(data, None).await
}

/// `tenants` is the number of tenants whose files may be open at once.
async fn open_store_for(data: &Data, tenants: Option<usize>) -> Result<Arc<dyn Store>, StartError> {
    make_folder(data)?;
    Ok(match (&data.database_url, tenants) {
        (Some(url), _) => Arc::new(Postgres::open(url.reveal(), PostgresOptions::default()).await?),
        (None, None) => Arc::new(Sqlite::open(&data.folder).await?),
        (None, Some(tenants)) => Arc::new(Sqlite::open_for(&data.folder, tenants).await?),
    })
}

async fn open_cluster(
    data: &Data,
    keys: BusKeys,
    clock: &Clock,
) -> Result<(Arc<dyn Bus>, Inbox, Arc<dyn Presence>), StartError> {
    match &data.redis_url {
        Some(url) => {
            let (bus, inbox) = RedisBus::connect(url.reveal(), keys, clock).await?;
            let presence = RedisPresence::connect(url.reveal(), LEASE).await?;
            Ok((Arc::new(bus), inbox, Arc::new(presence)))
        }
        None => {
            let (bus, inbox) = Exchange::new().join();
            Ok((Arc::new(bus), inbox, Arc::new(MemoryPresence::default())))
        }
    }
}

/// Keeps the key sets of external issuers up to date.
async fn follow_keys(keys: &Arc<Keys>, config: &Config, upkeep: &mut JoinSet<()>) -> Result<(), StartError> {
    if let Some(path) = &config.auth.jwks_file {
        upkeep.spawn(follow_file(Arc::clone(keys), path.clone()));
    }
    if let Some(url) = &config.auth.jwks_url {
        let folder = &config.data.folder;
        make_folder(&config.data)?;
        let follower = KeySetFollower::new(Arc::clone(keys), url.clone(), folder)
            .map_err(|source| StartError::Data { path: folder.clone(), source })?;
        follower.first().await;
        upkeep.spawn(follower.run());
    }
    Ok(())
}

/// The built-in plugins and those of the settings, each after those whose kinds it takes over.
async fn load_plugins(engine: &Engine, config: &Config) -> Result<Vec<Arc<Generation>>, StartError> {
    let mut loaded = Vec::new();
    if config.plugins.builtin {
        for (name, component) in switchboard_builtin::BUILTIN {
            loaded.push(engine.prepare(Order::builtin(name, component)).await?);
        }
    }
    for path in &config.plugins.files {
        let component = tokio::fs::read(path).await.map_err(|source| LoadError::File { path: path.clone(), source })?;
        loaded.push(engine.prepare(Order::builtin(&path.display().to_string(), &component)).await?);
    }
    Ok(loaded)
}

/// The data folder is private: it holds secrets, compiled code and, in embedded mode, everyone's messages. One that others can
/// write is refused.
fn make_folder(data: &Data) -> Result<(), StartError> {
    private_folder(&data.folder).map_err(|source| StartError::Data { path: data.folder.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sockets_close_at_once_and_many_over_the_first_part_of_the_window() {
        let window = Duration::from_secs(10);
        for (sockets, over) in [(0, 0), (2, 10), (400, 2_000), (1_200, 6_000), (100_000, 6_000), (usize::MAX, 6_000)] {
            assert_eq!(spread(sockets, window), Duration::from_millis(over), "{sockets} sockets");
        }
        assert_eq!(spread(100_000, Duration::ZERO), Duration::ZERO);
    }
}
