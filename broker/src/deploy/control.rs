//! The control plane: plans commands, tests them, records them with their audit line, and waits for the nodes.
//!
//! Several control planes may work at once, on one node or many: a change is based on a revision, and whoever loses the
//! race plans again. A refused command leaves nothing but its audit line.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::command::{Command, Refused, Step};
use super::plan::plan;
use super::planner::Planner;
use super::reconciler::{LIVES_FOR, Reconciler, TryError};
use super::view::{BuiltIn, View};
use crate::model::catalogue::{Audit, Catalogue, Change, NodeReport, Scope, Target};
use crate::model::{Digest, PluginName, TenantSlug, Timestamp};
use crate::plugin::{Descriptor, Limits, LoadError, Logs, Recording, Wanted};
use crate::store::StoreError;

/// Plans made for one command, if the catalogue keeps changing underneath.
const ATTEMPTS: usize = 8;

/// How long a command waits for the nodes to follow.
const WAIT: Duration = Duration::from_secs(10);

/// How often it looks: quickly at first, because nodes take a few milliseconds, and then less and less often.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// Longest reason in the audit log, in characters.
const REASON: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Cannot be done as asked; the line says what to do instead.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The component is not acceptable, or this node cannot run it.
    #[error("{0}")]
    Unfit(String),
    /// Others kept changing the catalogue.
    #[error("other changes to the catalogue are in progress; try again")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ControlError {
    /// Whether the same command may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            ControlError::Refused(_) | ControlError::Unfit(_) => false,
            ControlError::Busy => true,
            ControlError::Store(error) => error.is_unavailable(),
        }
    }
}

/// The outcome of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub action: &'static str,
    pub subject: String,
    pub scope: Scope,
    /// What was in force before.
    pub from: String,
    /// What is in force now.
    pub to: String,
    pub changed: bool,
    /// What else the operator should know.
    pub notes: Vec<String>,
    /// The revision of the catalogue afterwards.
    pub revision: u64,
    pub reach: Reach,
}

