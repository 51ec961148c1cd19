//! What operators are answered, in the words of the catalogue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::deploy::{BuiltIn, Outcome, View};
use crate::model::catalogue::{KindSpec, Route, Scope, Subject, Target, Version};
use crate::model::{PluginName, TenantSlug};

/// A message type that a plugin handles.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KindAnswer {
    /// The `type` of its frames.
    kind: String,
    /// `client` or `broker`: who may cause its events.
    #[schema(value_type = String)]
    origin: crate::model::catalogue::Origin,
    /// `durable` or `ephemeral`: what the sender may count on.
    #[schema(value_type = String)]
    durability: crate::model::catalogue::Durability,
}

/// A version of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionAnswer {
    /// The plugin.
    plugin: String,
    /// Its version.
    version: String,
    /// The SHA-256 of the component.
    digest: String,
    /// Bytes of the component.
    size: u64,
    /// What it handles.
    kinds: Vec<KindAnswer>,
    /// The kinds of stored messages that it is told of.
    watches: Vec<String>,
    /// The interfaces that it uses.
    wants: Vec<String>,
    /// When it was deployed.
    deployed_at: String,
    /// By whom.
    deployed_by: String,
}

/// Where a subject goes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RouteAnswer {
    /// For which tenant; none: for all.
    tenant: Option<String>,
    /// The type of the events, or `stored messages` for a plugin that watches.
    subject: String,
    /// What is in force.
    stable: String,
    /// What was before, latest first.
    previous: Vec<String>,
    /// What is tried out.
    candidate: Option<String>,
}

/// What is decided about a plugin's grants and limits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TermsAnswer {
    /// For which tenant; none: for all.
    tenant: Option<String>,
    /// The interfaces it may use; none: not decided here.
    grants: Option<Vec<String>>,
    /// Limits by name.
    limits: BTreeMap<String, u64>,
}

/// A plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PluginAnswer {
    /// Its name.
    name: String,
    /// The version that is compiled into the broker or named at its start.
    built_in: Option<String>,
    /// Those that were deployed, oldest first.
    versions: Vec<VersionAnswer>,
    /// Where it is in force, tried out or disabled.
    routes: Vec<RouteAnswer>,
    /// What is decided about its grants and limits.
    terms: Vec<TermsAnswer>,
}

/// What came of a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutcomeAnswer {
    /// What was asked for.
    action: &'static str,
    /// About what.
    subject: String,
    /// For which tenant; none: for all.
    tenant: Option<String>,
    /// What was in force.
    from: String,
    /// What is now.
    to: String,
    /// False when it was so already.
    changed: bool,
    /// What to mind beside it.
    notes: Vec<String>,
    /// The revision of the catalogue.
    revision: u64,
    /// Nodes that live.
    nodes: usize,
    /// Those that run the revision.
    running: usize,
    /// Both in words, with what holds the others up.
    reach: String,
}

/// A component that is in the catalogue now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeployedAnswer {
    /// What it is.
    pub(super) version: VersionAnswer,
    /// False when it was there already.
    pub(super) changed: bool,
    /// The revision of the catalogue.
    pub(super) revision: u64,
}

/// For whom, in a body or a query.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForWhom {
    /// The tenant; none: for all.
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
    /// Everything that is known of a plugin.
    pub(super) fn new(view: View<'_>, name: &PluginName) -> Self {
        let built_in = view.built_in_named(name);
        let versions = view.catalogue.versions.iter().filter(|version| version.plugin == *name);
        let routes = view.catalogue.routes.iter().filter(|route| concerns(view, route, name));
        let undecided = built_in.into_iter().flat_map(|built_in| undecided(view, built_in));
        let terms = view.catalogue.terms.iter().filter(|terms| terms.plugin == *name);
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

/// Whether a plugin is in force, tried out or disabled on a route.
fn concerns(view: View<'_>, route: &Route, plugin: &PluginName) -> bool {
    let candidate = route.candidate.map(|candidate| Target::Generation(candidate.generation));
    let disabled = (route.stable == Target::Off).then(|| route.previous.first().copied()).flatten();
    let mut targets = [Some(route.stable), candidate, disabled].into_iter().flatten();
    targets.any(|target| view.plugin_of(target, &route.subject) == Some(plugin))
}

/// What a built-in plugin handles because nobody decided otherwise.
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
