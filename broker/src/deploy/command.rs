//! Commands to the control plane, and the result of planning one.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::catalogue::{Change, FailurePolicy, GenerationId, Import, Scope, Trial};
use crate::model::{Kind, PluginName, TenantSlug};
use crate::plugin::Descriptor;

/// Selects a generation of a plugin.
#[derive(Debug, Clone)]
pub struct Choice {
    pub plugin: PluginName,
    /// `None`: the version deployed last, or the built-in one if none is deployed. [`Choice::BUILT_IN`]: the built-in
    /// one.
    pub version: Option<String>,
    /// The configuration for `init`. `None`: that of the plugin's generation in force, or else empty.
    pub config: Option<String>,
    pub scope: Scope,
}

impl Choice {
    /// Selects the plugin compiled into the broker, whatever is deployed under its name.
    pub const BUILT_IN: &str = "built-in";

    /// Maximum size of a configuration, in bytes.
    pub const MAX_CONFIG: usize = 64 << 10;
}

/// A change to a set of grants.
#[derive(Debug, Clone)]
pub enum Edit {
    Add(BTreeSet<Import>),
    Remove(BTreeSet<Import>),
    /// Replaces the set.
    Set(BTreeSet<Import>),
    /// Removes the decision: the policy for all tenants applies, or the default.
    Clear,
}

#[derive(Debug, Clone)]
pub enum Command {
    /// Keep a version in the catalogue.
    Deploy(Descriptor),
    /// Route all its kinds, and its watches, to it.
    Activate(Choice),
    /// Run it as a canary or shadow beside the generation in force.
    Try(Choice, Trial),
    /// Put the candidate in force.
    Promote(PluginName, Scope),
    /// End a trial; without one, return to what was in force before.
    Rollback(PluginName, Scope),
    /// Turn off every kind that it handles.
    Disable(PluginName, Scope),
    /// Drop a tenant's own routes, so that it follows those for all tenants.
    Follow(PluginName, TenantSlug),
    /// Set what the plugin may use.
    Grants(PluginName, Scope, Edit),
    /// Set limits by name; `None` removes a decision.
    Limits(PluginName, Scope, BTreeMap<String, Option<u64>>),
    /// Set what follows from a failing handler; `None` removes the decision.
    Policy(Kind, Scope, Option<FailurePolicy>),
    /// Set whether a tenant's events may be recorded.
    Consent(TenantSlug, bool),
    /// A generation keeps failing for a tenant: return the tenant to what was in force before.
    Break {
        plugin: PluginName,
        tenant: TenantSlug,
        generation: GenerationId,
        /// What was observed, for the audit log.
        reason: String,
    },
    /// A canary does worse than the generation in force: end its trial in every scope.
    Abandon {
        plugin: PluginName,
        generation: GenerationId,
        /// What was observed, for the audit log.
        reason: String,
    },
}

impl Command {
    /// Whether the broker issues it by itself.
    pub(super) fn is_automatic(&self) -> bool {
        matches!(self, Command::Break { .. } | Command::Abandon { .. })
    }

    /// The action in the audit log.
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

    /// The plugin or kind that the command concerns.
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

/// Why a command was refused: one line that says what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Refused {
    pub(super) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

/// The result of planning a command.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// `None`: nothing to change.
    pub change: Option<Change>,
    /// What is in force before.
    pub from: String,
    /// What is in force afterwards.
    pub to: String,
    /// What else the operator should know, one line each.
    pub notes: Vec<String>,
}
