//! What an operator, or the broker by itself, may ask for, and what a plan comes to.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::catalogue::{Change, FailurePolicy, GenerationId, Import, Scope, Trial};
use crate::model::{Kind, PluginName, TenantSlug};
use crate::plugin::Descriptor;

/// Which generation of a plugin is meant.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The plugin.
    pub plugin: PluginName,
    /// `None`: the one deployed last, or the built-in one when none is deployed. [`Choice::BUILT_IN`]: the built-in one.
    pub version: Option<String>,
    /// The text for `init`; `None`: that of the plugin's generation in force, else none.
    pub config: Option<String>,
    /// For whom.
    pub scope: Scope,
}

impl Choice {
    /// The version that names the plugin compiled into the broker, whatever is deployed under its name.
    pub const BUILT_IN: &str = "built-in";

    /// Bytes that a configuration may have.
    pub const MAX_CONFIG: usize = 64 << 10;
}

/// A change of a set of grants.
#[derive(Debug, Clone)]
pub enum Edit {
    /// These as well.
    Add(BTreeSet<Import>),
    /// These no more.
    Remove(BTreeSet<Import>),
    /// These and no others.
    Set(BTreeSet<Import>),
    /// What goes for all tenants, or the default.
    Clear,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Keep a version.
    Deploy(Descriptor),
    /// Let it handle all its kinds, and watch.
    Activate(Choice),
    /// Try it out beside the one in force.
    Try(Choice, Trial),
    /// Put what is tried out in force.
    Promote(PluginName, Scope),
    /// Stop what is tried out; when nothing is, go back to what was in force before.
    Rollback(PluginName, Scope),
    /// Let nobody handle its kinds.
    Disable(PluginName, Scope),
    /// Give a tenant's own decisions up: it follows what is decided for all.
    Follow(PluginName, TenantSlug),
    /// What the plugin may use.
    Grants(PluginName, Scope, Edit),
    /// How much it may use, by name; `None` takes a former decision back.
    Limits(PluginName, Scope, BTreeMap<String, Option<u64>>),
    /// What follows from a failing handler; `None` takes a former decision back.
    Policy(Kind, Scope, Option<FailurePolicy>),
    /// Whether a tenant's events may be recorded.
    Consent(TenantSlug, bool),
    /// A generation failed a tenant again and again: give the tenant what was in force before.
    Break {
        /// The plugin.
        plugin: PluginName,
        /// The tenant.
        tenant: TenantSlug,
        /// The generation that failed.
        generation: GenerationId,
        /// What was seen.
        reason: String,
    },
    /// A generation that was tried out did worse than the one in force: end the trial wherever it runs.
    Abandon {
        /// The plugin.
        plugin: PluginName,
        /// The generation that is tried out.
        generation: GenerationId,
        /// What was seen.
        reason: String,
    },
}

impl Command {
    /// Whether the broker asks for it by itself.
    pub(super) fn is_automatic(&self) -> bool {
        matches!(self, Command::Break { .. } | Command::Abandon { .. })
    }

    /// The word for the audit.
    pub fn action(&self) -> &'static str {
        match self {
            Command::Deploy(_) => "deploy",
            Command::Activate(_) => "activate",
            Command::Try(_, Trial::Canary(_)) => "canary",
            Command::Try(_, Trial::Shadow) => "shadow",
            Command::Promote(..) => "promote",
            Command::Rollback(..) => "rollback",
            Command::Disable(..) => "disable",
            Command::Follow(..) => "follow",
            Command::Grants(..) => "grants",
            Command::Limits(..) => "limits",
            Command::Policy(..) => "policy",
            Command::Consent(..) => "consent",
            Command::Break { .. } => "circuit",
            Command::Abandon { .. } => "canary-dropped",
        }
    }

    /// For whom.
    pub fn scope(&self) -> Scope {
        match self {
            Command::Deploy(_) | Command::Abandon { .. } => Scope::All,
            Command::Activate(choice) | Command::Try(choice, _) => choice.scope.clone(),
            Command::Promote(_, scope)
            | Command::Rollback(_, scope)
            | Command::Disable(_, scope)
            | Command::Grants(_, scope, _)
            | Command::Limits(_, scope, _)
            | Command::Policy(_, scope, _) => scope.clone(),
            Command::Follow(_, tenant) | Command::Consent(tenant, _) | Command::Break { tenant, .. } => {
                Scope::Tenant(tenant.clone())
            }
        }
    }

    /// About what: a plugin or a kind.
    pub fn subject(&self) -> &str {
        match self {
            Command::Deploy(deployed) => deployed.plugin.as_str(),
            Command::Activate(choice) | Command::Try(choice, _) => choice.plugin.as_str(),
            Command::Promote(plugin, _)
            | Command::Rollback(plugin, _)
            | Command::Disable(plugin, _)
            | Command::Follow(plugin, _)
            | Command::Grants(plugin, ..)
            | Command::Limits(plugin, ..)
            | Command::Break { plugin, .. }
            | Command::Abandon { plugin, .. } => plugin.as_str(),
            Command::Policy(kind, ..) => kind.as_str(),
            Command::Consent(..) => "recording",
        }
    }
}

/// Why a command is not done: one line that says what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Refused {
    pub(super) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

/// What a command comes to.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// What is to be changed; `None`: it is as asked already.
    pub change: Option<Change>,
    /// What is in force.
    pub from: String,
    /// What will be.
    pub to: String,
    /// What the operator should know beside it, a line each.
    pub notes: Vec<String>,
}
