//! The catalogue: what operators have decided about plugins, now and before.
//!
//! It says which version of which plugin handles what, in which scope, with which grants and limits. Whether a node
//! runs what it says is not recorded here; reconcilers bring the nodes to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, Kind, PluginName, TenantSlug, Timestamp};

/// Who may cause events of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Client,
    Broker,
}

/// What happens if the handler fails, unless a [`KindPolicy`] says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The sender gets an error.
    Durable,
    /// The event is dropped.
    Ephemeral,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindSpec {
    /// The `type` of its frames.
    pub kind: Kind,
    pub origin: Origin,
    pub durability: Durability,
}

/// An interface of the broker that a plugin may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Import {
    /// Messages of the channel.
    History,
    /// Members of the channel.
    Members,
    /// Members connected to the channel.
    Presence,
    /// The plugin's own keys and values.
    Kv,
    /// The guest log.
    Log,
}

impl Import {
    pub const ALL: [Import; 5] = [Import::History, Import::Members, Import::Presence, Import::Kv, Import::Log];

    /// The name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Import::History => "history",
            Import::Members => "members",
            Import::Presence => "presence",
            Import::Kv => "kv",
            Import::Log => "log",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|import| import.as_str() == name)
    }
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a decision applies. A decision for one tenant takes precedence over one for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Option<TenantSlug>", into = "Option<TenantSlug>")]
pub enum Scope {
    #[default]
    All,
    Tenant(TenantSlug),
}

impl Scope {
    pub fn tenant(&self) -> Option<&TenantSlug> {
        match self {
            Scope::All => None,
            Scope::Tenant(tenant) => Some(tenant),
        }
    }
}

impl From<Option<TenantSlug>> for Scope {
    fn from(tenant: Option<TenantSlug>) -> Self {
        tenant.map_or(Scope::All, Scope::Tenant)
    }
}

impl From<Scope> for Option<TenantSlug> {
    fn from(scope: Scope) -> Self {
        scope.tenant().cloned()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::All => f.write_str("all tenants"),
            Scope::Tenant(tenant) => write!(f, "tenant {tenant}"),
        }
    }
}

/// Unique in the catalogue and never reused.
pub type GenerationId = u64;

/// A deployed version of a plugin. The component is stored under its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub plugin: PluginName,
    /// As the component reports it. A version never changes its bytes.
    pub version: String,
    /// The SHA-256 of the component.
    pub digest: Digest,
    /// Size of the component, in bytes.
    pub size: u64,
    pub kinds: Vec<KindSpec>,
    /// The kinds of messages after whose commit its `stored` is called.
    pub watches: Vec<Kind>,
    /// The interfaces it imports or declares that it wants.
    pub wants: Vec<Import>,
    pub deployed_at: Timestamp,
    /// The actor, as the operator's tool reported it.
    pub deployed_by: String,
}

/// A version together with the configuration it is started with. Activation, trials and rollbacks act on generations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRow {
    pub id: GenerationId,
    pub plugin: PluginName,
    pub version: String,
    pub digest: Digest,
    /// The operator's configuration for `init`; may be empty. At most 64 KiB.
    pub config: String,
    pub created_at: Timestamp,
}

/// What a route is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Events of a kind, which go to one handler.
    Handles(Kind),
    /// Stored messages, which a watching plugin is called with.
    Watches(PluginName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Nobody: the type is unknown.
    Off,
    /// The plugin compiled into the broker or named at start-up, if there is one.
    BuiltIn,
    Generation(GenerationId),
}

/// A generation on trial beside the stable one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub generation: GenerationId,
    pub trial: Trial,
}

/// How a generation is tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    /// Handles this percentage of the channels, 1 to 99. A channel always gets the same generation.
    Canary(u8),
    /// Receives every event after the stable generation; its effects are compared and dropped.
    Shadow,
}

/// The target of a subject in a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub scope: Scope,
    pub subject: Subject,
    pub stable: Target,
    /// Former targets, newest first, at most [`Route::KEPT`].
    pub previous: Vec<Target>,
    pub candidate: Option<Candidate>,
}

impl Route {
    /// Former targets that a route can be rolled back to.
    pub const KEPT: usize = 3;
}

/// What a plugin may do and use in a scope. A tenant's policy overrides the one for all tenants, each part by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginPolicy {
    pub scope: Scope,
    pub plugin: PluginName,
    /// The interfaces it may use; `None` if not decided here.
    pub grants: Option<BTreeSet<Import>>,
    /// Limits by name, in the unit that the name ends with, such as `memory_mib`. A missing limit is not decided here.
    pub limits: BTreeMap<String, u64>,
}

/// What happens when a handler fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// The sender gets an error.
    Closed,
    /// The event is dropped. The sender is told only if it asked for an answer.
    Open,
}

/// An operator's decision on failing handlers of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindPolicy {
    pub scope: Scope,
    pub kind: Kind,
    /// `None` removes a decision.
    pub policy: Option<FailurePolicy>,
}

/// Everything decided, except components and the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    /// Grows by one with each change.
    pub revision: u64,
    /// Sorted by plugin and time.
    pub versions: Vec<Version>,
    /// Sorted by number.
    pub generations: Vec<GenerationRow>,
    /// Sorted by scope and subject.
    pub routes: Vec<Route>,
    /// Sorted by scope and plugin.
    pub plugin_policies: Vec<PluginPolicy>,
    /// Sorted by scope and kind. Removed decisions are absent.
    pub kind_policies: Vec<KindPolicy>,
    /// Tenants whose events may be recorded.
    pub consents: BTreeSet<TenantSlug>,
}

/// A change of the catalogue, applied completely or not at all.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// A component to store under its digest.
    pub artefact: Option<(Digest, Vec<u8>)>,
    /// Added; must not exist yet.
    pub versions: Vec<Version>,
    /// Added; must not exist yet.
    pub generations: Vec<GenerationRow>,
    /// Inserted, or replacing the route of the same scope and subject.
    pub routes: Vec<Route>,
    pub dropped: Vec<(Scope, Subject)>,
    /// Inserted or replaced.
    pub plugin_policies: Vec<PluginPolicy>,
    /// Inserted, replaced, or removed where `policy` is `None`.
    pub kind_policies: Vec<KindPolicy>,
    /// Whether a tenant's events may be recorded.
    pub consents: Vec<(TenantSlug, bool)>,
    /// The audit lines of the change.
    pub audit: Vec<Audit>,
}

/// A line of the audit log. Lines are appended and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Assigned by the store, whatever it is when the line is added.
    pub id: u64,
    pub at: Timestamp,
    /// What the operator's tool reported, or `broker` for automatic commands.
    pub actor: String,
    /// The command, such as `activate`.
    pub action: String,
    pub scope: Scope,
    /// The plugin or kind it concerns.
    pub subject: String,
    /// What was in force before.
    pub from: String,
    /// What was to be in force.
    pub to: String,
    /// `ok`, or why it was not done.
    pub result: String,
}

/// A node's report on how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Unique among the nodes that are alive.
    pub node: String,
    /// The revision it runs.
    pub revision: u64,
    /// What it could not do of that revision. It continues with what it ran before.
    pub error: Option<String>,
    /// A fingerprint of the secret with which it signs tokens, if it is known.
    pub secret: Option<String>,
    pub at: Timestamp,
}
