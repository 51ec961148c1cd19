//! What operators have decided about plugins, and what they decided before: the catalogue.
//!
//! It says which version of which plugin shall handle what, for whom, with which grants and within which limits. It does
//! not know whether a node runs what it says: nodes bring themselves to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, Kind, PluginName, TenantSlug, Timestamp};

/// Who may cause events of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Clients.
    Client,
    /// The broker.
    Broker,
}

/// What a sender may count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A failing handler answers with an error.
    Durable,
    /// A failing handler drops the event.
    Ephemeral,
}

/// A message type that a plugin handles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindSpec {
    /// The `type` of its frames.
    pub kind: Kind,
    /// Who may cause its events.
    pub origin: Origin,
    /// What the sender may count on.
    pub durability: Durability,
}

/// An interface of the broker that a plugin may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Import {
    /// The messages of the channel.
    History,
    /// Who belongs to the channel.
    Members,
    /// Who is connected to it.
    Presence,
    /// The plugin's own keys and values.
    Kv,
    /// The plugin's log.
    Log,
}

impl Import {
    /// All of them.
    pub const ALL: [Import; 5] = [Import::History, Import::Members, Import::Presence, Import::Kv, Import::Log];

    /// Its name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Import::History => "history",
            Import::Members => "members",
            Import::Presence => "presence",
            Import::Kv => "kv",
            Import::Log => "log",
        }
    }

    /// The import of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|import| import.as_str() == name)
    }
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// For whom something is decided. What is decided for a tenant goes before what is decided for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Option<TenantSlug>", into = "Option<TenantSlug>")]
pub enum Scope {
    /// Every tenant.
    #[default]
    All,
    /// One tenant.
    Tenant(TenantSlug),
}

impl Scope {
    /// The tenant, if it is one.
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

/// The number of a generation, unique in the catalogue and never reused.
pub type GenerationId = u64;

/// A version of a plugin, as it was deployed. Its bytes are kept under the digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Which plugin.
    pub plugin: PluginName,
    /// What it says itself; a version of a plugin has the same bytes for ever.
    pub version: String,
    /// The SHA-256 of the component.
    pub digest: Digest,
    /// Bytes of the component.
    pub size: u64,
    /// What it handles.
    pub kinds: Vec<KindSpec>,
    /// After the commit of which kinds of messages its `stored` is called.
    pub watches: Vec<Kind>,
    /// The interfaces it imports or says that it wants.
    pub wants: Vec<Import>,
    /// When it was deployed.
    pub deployed_at: Timestamp,
    /// By whom, as the operator's tool said.
    pub deployed_by: String,
}

/// A version with the configuration it is started with. What is activated, tried out and rolled back is a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRow {
    /// Its number.
    pub id: GenerationId,
    /// Of which plugin.
    pub plugin: PluginName,
    /// Which version.
    pub version: String,
    /// The digest of that version.
    pub digest: Digest,
    /// The operator's text for `init`; empty when there is none. At most 64 KiB.
    pub config: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What is routed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The events of a kind go to one handler.
    Handles(Kind),
    /// A plugin hears of stored messages.
    Watches(PluginName),
}

/// Where a subject goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// To nobody: the type is unknown.
    Off,
    /// To the plugin that is compiled into the broker or named at its start, if there is one.
    BuiltIn,
    /// To a generation of the catalogue.
    Generation(GenerationId),
}

/// A generation that is tried out beside the one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which.
    pub generation: GenerationId,
    /// How.
    pub trial: Trial,
}

/// How a generation is tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    /// It handles so many per cent of the channels, 1 to 99. A channel stays on one generation.
    Canary(u8),
    /// It is given every event beside the stable one; its effects are compared and thrown away.
    Shadow,
}

/// Where a subject goes for a tenant or for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// For whom.
    pub scope: Scope,
    /// What.
    pub subject: Subject,
    /// Where to.
    pub stable: Target,
    /// Where it went before, the latest first: at most [`Route::KEPT`].
    pub previous: Vec<Target>,
    /// What is tried out, if something is.
    pub candidate: Option<Candidate>,
}

impl Route {
    /// How many former targets a route can be rolled back to.
    pub const KEPT: usize = 3;
}

/// What a plugin may do and use in a scope. What stands for a tenant replaces what stands for all, each part by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginPolicy {
    /// For whom.
    pub scope: Scope,
    /// Which plugin.
    pub plugin: PluginName,
    /// The interfaces it may use; `None`: not decided here.
    pub grants: Option<BTreeSet<Import>>,
    /// Limits by name, in the unit of the name, such as `memory_mib`; one that is not here is not decided here.
    pub limits: BTreeMap<String, u64>,
}

/// What follows from a failing handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// The sender gets an error.
    Closed,
    /// The event is dropped; the sender hears of it only when it asked for an answer.
    Open,
}

/// What follows from a failing handler of a kind, where the operator decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindPolicy {
    /// For whom.
    pub scope: Scope,
    /// Of which kind.
    pub kind: Kind,
    /// `None` takes a former decision back.
    pub policy: Option<FailurePolicy>,
}

/// All that is decided, but for the bytes of the components and the audit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    /// Grows by one with each change.
    pub revision: u64,
    /// All versions that were deployed, by plugin and time.
    pub versions: Vec<Version>,
    /// All generations, by number.
    pub generations: Vec<GenerationRow>,
    /// All routes, by scope and subject.
    pub routes: Vec<Route>,
    /// By scope and plugin.
    pub terms: Vec<PluginPolicy>,
    /// By scope and kind; those that were taken back are not here.
    pub policies: Vec<KindPolicy>,
    /// Tenants whose events may be recorded.
    pub consents: BTreeSet<TenantSlug>,
}

/// A change of the catalogue: all of it is done, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// A component to keep under its digest.
    pub artefact: Option<(Digest, Vec<u8>)>,
    /// Versions to add.
    pub versions: Vec<Version>,
    /// Generations to add.
    pub generations: Vec<GenerationRow>,
    /// Routes to add, or to put in the place of those of the same scope and subject.
    pub routes: Vec<Route>,
    /// Routes to take out.
    pub dropped: Vec<(Scope, Subject)>,
    /// PluginPolicy to add or to replace.
    pub terms: Vec<PluginPolicy>,
    /// Policies to add, to replace or to take out.
    pub policies: Vec<KindPolicy>,
    /// Whether a tenant's events may be recorded.
    pub consents: Vec<(TenantSlug, bool)>,
    /// What to write down of it.
    pub audit: Vec<Audit>,
}

/// A line of the audit. Lines are added and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Its number; the store gives it, whatever stands here when it is added.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Who: what the operator's tool said, or `broker` for what the broker did by itself.
    pub actor: String,
    /// What was asked for, such as `activate`.
    pub action: String,
    /// For whom.
    pub scope: Scope,
    /// About what: a plugin or a kind.
    pub subject: String,
    /// What was in force before.
    pub from: String,
    /// What was to be in force.
    pub to: String,
    /// `ok`, or why it was not done.
    pub result: String,
}

/// How far a node has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node's name, unique among those that live.
    pub node: String,
    /// The revision that it runs.
    pub revision: u64,
    /// What it could not do of it; it then goes on with what it ran before.
    pub error: Option<String>,
    /// When it said so.
    pub at: Timestamp,
}
