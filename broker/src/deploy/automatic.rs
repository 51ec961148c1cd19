//! Automatic commands: the broker goes back to earlier versions by itself, and never forward.

use super::command::{Refused, Step};
use super::planner::Planner;
use super::routing::Routing;
use super::view::listed;
use crate::model::catalogue::{GenerationId, Scope, Subject, Target};
use crate::model::{PluginName, TenantSlug};

/// Returns a tenant to what was in force before a generation that fails for it, if that generation is still in force
/// there.
pub(super) fn break_circuit(
    planner: &Planner<'_>,
    plugin: &PluginName,
    tenant: &TenantSlug,
    generation: GenerationId,
    reason: &str,
) -> Result<Step, Refused> {
    let view = planner.view;
    let scope = Scope::Tenant(tenant.clone());
    let failing = Target::Generation(generation);
    let mut subjects: Vec<&Subject> = view.catalogue.routes.iter().map(|route| &route.subject).collect();
    subjects.sort();
    subjects.dedup();
    subjects.retain(|subject| view.target(&scope, subject) == failing);
    let words = view.generation_words(generation);
    if subjects.is_empty() {
        return Err(Refused::new(format!("{words} is no longer in force for tenant {tenant}; {reason}")));
    }
    let mut routing = Routing::new(view, &scope);
    let mut any_handler = false;
    for subject in &subjects {
        let mut route = routing.route(subject);
        let own = view.own_route(&scope, subject);
        let mut history = match own.or_else(|| view.own_route(&Scope::All, subject)) {
            Some(route) => route.previous.clone(),
            None => Vec::new(),
        };
        history.retain(|target| *target != failing);
        let before = match history.is_empty() {
            // A tenant that chose this generation over the one for all tenants returns to the latter.
            true if own.is_some() => view.target(&Scope::All, subject),
            true => Target::BuiltIn,
            false => history.remove(0),
        };
        if before == failing {
            continue;
        }
        any_handler |= view.plugin_of(before, subject).is_some();
        route.stable = before;
        route.previous = if own.is_some() { history } else { Vec::new() };
        route.candidate = None;
        routing.set(route);
    }
    if !any_handler {
        return Err(Refused::new(format!(
            "nothing was in force before {words} for tenant {tenant}, so {plugin} stays in force; {reason}"
        )));
    }
    let to = listed(subjects.iter().map(|subject| view.words(routing.target(subject), subject)));
    let step = routing.step(to);
    Ok(Step { from: format!("{words}: {reason}"), ..step })
}

/// Ends the trial of a generation in every scope.
pub(super) fn abandon(
    planner: &Planner<'_>,
    plugin: &PluginName,
    generation: GenerationId,
    reason: &str,
) -> Result<Step, Refused> {
    let view = planner.view;
    let mut routing = Routing::new(view, &Scope::All);
    let mut any = false;
    let mut scopes: Vec<&Scope> = view.catalogue.routes.iter().map(|route| &route.scope).collect();
    scopes.sort();
    scopes.dedup();
    for scope in scopes {
        routing.turn_to(scope);
        any |= routing.drop_trials(|row| row.id == generation);
    }
    if !any {
        return Err(Refused::new(format!("generation {generation} of {plugin} is not on trial; {reason}")));
    }
    let step = routing.step("no trial");
    Ok(Step { from: format!("{}: {reason}", step.from), ..step })
}
