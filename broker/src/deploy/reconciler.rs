//! Brings this node to what the catalogue says: prepares the generations that it names, then routes to all of them at once.
//!
//! What cannot be prepared leaves its routes as they were, is told to whoever asks, and is tried again. While the store
//! is away the node goes on with what it has. Nothing here changes the catalogue.

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

/// How often a node looks whether the catalogue has changed, should an announcement have been lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a node of several says that it lives.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// How old the last word of a living node is at most; nodes' clocks agree to a second or so.
pub(super) const LIVES_FOR: Duration = Duration::from_secs(7);

/// How long it waits before a generation that cannot be prepared is tried again: twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What a reconciler works with.
#[derive(Debug)]
pub struct Parts {
    /// The name of this node, unique among those that live.
    pub node: String,
    /// The generations that need no deploying.
    pub built_in: Vec<Arc<Generation>>,
    /// Prepares the others.
    pub engine: Arc<Engine>,
    /// Where they are put in force.
    pub registry: Arc<Registry>,
    /// Time.
    pub clock: Clock,
}

/// This node's way to the catalogue.
pub struct Reconciler {
    pub(super) parts: Parts,
    pub(super) store: Arc<dyn Store>,
    pub(super) relay: Arc<Relay>,
    pub(super) built_in: Vec<BuiltIn>,
    /// Whoever holds it brings the node to the catalogue: one at a time.
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
    /// The revision that was followed last, and the routes that came of it; none before the first time.
    running: Option<(u64, Vec<Route>)>,
    reported: Option<Instant>,
    /// The components that have been deployed as far as this node knows; none before the first time.
    deployed: Option<HashSet<Digest>>,
}

struct Failure {
    error: String,
    retry: Instant,
    pause: Duration,
}

impl Reconciler {
    /// Follows the catalogue for the first time. When it returns, the node runs what is decided, but for what cannot be
    /// prepared: that handles nothing.
    pub async fn start(parts: Parts, store: Arc<dyn Store>, relay: Arc<Relay>) -> Result<Arc<Self>, StoreError> {
        let built_in = parts.built_in.iter().map(built_in).collect();
        let node_status = watch::Sender::new(NodeStatus::default());
        let reconciler = Self { parts, store, relay, built_in, state: Mutex::default(), node_status };
        reconciler.follow().await?;
        Ok(Arc::new(reconciler))
    }

    /// Follows on, until it is dropped.
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
                    tracing::info!("the catalogue of plugins is followed again");
                }
                Ok(()) => {}
                Err(error) if !away => {
                    away = true;
                    tracing::warn!(%error, "failed to follow the catalogue of plugins; what runs goes on");
                }
                Err(_) => {}
            }
        }
    }

    /// How far this node has come.
    pub(super) fn node_status(&self) -> NodeStatus {
        self.node_status.borrow().clone()
    }

    /// Prepares a generation before it is decided, so that nothing is decided that cannot run. The error is one line.
    pub(super) async fn try_to_prepare(&self, catalogue: &Catalogue, row: &GenerationRow) -> Result<(), TryError> {
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
        // What a route can be rolled back to is kept while it is prepared, so that going back takes no time.
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
            terms: &catalogue.terms,
            policies: &catalogue.policies,
        };
        let table = Table::new(&plan).expect("routes within reach name prepared generations only");
        self.parts.registry.replace(table);
        let is_new = state.running.as_ref().is_none_or(|(revision, _)| *revision != catalogue.revision);
        state.running = Some((catalogue.revision, routes));
        let error = first_error(state);
        if is_new {
            tracing::info!(revision = catalogue.revision, error, "the catalogue of plugins is in force");
        }
        metrics::gauge!("switchboard_plugin_catalogue_revision").set(catalogue.revision as f64);
        metrics::gauge!("switchboard_plugin_generations_failing").set(state.failed.len() as f64);
        self.node_status.send_replace(NodeStatus { revision: catalogue.revision, error });
    }

    /// Compiles what is deployed while the node runs, beside everything else: when it is activated, all nodes have it at
    /// nearly the same moment.
    fn make_ready(&self, state: &mut State, catalogue: &Catalogue) {
        let deployed: HashSet<Digest> = catalogue.versions.iter().map(|version| version.digest.clone()).collect();
        let Some(known) = state.deployed.replace(deployed) else { return };
        for version in catalogue.versions.iter().filter(|version| !known.contains(&version.digest)) {
            let (store, engine) = (Arc::clone(&self.store), Arc::clone(&self.parts.engine));
            let (name, digest) = (format!("{} {}", version.plugin, version.version), version.digest.clone());
            // One component is compiled at a time, and only operators bring them, so this stays within bounds.
            tokio::spawn(async move {
                // Whatever goes wrong is said when it is activated.
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
                metrics::counter!("switchboard_plugin_prepare_failures_total").increment(1);
                tracing::error!(
                    plugin = %row.plugin,
                    version = row.version,
                    generation = row.id,
                    %error,
                    "failed to prepare a plugin; its routes stay as they were"
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
        let report = NodeReport { node: self.parts.node.clone(), revision, error, at };
        self.store.report_node(&report).await?;
        state.reported = Some(Instant::now());
        Ok(())
    }
}

/// Why a generation cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(super) enum TryError {
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The component is not fit.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The catalogue names bytes that the store does not have.
    #[error("failed to find the bytes of the plugin in the store")]
    NoArtefact,
}

/// A number is given once, but what was prepared for a change that then was not made may bear the number of another.
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

/// What a generation is prepared with: all that is granted in any scope, since each call is held to the grants of its own
/// tenant; and the limits of one of the scopes that name it.
fn allowance(view: View<'_>, row: &GenerationRow) -> (Allowance, Scope) {
    let routes = view.catalogue.routes.iter().filter(|route| in_force(route).any(|id| id == row.id));
    let scopes: BTreeSet<&Scope> = routes.map(|route| &route.scope).collect();
    let all_terms = || view.catalogue.terms.iter().filter(|terms| terms.plugin == row.plugin);
    let terms_of = |scope: &Scope| all_terms().find(|terms| terms.scope == *scope);
    let scope = scopes.first().map_or(Scope::All, |scope| (*scope).clone());
    let own = scope.tenant().and_then(|_| terms_of(&scope));
    let mut allowance = Allowance::deployed().under(terms_of(&Scope::All), own);
    allowance.grants.extend(all_terms().filter_map(|terms| terms.grants.clone()).flatten());
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