/// How far the nodes have come with a revision.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Nodes that are alive.
    pub nodes: usize,
    /// Nodes that run the revision completely.
    pub running: usize,
    /// The other nodes, each with what holds it up.
    pub behind: Vec<(String, String)>,
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "in force on {} of {} nodes", self.running, self.nodes)?;
        for (node, why) in &self.behind {
            write!(f, "; {node}: {why}")?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct ControlPlane {
    reconciler: Arc<Reconciler>,
}

impl ControlPlane {
    pub fn new(reconciler: Arc<Reconciler>) -> Self {
        Self { reconciler }
    }

    /// Checks a component and stores it in the catalogue.
    pub async fn deploy(&self, actor: &str, component: Vec<u8>) -> Result<(Descriptor, Outcome), ControlError> {
        let described = match self.reconciler.parts.engine.describe("", &component).await {
            Ok(described) => described,
            Err(error) => {
                let reason = reason(error);
                let line = Audit { action: "deploy".to_owned(), subject: "a component".to_owned(), ..self.line(actor) };
                self.write_down(line, &reason).await;
                return Err(ControlError::Unfit(reason));
            }
        };
        let command = Command::Deploy(described.clone());
        let artefact = (described.digest.clone(), component);
        let outcome = self.carry_out(actor, &command, Some(artefact)).await?;
        Ok((described, outcome))
    }

    /// Carries out a command and waits for the nodes to follow, within bounds.
    pub async fn run(&self, actor: &str, command: &Command) -> Result<Outcome, ControlError> {
        self.carry_out(actor, command, None).await
    }

    pub async fn catalogue(&self) -> Result<Catalogue, StoreError> {
        self.reconciler.store.catalogue().await
    }

    /// The plugins that need no decision.
    pub fn built_in(&self) -> &[BuiltIn] {
        &self.reconciler.built_in
    }

    /// The audit log, newest line first, starting before a given number.
    pub async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<Audit>, StoreError> {
        self.reconciler.store.audit(before, limit).await
    }

    /// The nodes that are alive, and how far each has come.
    pub async fn nodes(&self) -> Result<Vec<NodeReport>, StoreError> {
        let reconciler = &self.reconciler;
        let now = reconciler.parts.clock.now();
        let own = reconciler.node_status();
        let mut nodes = Vec::new();
        if !reconciler.relay.is_alone() {
            let since = Timestamp(now.0 - i64::try_from(LIVES_FOR.as_millis()).unwrap_or(0));
            nodes = reconciler.store.nodes(since).await?;
            nodes.retain(|node| node.node != reconciler.parts.node);
        }
        nodes.push(NodeReport {
            node: reconciler.parts.node.clone(),
            revision: own.revision,
            error: own.error,
            secret: Some(reconciler.parts.secret.clone()),
            at: now,
        });
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(nodes)
    }

    /// Starts to record events on this node, for a tenant that consents.
    pub async fn record(&self, actor: &str, wanted: Wanted) -> Result<Recording, ControlError> {
        let (tenant, kind) = (wanted.tenant.clone(), wanted.kind.to_string());
        let line = Audit {
            action: "record".to_owned(),
            scope: Scope::Tenant(tenant.clone()),
            subject: kind,
            ..self.line(actor)
        };
        let begun = match self.consents(&tenant).await? {
            false => Err(format!(
                "tenant `{tenant}` does not consent to recording; `switchboard plugin consent {tenant} on` gives consent"
            )),
            true => self.reconciler.parts.engine.recorder().record(wanted).map_err(|error| error.to_string()),
        };
        self.write_down(line, begun.as_ref().map_or_else(|reason| reason.as_str(), |_| "ok")).await;
        begun.map_err(|reason| Refused::new(reason).into())
    }

    pub async fn consents(&self, tenant: &TenantSlug) -> Result<bool, StoreError> {
        Ok(self.catalogue().await?.consents.contains(tenant))
    }

    /// Maximum size of a component, in bytes.
    pub fn largest(&self) -> usize {
        self.reconciler.parts.engine.bounds().component
    }

    /// The guest logs of this node.
    pub fn logs(&self) -> &Arc<Logs> {
        self.reconciler.parts.engine.logs()
    }

    /// Whether any plugin of this name is known.
    pub async fn knows(&self, plugin: &PluginName) -> Result<bool, StoreError> {
        let catalogue = self.catalogue().await?;
        Ok(View { catalogue: &catalogue, built_in: self.built_in() }.knows(plugin))
    }

    async fn carry_out(
        &self,
        actor: &str,
        command: &Command,
        mut artefact: Option<(Digest, Vec<u8>)>,
    ) -> Result<Outcome, ControlError> {
        let line = Audit {
            action: command.action().to_owned(),
            scope: command.scope(),
            subject: command.subject().to_owned(),
            ..self.line(actor)
        };
        let (step, revision) = match self.decide(actor, command, &line, &mut artefact).await {
            Ok(decided) => decided,
            Err(error @ (ControlError::Refused(_) | ControlError::Unfit(_))) => {
                count(command, "refused");
                // Several nodes may notice the same incident. The first one acts, and only that deserves a line.
                if !command.is_automatic() {
                    self.write_down(line, &error.to_string()).await;
                }
                return Err(error);
            }
            Err(error) => {
                count(command, "failed");
                return Err(error);
            }
        };
        let changed = step.change.is_some();
        count(command, if changed { "ok" } else { "unchanged" });
        let mut outcome = Outcome {
            action: command.action(),
            subject: command.subject().to_owned(),
            scope: command.scope(),
            from: step.from,
            to: step.to,
            changed,
            notes: step.notes,
            revision,
            reach: Reach::default(),
        };
        if changed {
            tracing::info!(
                actor,
                action = outcome.action,
                subject = outcome.subject,
                scope = %outcome.scope,
                from = outcome.from,
                to = outcome.to,
                revision,
                "changed plugins"
            );
            self.reconciler.relay.announce();
        }
        outcome.reach = self.wait_for_nodes(revision).await?;
        Ok(outcome)
    }

    /// Plans and records the change, again if somebody else was faster.
    async fn decide(
        &self,
        actor: &str,
        command: &Command,
        line: &Audit,
        artefact: &mut Option<(Digest, Vec<u8>)>,
    ) -> Result<(Step, u64), ControlError> {
        let store = &self.reconciler.store;
        if let Some(tenant) = command.scope().tenant()
            && store.tenant(tenant).await?.is_none()
        {
            let reason = format!("there is no tenant `{tenant}`; `switchboard tenant list` lists the tenants");
            return Err(Refused::new(reason).into());
        }
        for _ in 0..ATTEMPTS {
            let catalogue = store.catalogue().await?;
            let view = View { catalogue: &catalogue, built_in: &self.reconciler.built_in };
            let limit = |name: &str, value: u64| Limits::check(name, value).map_err(|error| error.to_string());
            let planner = Planner { view, now: self.reconciler.parts.clock.now(), actor, limit };
            let mut step = plan(&planner, command)?;
            let audit = Audit { from: step.from.clone(), to: step.to.clone(), ..line.clone() };
            let Some(change) = &mut step.change else {
                self.write_down(audit, "ok, unchanged").await;
                return Ok((step, catalogue.revision));
            };
            self.try_out(&catalogue, change).await?;
            change.audit = vec![Audit { result: "ok".to_owned(), ..audit }];
            change.artefact = artefact.take();
            // Compare-and-set on the revision: `None` means that the catalogue changed since it was read.
            if let Some(revision) = store.change_catalogue(catalogue.revision, change).await? {
                return Ok((step, revision));
            }
            *artefact = change.artefact.take();
        }
        Err(ControlError::Busy)
    }

    /// Checks that whatever is put in force or on trial runs on this node at least.
    async fn try_out(&self, catalogue: &Catalogue, change: &Change) -> Result<(), ControlError> {
        // Use the catalogue as it will be, so that a generation is prepared with the grants of its scope.
        let mut next = catalogue.clone();
        next.generations.extend(change.generations.iter().cloned());
        next.routes.retain(|known| {
            !change.routes.iter().any(|route| (&route.scope, &route.subject) == (&known.scope, &known.subject))
        });
        next.routes.extend(change.routes.iter().cloned());
        let stable = change.routes.iter().filter_map(|route| match route.stable {
            Target::Generation(id) => Some(id),
            Target::Off | Target::BuiltIn => None,
        });
        let candidates = change.routes.iter().filter_map(|route| route.candidate.map(|tried| tried.generation));
        let mut ids: Vec<u64> = stable.chain(candidates).collect();
        ids.sort_unstable();
        ids.dedup();
        for row in next.generations.iter().filter(|row| ids.contains(&row.id)) {
            self.reconciler.try_to_prepare(&next, row).await.map_err(|error| match error {
                TryError::Store(error) => ControlError::Store(error),
                TryError::Load(error) => {
                    ControlError::Unfit(format!("{} {}: {}", row.plugin, row.version, reason(error)))
                }
                TryError::NoArtefact => ControlError::Unfit(format!("{} {}: {error}", row.plugin, row.version)),
            })?;
        }
        Ok(())
    }

    /// Waits until every live node runs a revision, or has failed to, or for [`WAIT`].
    async fn wait_for_nodes(&self, revision: u64) -> Result<Reach, StoreError> {
        let deadline = Instant::now() + WAIT;
        let mut pause = FIRST_LOOK;
        loop {
            let nodes = self.nodes().await?;
            let (running, behind): (Vec<&NodeReport>, Vec<&NodeReport>) =
                nodes.iter().partition(|node| node.revision >= revision && node.error.is_none());
            let has_tried = |node: &&NodeReport| node.revision >= revision;
            if behind.iter().all(has_tried) || Instant::now() >= deadline {
                let why = |node: &NodeReport| match &node.error {
                    Some(error) if node.revision >= revision => error.clone(),
                    _ => format!("still at revision {} of {revision}", node.revision),
                };
                let behind = behind.iter().map(|node| (node.node.clone(), why(node))).collect();
                return Ok(Reach { nodes: nodes.len(), running: running.len(), behind });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    fn line(&self, actor: &str) -> Audit {
        Audit {
            id: 0,
            at: self.reconciler.parts.clock.now(),
            actor: actor.to_owned(),
            action: String::new(),
            scope: Scope::All,
            subject: String::new(),
            from: String::new(),
            to: String::new(),
            result: String::new(),
        }
    }

    /// Records an audit line without a change. Failing to do so fails nothing else.
    async fn write_down(&self, line: Audit, result: &str) {
        let line = Audit { result: result.chars().take(REASON).collect(), ..line };
        let change = Change { audit: vec![line], ..Change::default() };
        if let Err(error) = self.reconciler.store.change_catalogue(0, &change).await {
            tracing::warn!(%error, "failed to write a line to the audit");
        }
    }
}

fn count(command: &Command, result: &'static str) {
    crate::metrics::CATALOGUE_CHANGES.add([command.action(), result], 1);
}

/// What is wrong with a component, without repeating the file that the operator just named.
fn reason(error: LoadError) -> String {
    match error {
        LoadError::Refused { reason, .. } => reason,
        other => other.to_string(),
    }
}
