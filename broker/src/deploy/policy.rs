//! Commands that change policies: grants, limits, failure policies and consent to recording.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Edit, Refused, Step};
use super::planner::Planner;
use super::view::listed;
use crate::model::catalogue::{Change, FailurePolicy, Import, KindPolicy, PluginPolicy, Scope, Target, Version};
use crate::model::{Kind, PluginName, TenantSlug};

pub(super) fn grants(planner: &Planner<'_>, plugin: &PluginName, scope: &Scope, edit: &Edit) -> Result<Step, Refused> {
    let view = planner.view;
    let mut policy = own_policy(planner, plugin, scope);
    let before = view.grants(scope, plugin);
    let decided = match edit {
        Edit::Add(imports) => Some(before.union(imports).copied().collect()),
        Edit::Remove(imports) => Some(before.difference(imports).copied().collect()),
        Edit::Set(imports) => Some(imports.clone()),
        Edit::Clear => None,
    };
    policy.grants = decided.clone();
    let after: BTreeSet<Import> = match (&decided, scope) {
        (Some(grants), _) => grants.clone(),
        (None, Scope::Tenant(_)) => view.grants(&Scope::All, plugin),
        (None, Scope::All) => view.default_grants(plugin),
    };
    if let Some((version, want)) = running(planner, plugin, scope)
        .into_iter()
        .find_map(|version| version.wants.iter().find(|want| !after.contains(want)).map(|want| (version, want)))
    {
        return Err(Refused::new(format!(
            "{plugin} {} is in force for {scope} and needs {want}; roll it back or disable it first",
            version.version
        )));
    }
    let words = |grants: &BTreeSet<Import>| match grants.is_empty() {
        true => "none".to_owned(),
        false => listed(grants.iter().map(ToString::to_string)),
    };
    let unchanged = own_policy(planner, plugin, scope) == policy;
    let change = (!unchanged).then(|| Change { plugin_policies: vec![policy], ..Change::default() });
    Ok(Step { change, from: words(&before), to: words(&after), notes: Vec::new() })
}

pub(super) fn limits(
    planner: &Planner<'_>,
    plugin: &PluginName,
    scope: &Scope,
    values: &BTreeMap<String, Option<u64>>,
) -> Result<Step, Refused> {
    let before = own_policy(planner, plugin, scope);
    let mut policy = before.clone();
    for (name, value) in values {
        match value {
            Some(value) => {
                (planner.limit)(name, *value).map_err(Refused::new)?;
                policy.limits.insert(name.clone(), *value);
            }
            None => {
                policy.limits.remove(name);
            }
        }
    }
    let words = |policy: &PluginPolicy| match policy.limits.is_empty() {
        true => "the defaults".to_owned(),
        false => listed(policy.limits.iter().map(|(name, value)| format!("{name}={value}"))),
    };
    let (from, to) = (words(&before), words(&policy));
    let change = (before != policy).then(|| Change { plugin_policies: vec![policy], ..Change::default() });
    Ok(Step { change, from, to, notes: Vec::new() })
}

pub(super) fn failure(planner: &Planner<'_>, kind: &Kind, scope: &Scope, policy: Option<FailurePolicy>) -> Step {
    let words = |policy: Option<FailurePolicy>| match policy {
        Some(FailurePolicy::Open) => "open",
        Some(FailurePolicy::Closed) => "closed",
        None => "default",
    };
    let policies = &planner.view.catalogue.kind_policies;
    let before = policies.iter().find(|known| known.scope == *scope && known.kind == *kind);
    let before = before.and_then(|known| known.policy);
    let decided = KindPolicy { scope: scope.clone(), kind: kind.clone(), policy };
    let change = (before != policy).then(|| Change { kind_policies: vec![decided], ..Change::default() });
    Step { change, from: words(before).to_owned(), to: words(policy).to_owned(), notes: Vec::new() }
}

pub(super) fn consent(planner: &Planner<'_>, tenant: &TenantSlug, given: bool) -> Step {
    let words = |given: bool| if given { "on" } else { "off" }.to_owned();
    let before = planner.view.catalogue.consents.contains(tenant);
    let change = (before != given).then(|| Change { consents: vec![(tenant.clone(), given)], ..Change::default() });
    Step { change, from: words(before), to: words(given), notes: Vec::new() }
}

fn own_policy(planner: &Planner<'_>, plugin: &PluginName, scope: &Scope) -> PluginPolicy {
    let found =
        planner.view.catalogue.plugin_policies.iter().find(|policy| policy.scope == *scope && policy.plugin == *plugin);
    found.cloned().unwrap_or_else(|| PluginPolicy {
        scope: scope.clone(),
        plugin: plugin.clone(),
        grants: None,
        limits: BTreeMap::new(),
    })
}

/// The versions of a plugin that depend on a scope's grants: in force or on trial in it, or in a tenant without a
/// decision of its own.
fn running<'a>(planner: &Planner<'a>, plugin: &PluginName, scope: &Scope) -> Vec<&'a Version> {
    let catalogue = planner.view.catalogue;
    let decides = |tenant: &Scope| {
        let mut policy =
            catalogue.plugin_policies.iter().filter(|policy| policy.scope == *tenant && policy.plugin == *plugin);
        policy.any(|policy| policy.grants.is_some())
    };
    let concerned = catalogue.routes.iter().filter(|route| match (scope, &route.scope) {
        (Scope::All, Scope::All) => true,
        (Scope::All, tenant) => !decides(tenant),
        (tenant, Scope::All) => planner.view.own_route(tenant, &route.subject).is_none(),
        (tenant, other) => tenant == other,
    });
    let ids = concerned.flat_map(|route| {
        let stable = match route.stable {
            Target::Generation(id) => Some(id),
            Target::Off | Target::BuiltIn => None,
        };
        stable.into_iter().chain(route.candidate.map(|candidate| candidate.generation))
    });
    ids.filter_map(|id| planner.view.version_of(id)).filter(|version| version.plugin == *plugin).collect()
}
