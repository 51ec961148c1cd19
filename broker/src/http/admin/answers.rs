//! The answers of the operators' API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::deploy::{BuiltIn, Outcome, View};
use crate::model::catalogue::{KindSpec, Route, Scope, Subject, Target, Version};
use crate::model::{PluginName, TenantSlug};

/// A message type that a plugin handles.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KindAnswer {
    /// `type` of its frames.
    kind: String,
    /// `client` or `broker`: who can send events of this type.
    #[schema(value_type = String)]
    origin: crate::model::catalogue::Origin,
    /// `durable`, if the sender relies on its events being stored, or `ephemeral`.
    #[schema(value_type = String)]
    durability: crate::model::catalogue::Durability,
}

/// A version of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionAnswer {
    /// Name of the plugin.
    plugin: String,
    /// Version of the plugin.
    version: String,
    /// SHA-256 of the component.
    digest: String,
    /// Size of the component in bytes.
    size: u64,
    /// The message types that it handles.
    kinds: Vec<KindAnswer>,
    /// The types of stored messages that it watches.
    watches: Vec<String>,
    /// The interfaces that it uses.
    wants: Vec<String>,
    /// Time of its deployment.
    deployed_at: String,
    /// Who deployed it.
    deployed_by: String,
}

/// Which generation handles a message type, or watches stored messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RouteAnswer {
    /// The tenant that this applies to; null for all tenants.
    tenant: Option<String>,
    /// The message type, or `stored messages` for a plugin that watches.
    subject: String,
    /// The generation in force.
    stable: String,
    /// Earlier ones, latest first.
    previous: Vec<String>,
    /// The generation on trial, as a canary or a shadow.
    candidate: Option<String>,
}

/// The decisions about a plugin's grants and limits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TermsAnswer {
    /// The tenant that this applies to; null for all tenants.
    tenant: Option<String>,
    /// The interfaces that the plugin may use; null if there is no decision at this level.
    grants: Option<Vec<String>>,
    /// The limits that are set, by name.
    limits: BTreeMap<String, u64>,
}

/// A plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PluginAnswer {
    /// Name of the plugin.
    name: String,
    /// The version that is built into the broker, or was given at its start.
    built_in: Option<String>,
    /// The deployed versions, oldest first.
    versions: Vec<VersionAnswer>,
    /// Where it is in force, on trial or disabled.
    routes: Vec<RouteAnswer>,
    /// The decisions about its grants and limits.
    terms: Vec<TermsAnswer>,
}

/// The result of a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutcomeAnswer {
    /// The action that was requested.
    action: &'static str,
    /// What the action changes, such as a plugin.
    subject: String,
    /// The tenant that this applies to; null for all tenants.
    tenant: Option<String>,
    /// State before the change.
    from: String,
    /// State after the change.
    to: String,
    /// False if there was nothing to change.
    changed: bool,
    /// Further points that the operator should know.
    notes: Vec<String>,
    /// Revision of the catalogue.
    revision: u64,
    /// Number of live nodes.
    nodes: usize,
    /// Number of live nodes that run this revision.
    running: usize,
    /// Both numbers in words, and what delays the other nodes.
    reach: String,
}

/// A component that is now in the catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeployedAnswer {
    /// The version in the component.
    pub(super) version: VersionAnswer,
    /// False if it was already there.
    pub(super) changed: bool,
    /// Revision of the catalogue.
    pub(super) revision: u64,
}

/// The scope of a change.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForWhom {
    /// The tenant; if it is missing or null, all tenants.
    #[schema(value_type = Option<String>)]
    pub(super) tenant: Option<TenantSlug>,
}

impl From<Outcome> for OutcomeAnswer {
    fn from(outcome: Outcome) -> Self {
        Self {
            action: outcome.action,
            subject: outcome.subject,
            tenant: tenant(&outcome.scope),
            from: outcome.from,
            to: outcome.to,
            changed: outcome.changed,
            notes: outcome.notes,
            revision: outcome.revision,
            nodes: outcome.reach.nodes,
            running: outcome.reach.running,
            reach: outcome.reach.to_string(),
        }
    }
}

