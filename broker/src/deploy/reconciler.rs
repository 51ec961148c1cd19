//! The reconciler: brings this node to the state of the catalogue.
//!
//! It prepares every generation that a route names and then swaps in one routing table for all of them. A generation
//! that cannot be prepared leaves its routes as they were, shows in the node status, and is retried. While the store is
//! away, the node keeps what it has. The catalogue is never changed here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::node_status::{self, NodeStatus};
use super::view::{BuiltIn, View};
use crate::model::catalogue::{Catalogue, GenerationId, GenerationRow, NodeReport, Route, Scope, Target};
use crate::model::{Clock, Digest, Timestamp};
use crate::plugin::{Allowance, Engine, Generation, LoadError, Order, Plan, Registry, Table};
use crate::relay::Relay;
use crate::store::{Store, StoreError};

/// How often to look for changes, in case an announcement was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a node reports that it is alive, if there can be others.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Maximum age of a live node's last report. Node clocks are assumed to agree to a second or so.
pub(super) const LIVES_FOR: Duration = Duration::from_secs(7);

/// The pause before a failed generation is prepared again; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Parts {
    /// Unique among the nodes that are alive.
    pub node: String,
    /// A fingerprint of the secret with which it signs tokens.
    pub secret: String,
    /// The generations that need no deployment.
    pub built_in: Vec<Arc<Generation>>,
    pub engine: Arc<Engine>,
    pub registry: Arc<Registry>,
    pub clock: Clock,
}

pub struct Reconciler {
    pub(super) parts: Parts,
    pub(super) store: Arc<dyn Store>,
    pub(super) relay: Arc<Relay>,
    pub(super) built_in: Vec<BuiltIn>,
    /// Held while the node is brought to the catalogue, so that only one caller does it at a time.
    state: Mutex<State>,
    node_status: watch::Sender<NodeStatus>,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler").field("node", &self.parts.node).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    prepared: HashMap<GenerationId, Arc<Generation>>,
    failed: HashMap<GenerationId, Failure>,
    /// The revision followed last, and the routes that resulted. `None` before the first time.
    running: Option<(u64, Vec<Route>)>,
    reported: Option<Instant>,
    /// The components known to be deployed. `None` before the first time.
    deployed: Option<HashSet<Digest>>,
}

struct Failure {
    error: String,
    retry: Instant,
    pause: Duration,
}

impl Reconciler {
    /// Follows the catalogue for the first time. On return the node runs what is decided, except for generations that
    /// cannot be prepared: their routes lead nowhere.
    pub async fn start(parts: Parts, store: Arc<dyn Store>, relay: Arc<Relay>) -> Result<Arc<Self>, StoreError> {
        let built_in = parts.built_in.iter().map(built_in).collect();
        let node_status = watch::Sender::new(NodeStatus::default());
        let reconciler = Self { parts, store, relay, built_in, state: Mutex::default(), node_status };
        reconciler.follow().await?;
        Ok(Arc::new(reconciler))
    }

    /// Follows the catalogue until announcements end.
    pub async fn run(self: Arc<Self>) {
        let mut announced = self.relay.announced();
        let mut pace = tokio::time::interval(LOOK_EVERY);
        let mut away = false;
        loop {
            tokio::select! {
                heard = announced.changed() => if heard.is_err() { return },
                _ = pace.tick() => {}
            }
            match self.follow().await {
                Ok(()) if away => {
                    away = false;
                    tracing::info!("following the catalogue of plugins again");
                }
                Ok(()) => {}
                Err(error) if !away => {
                    away = true;
                    tracing::warn!(%error, "failed to follow the catalogue of plugins; the plugins in force keep running");
                }
                Err(_) => {}
            }
        }
    }

    /// How far this node has come.
    pub(super) fn node_status(&self) -> NodeStatus {
        self.node_status.borrow().clone()
    }

    /// Prepares a generation before it is decided on, so that nothing is decided that cannot run here.
    pub(super) async fn try_to_prepare(&self, catalogue: &Catalogue, row: &GenerationRow) -> Result<(), TryError> {
        // The lock is not held while preparing, which may take long; preparing twice is harmless.
        if self.state.lock().await.prepared.get(&row.id).is_some_and(|ready| is_of(ready, row)) {
            return Ok(());
        }
        let generation = self.prepare(catalogue, row).await?;
        let mut state = self.state.lock().await;
        state.failed.remove(&row.id);
        state.prepared.insert(row.id, generation);
        Ok(())
    }

    async fn follow(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        let revision = self.store.catalogue_revision().await?;
        let now = Instant::now();
        let is_due = state.failed.values().any(|failure| failure.retry <= now);
        if is_due || state.running.as_ref().is_none_or(|(running, _)| *running != revision) {
            let catalogue = self.store.catalogue().await?;
            self.bring_to(&mut state, &catalogue).await;
            self.report(&mut state).await
        } else if !self.relay.is_alone() && state.reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            self.report(&mut state).await
        } else {
            Ok(())
        }
    }

    async fn bring_to(&self, state: &mut State, catalogue: &Catalogue) {
        self.make_ready(state, catalogue);
        let named: BTreeSet<GenerationId> = catalogue.routes.iter().flat_map(in_force).collect();
        for row in catalogue.generations.iter().filter(|row| named.contains(&row.id)) {
            self.prepare_if_due(state, catalogue, row).await;
        }
        // Keep what a route can be rolled back to, if it is prepared, so that a rollback takes no time.
        let before = catalogue.routes.iter().flat_map(|route| route.previous.iter().copied()).filter_map(generation_of);
        let kept: BTreeSet<GenerationId> = before.chain(named.iter().copied()).collect();
        state.prepared.retain(|id, _| kept.contains(id));
        state.failed.retain(|id, _| named.contains(id));

        let prepared = |id: GenerationId| state.prepared.contains_key(&id);
        let running = state.running.as_ref().map(|(_, routes)| routes.as_slice());
        let routes = node_status::within_reach(&catalogue.routes, running, prepared);
        let plan = Plan {
            revision: catalogue.revision,
            builtin: &self.parts.built_in,
            generations: &state.prepared,
            routes: &routes,
            plugin_policies: &catalogue.plugin_policies,
            kind_policies: &catalogue.kind_policies,
        };
        let table = Table::new(&plan).expect("routes within reach name prepared generations only");
        self.parts.registry.replace(table);
        let is_new = state.running.as_ref().is_none_or(|(revision, _)| *revision != catalogue.revision);
        state.running = Some((catalogue.revision, routes));
        let error = first_error(state);
        if is_new {
            tracing::info!(revision = catalogue.revision, error, "the catalogue of plugins is in force");
        }
        crate::metrics::CATALOGUE_REVISION.handle().set(catalogue.revision as f64);
        crate::metrics::GENERATIONS_FAILING.handle().set(state.failed.len() as f64);
        self.node_status.send_replace(NodeStatus { revision: catalogue.revision, error });
    }

    /// Compiles newly deployed components in the background: activating one reaches all nodes at nearly the same
    /// moment, and it should be in the cache by then.
    fn make_ready(&self, state: &mut State, catalogue: &Catalogue) {
        let deployed: HashSet<Digest> = catalogue.versions.iter().map(|version| version.digest.clone()).collect();
        let Some(known) = state.deployed.replace(deployed) else { return };
        for version in catalogue.versions.iter().filter(|version| !known.contains(&version.digest)) {
            let (store, engine) = (Arc::clone(&self.store), Arc::clone(&self.parts.engine));
            let (name, digest) = (format!("{} {}", version.plugin, version.version), version.digest.clone());
            // Bounded: components come only from operators, and one is compiled at a time.
            tokio::spawn(async move {
                // Errors are reported when it is activated.
                if let Ok(Some(component)) = store.artefact(&digest).await {
                    let _ = engine.describe(&name, &component).await;
                }
            });
        }
    }

    async fn prepare_if_due(&self, state: &mut State, catalogue: &Catalogue, row: &GenerationRow) {
        if state.prepared.get(&row.id).is_some_and(|ready| is_of(ready, row)) {
            return;
        }
        let former = state.failed.get(&row.id);
        if former.is_some_and(|failure| failure.retry > Instant::now()) {
            return;
        }
        let pause = former.map_or(FIRST_RETRY, |failure| (failure.pause * 2).min(LAST_RETRY));
        match self.prepare(catalogue, row).await {
            Ok(generation) => {
                state.failed.remove(&row.id);
                state.prepared.insert(row.id, generation);
            }
            Err(error) => {
                crate::metrics::PREPARE_FAILURES.handle().increment(1);
                tracing::error!(
                    plugin = %row.plugin,
                    version = row.version,
                    generation = row.id,
                    %error,
                    "failed to prepare a plugin; its routes stay unchanged"
                );
                let failure = Failure { error: error.to_string(), retry: Instant::now() + pause, pause };
                state.failed.insert(row.id, failure);
            }
        }
    }

    async fn prepare(&self, catalogue: &Catalogue, row: &GenerationRow) -> Result<Arc<Generation>, TryError> {
        let Some(component) = self.store.artefact(&row.digest).await? else { return Err(TryError::NoArtefact) };
        let view = View { catalogue, built_in: &self.built_in };
        let (allowance, scope) = allowance(view, row);
        let order = Order {
            name: &format!("{} {}", row.plugin, row.version),
            component: &component,
            id: Some(row.id),
            config: &row.config,
            allowance: Arc::new(allowance),
            scope: &scope,
        };
        Ok(self.parts.engine.prepare(order).await?)
    }

    async fn report(&self, state: &mut State) -> Result<(), StoreError> {
        let NodeStatus { revision, error } = self.node_status();
        let at: Timestamp = self.parts.clock.now();
        let report =
            NodeReport { node: self.parts.node.clone(), revision, error, secret: Some(self.parts.secret.clone()), at };
        self.store.report_node(&report).await?;
        state.reported = Some(Instant::now());
        Ok(())
    }
}