impl From<&Version> for VersionAnswer {
    fn from(version: &Version) -> Self {
        Self {
            plugin: version.plugin.to_string(),
            version: version.version.clone(),
            digest: version.digest.to_string(),
            size: version.size,
            kinds: version.kinds.iter().map(kind).collect(),
            watches: version.watches.iter().map(ToString::to_string).collect(),
            wants: version.wants.iter().map(ToString::to_string).collect(),
            deployed_at: version.deployed_at.to_string(),
            deployed_by: version.deployed_by.clone(),
        }
    }
}

impl PluginAnswer {
    /// Everything that is known about a plugin.
    pub(super) fn new(view: View<'_>, name: &PluginName) -> Self {
        let built_in = view.built_in_named(name);
        let versions = view.catalogue.versions.iter().filter(|version| version.plugin == *name);
        let routes = view.catalogue.routes.iter().filter(|route| concerns(view, route, name));
        let undecided = built_in.into_iter().flat_map(|built_in| undecided(view, built_in));
        let terms = view.catalogue.plugin_policies.iter().filter(|terms| terms.plugin == *name);
        Self {
            name: name.to_string(),
            built_in: built_in.map(|known| known.version.clone()),
            versions: versions.map(VersionAnswer::from).collect(),
            routes: undecided.chain(routes.map(|found| route(view, found))).collect(),
            terms: terms
                .map(|terms| TermsAnswer {
                    tenant: tenant(&terms.scope),
                    grants: terms.grants.as_ref().map(|grants| grants.iter().map(ToString::to_string).collect()),
                    limits: terms.limits.clone(),
                })
                .collect(),
        }
    }
}

/// The tenant of a scope.
pub(super) fn tenant(scope: &Scope) -> Option<String> {
    scope.tenant().map(ToString::to_string)
}

fn kind(spec: &KindSpec) -> KindAnswer {
    KindAnswer { kind: spec.kind.to_string(), origin: spec.origin, durability: spec.durability }
}

fn route(view: View<'_>, route: &Route) -> RouteAnswer {
    RouteAnswer {
        tenant: tenant(&route.scope),
        subject: subject(&route.subject),
        stable: view.words(route.stable, &route.subject),
        previous: route.previous.iter().map(|target| view.words(*target, &route.subject)).collect(),
        candidate: route.candidate.map(|candidate| view.candidate_words(candidate)),
    }
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Handles(kind) => kind.to_string(),
        Subject::Watches(_) => "stored messages".to_owned(),
    }
}

/// Whether a plugin is in force, on trial or disabled on a route.
fn concerns(view: View<'_>, route: &Route, plugin: &PluginName) -> bool {
    let candidate = route.candidate.map(|candidate| Target::Generation(candidate.generation));
    let disabled = (route.stable == Target::Off).then(|| route.previous.first().copied()).flatten();
    let mut targets = [Some(route.stable), candidate, disabled].into_iter().flatten();
    targets.any(|target| view.plugin_of(target, &route.subject) == Some(plugin))
}

/// What a built-in plugin handles because there is no decision about it.
fn undecided(view: View<'_>, built_in: &BuiltIn) -> Vec<RouteAnswer> {
    let subjects = built_in.kinds.iter().map(|spec| Subject::Handles(spec.kind.clone()));
    let free = subjects.filter(|subject| {
        view.own_route(&Scope::All, subject).is_none()
            && view.plugin_of(Target::BuiltIn, subject) == Some(&built_in.plugin)
    });
    free.map(|found| RouteAnswer {
        tenant: None,
        subject: subject(&found),
        stable: view.words(Target::BuiltIn, &found),
        previous: Vec::new(),
        candidate: None,
    })
    .collect()
}