/// Why a generation cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(super) enum TryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The catalogue names a component that the store does not have.
    #[error("failed to find the bytes of the plugin in the store")]
    NoArtefact,
}

/// Whether a prepared generation is the one in this row. Ids are unique, but one prepared for a change that was never
/// made may later be assigned to another generation.
fn is_of(ready: &Generation, row: &GenerationRow) -> bool {
    ready.digest() == row.digest.as_str() && ready.config() == row.config
}

fn in_force(route: &Route) -> impl Iterator<Item = GenerationId> + use<> {
    generation_of(route.stable).into_iter().chain(route.candidate.map(|candidate| candidate.generation))
}

fn generation_of(target: Target) -> Option<GenerationId> {
    match target {
        Target::Generation(id) => Some(id),
        Target::Off | Target::BuiltIn => None,
    }
}

fn first_error(state: &State) -> Option<String> {
    let first = state.failed.iter().min_by_key(|(id, _)| **id);
    first.map(|(id, failure)| format!("generation {id}: {}", failure.error))
}

/// What a generation is prepared with: everything granted in any scope, because each call is held to the grants of its
/// own tenant; and the limits of one of the scopes that name it.
fn allowance(view: View<'_>, row: &GenerationRow) -> (Allowance, Scope) {
    let routes = view.catalogue.routes.iter().filter(|route| in_force(route).any(|id| id == row.id));
    let scopes: BTreeSet<&Scope> = routes.map(|route| &route.scope).collect();
    let all_terms = || view.catalogue.plugin_policies.iter().filter(|policy| policy.plugin == row.plugin);
    let terms_of = |scope: &Scope| all_terms().find(|policy| policy.scope == *scope);
    let scope = scopes.first().map_or(Scope::All, |scope| (*scope).clone());
    let own = scope.tenant().and_then(|_| terms_of(&scope));
    let mut allowance = Allowance::deployed().under(terms_of(&Scope::All), own);
    allowance.grants.extend(all_terms().filter_map(|policy| policy.grants.clone()).flatten());
    (allowance, scope)
}

fn built_in(generation: &Arc<Generation>) -> BuiltIn {
    BuiltIn {
        plugin: generation.plugin().clone(),
        version: generation.version().to_owned(),
        digest: generation.digest().to_owned(),
        kinds: generation.kinds().to_vec(),
        watches: generation.watches().to_vec(),
    }
}
