//! Commands that change routes: activate, try out, promote, roll back, disable, follow.

use std::collections::BTreeSet;

use super::command::{Choice, Refused, Step};
use super::planner::Planner;
use super::routing::Routing;
use super::view::{BuiltIn, View, listed, word};
use crate::model::catalogue::{
    Candidate, GenerationId, GenerationRow, Import, Route, Scope, Subject, Target, Trial, Version,
};
use crate::model::{PluginName, TenantSlug};

enum Chosen<'a> {
    BuiltIn(&'a BuiltIn),
    Deployed(&'a Version),
}

pub(super) fn activate(planner: &Planner<'_>, choice: &Choice) -> Result<Step, Refused> {
    let view = planner.view;
    let mut routing = Routing::new(view, &choice.scope);
    let (subjects, target, words) = match chosen(planner, choice)? {
        Chosen::BuiltIn(built_in) => {
            if choice.config.as_ref().is_some_and(|config| !config.is_empty()) {
                return Err(Refused::new("a built-in plugin takes no configuration"));
            }
            let subjects = subjects(&choice.plugin, built_in.kinds.iter().map(|spec| &spec.kind), &built_in.watches);
            (subjects, Target::BuiltIn, format!("{} {} (built in)", built_in.plugin, built_in.version))
        }
        Chosen::Deployed(version) => {
            granted(planner, version, &choice.scope)?;
            let (id, new) = generation(planner, version, choice)?;
            let words = match &new {
                Some(row) => format!("{} {} (generation {id})", row.plugin, row.version),
                None => view.generation_words(id),
            };
            routing.generations.extend(new);
            (subjects_of(version), Target::Generation(id), words)
        }
    };
    for subject in &subjects {
        routing.put(subject, target);
    }
    routing.give_up(&choice.plugin, &subjects);
    routing.warn_of_tenants(&subjects);
    Ok(routing.step(words))
}

pub(super) fn try_out(planner: &Planner<'_>, choice: &Choice, trial: Trial) -> Result<Step, Refused> {
    let view = planner.view;
    if let Trial::Canary(percent) = trial
        && !(1..=99).contains(&percent)
    {
        return Err(Refused::new("a canary takes 1 to 99 percent of the channels; use `activate` for all of them"));
    }
    let Chosen::Deployed(version) = chosen(planner, choice)? else {
        return Err(Refused::new(format!(
            "the built-in {} cannot run as a canary or a shadow; activate it",
            choice.plugin
        )));
    };
    granted(planner, version, &choice.scope)?;
    let (id, new) = generation(planner, version, choice)?;
    let subjects = subjects_of(version);
    if trial == Trial::Shadow
        && subjects.iter().all(|subject| view.plugin_of(view.target(&choice.scope, subject), subject).is_none())
    {
        return Err(Refused::new(format!(
            "nothing handles what {} handles, so there is nothing to compare it with; activate it, or run a canary",
            choice.plugin
        )));
    }
    let mut routing = Routing::new(view, &choice.scope);
    routing.generations.extend(new);
    routing.drop_trials(|row| row.plugin == choice.plugin);
    for subject in &subjects {
        let route = routing.route(subject);
        if route.stable == Target::Generation(id) {
            return Err(Refused::new(format!(
                "{} is already in force for {}; there is nothing to try out",
                view.generation_words(id),
                choice.scope
            )));
        }
        if let Some(other) = route.candidate {
            return Err(Refused::new(format!(
                "{} is already on trial for {}; promote it or roll it back first",
                view.generation_words(other.generation),
                word(subject)
            )));
        }
        routing.try_out(subject, Candidate { generation: id, trial });
    }
    routing.warn_of_tenants(&subjects);
    let how = match trial {
        Trial::Canary(percent) => format!("{percent}% of the channels"),
        Trial::Shadow => "as a shadow".to_owned(),
    };
    Ok(routing.step(format!("{} {} (generation {id}), {how}", version.plugin, version.version)))
}

pub(super) fn promote(planner: &Planner<'_>, plugin: &PluginName, scope: &Scope) -> Result<Step, Refused> {
    let view = planner.view;
    known(planner, plugin)?;
    let mut routing = Routing::new(view, scope);
    let tried: Vec<(Subject, GenerationId)> = routing
        .own_routes()
        .filter_map(|route| route.candidate.map(|candidate| (route.subject.clone(), candidate.generation)))
        .filter(|(_, id)| view.generation(*id).is_some_and(|row| row.plugin == *plugin))
        .collect();
    let Some(version) = tried.first().and_then(|(_, id)| planner.view.version_of(*id)) else {
        return Err(Refused::new(format!("no version of {plugin} is on trial for {scope}")));
    };
    granted(planner, version, scope)?;
    for (subject, id) in &tried {
        routing.put(subject, Target::Generation(*id));
    }
    let subjects = subjects_of(version);
    routing.give_up(plugin, &subjects);
    routing.warn_of_tenants(&subjects);
    Ok(routing.step(listed(tried.iter().map(|(_, id)| view.generation_words(*id)))))
}

/// Ends a trial if there is one. Otherwise the plugin's routes go back one step; routes that it gave up or was disabled
/// on return together with the generation that had them.
pub(super) fn rollback(planner: &Planner<'_>, plugin: &PluginName, scope: &Scope) -> Result<Step, Refused> {
    let view = planner.view;
    known(planner, plugin)?;
    let mut routing = Routing::new(view, scope);
    if routing.drop_trials(|row| row.plugin == *plugin) {
        return Ok(routing.step("no trial"));
    }
    let back = to_take_back(view, plugin, &routing.own_routes().collect::<Vec<_>>());
    if back.is_empty() {
        return Err(Refused::new(match scope.tenant() {
            Some(tenant) => format!("{plugin} has no route of its own for tenant {tenant} to roll back"),
            None => format!("{plugin} is not in force for all tenants; there is nothing to roll back"),
        }));
    }
    for subject in &back {
        let Some(before) = routing.back(subject)? else { continue };
        if let Target::Generation(id) = before
            && let Some(version) = planner.view.version_of(id)
        {
            granted(planner, version, scope)?;
        }
    }
    routing.warn_of_tenants(&back);
    let to = listed(back.iter().map(|subject| view.words(routing.target(subject), subject)));
    Ok(routing.step(to))
}

/// The subjects of a scope that a rollback of the plugin changes: those it has, those that the generation it returns to
/// had, and, if it has none, those it was disabled on.
fn to_take_back(view: View<'_>, plugin: &PluginName, own: &[&Route]) -> Vec<Subject> {
    let is_its = |target: Target, subject: &Subject| view.plugin_of(target, subject) == Some(plugin);
    let (has, other): (Vec<&Route>, Vec<&Route>) = own.iter().partition(|route| is_its(route.stable, &route.subject));
    let returning: Vec<Target> = has.iter().filter_map(|route| route.previous.first().copied()).collect();
    let comes_along = other.into_iter().filter(|route| {
        let Some(before) = route.previous.first() else { return false };
        let with_the_rest = matches!(before, Target::Generation(_)) && returning.contains(before);
        let disabled = has.is_empty() && route.stable == Target::Off;
        is_its(*before, &route.subject) && (with_the_rest || disabled)
    });
    has.iter().copied().chain(comes_along).map(|route| route.subject.clone()).collect()
}

/// For all tenants means every tenant, including those with routes of their own: this is the emergency stop.
pub(super) fn disable(planner: &Planner<'_>, plugin: &PluginName, scope: &Scope) -> Result<Step, Refused> {
    let view = planner.view;
    known(planner, plugin)?;
    let mut scopes = BTreeSet::from([scope.clone()]);
    if *scope == Scope::All {
        scopes.extend(view.catalogue.routes.iter().map(|route| route.scope.clone()));
    }
    let mut routing = Routing::new(view, scope);
    let mut hit = false;
    for scope in &scopes {
        routing.turn_to(scope);
        hit |= routing.drop_trials(|row| row.plugin == *plugin);
        let mut subjects: BTreeSet<Subject> = view.catalogue.routes.iter().map(|route| route.subject.clone()).collect();
        if let Some(built_in) = view.built_in_named(plugin) {
            subjects.extend(built_in.kinds.iter().map(|spec| Subject::Handles(spec.kind.clone())));
        }
        // A tenant without a route of its own follows the route for all.
        subjects.retain(|subject| {
            let own = scope == routing.asked() || view.own_route(scope, subject).is_some();
            own && view.plugin_of(view.target(scope, subject), subject) == Some(plugin)
        });
        for subject in &subjects {
            hit = true;
            routing.put(subject, Target::Off);
        }
    }
    if !hit {
        return Err(Refused::new(format!("{plugin} is not in force for {scope}")));
    }
    Ok(routing.step("off"))
}

pub(super) fn follow(planner: &Planner<'_>, plugin: &PluginName, tenant: &TenantSlug) -> Result<Step, Refused> {
    let view = planner.view;
    known(planner, plugin)?;
    let mut routing = Routing::new(view, &Scope::Tenant(tenant.clone()));
    let its: Vec<Subject> = routing
        .own_routes()
        .filter(|route| {
            let candidate = route.candidate.map(|candidate| Target::Generation(candidate.generation));
            let for_all = view.target(&Scope::All, &route.subject);
            let mut targets =
                [route.stable, for_all].into_iter().chain(route.previous.iter().copied()).chain(candidate);
            targets.any(|target| view.plugin_of(target, &route.subject) == Some(plugin))
        })
        .map(|route| route.subject.clone())
        .collect();
    for subject in &its {
        routing.drop_route(subject);
    }
    let to = listed(its.iter().map(|subject| view.words(view.target(&Scope::All, subject), subject)));
    Ok(routing.step(if to.is_empty() { "the decision for all tenants".to_owned() } else { to }))
}

fn known(planner: &Planner<'_>, plugin: &PluginName) -> Result<(), Refused> {
    if planner.view.knows(plugin) {
        return Ok(());
    }
    Err(Refused::new(format!("there is no plugin `{plugin}`; `switchboard plugin list` lists the plugins")))
}

fn chosen<'a>(planner: &Planner<'a>, choice: &Choice) -> Result<Chosen<'a>, Refused> {
    let view = planner.view;
    known(planner, &choice.plugin)?;
    let built_in = view.built_in_named(&choice.plugin).map(Chosen::BuiltIn);
    let found = match choice.version.as_deref() {
        None => view.latest(&choice.plugin).map(Chosen::Deployed).or(built_in),
        Some(Choice::BUILT_IN) => built_in,
        Some(version) => view.version(&choice.plugin, version).map(Chosen::Deployed).or_else(|| {
            built_in.filter(|built_in| matches!(built_in, Chosen::BuiltIn(known) if known.version == version))
        }),
    };
    found.ok_or_else(|| {
        let plugin = &choice.plugin;
        let versions = view.catalogue.versions.iter().filter(|known| known.plugin == *plugin);
        let there = versions.map(|known| known.version.clone());
        let there = listed(there.chain(view.built_in_named(plugin).map(|_| Choice::BUILT_IN.to_owned())));
        let version = choice.version.as_deref().unwrap_or_default();
        Refused::new(format!("{plugin} has no version {version}; available: {there}"))
    })
}

/// The generation of a version with a configuration: an existing one, or a new row.
fn generation(
    planner: &Planner<'_>,
    version: &Version,
    choice: &Choice,
) -> Result<(GenerationId, Option<GenerationRow>), Refused> {
    let view = planner.view;
    let config = match &choice.config {
        Some(config) if config.len() > Choice::MAX_CONFIG => {
            return Err(Refused::new(format!("a configuration can have at most {} bytes", Choice::MAX_CONFIG)));
        }
        Some(config) => config.clone(),
        // Raising the version must not silently lose the operator's configuration.
        None => in_force(planner, &choice.plugin, &choice.scope).map(|row| row.config.clone()).unwrap_or_default(),
    };
    let rows = &view.catalogue.generations;
    let same =
        |row: &&GenerationRow| row.plugin == version.plugin && row.version == version.version && row.config == config;
    if let Some(known) = rows.iter().find(same) {
        return Ok((known.id, None));
    }
    let id = rows.iter().map(|row| row.id).max().unwrap_or(0) + 1;
    let row = GenerationRow {
        id,
        plugin: version.plugin.clone(),
        version: version.version.clone(),
        digest: version.digest.clone(),
        config,
        created_at: planner.now,
    };
    Ok((id, Some(row)))
}

/// The plugin's generation that handles or watches anything in a scope; the newest of several.
fn in_force<'a>(planner: &Planner<'a>, plugin: &PluginName, scope: &Scope) -> Option<&'a GenerationRow> {
    let view = planner.view;
    let targets = view.catalogue.routes.iter().map(|route| view.target(scope, &route.subject));
    let rows = targets.filter_map(|target| match target {
        Target::Generation(id) => view.generation(id),
        Target::Off | Target::BuiltIn => None,
    });
    rows.filter(|row| row.plugin == *plugin).max_by_key(|row| row.id)
}

/// Checks that a version is granted everything it wants in its scope.
fn granted(planner: &Planner<'_>, version: &Version, scope: &Scope) -> Result<(), Refused> {
    let grants = planner.view.grants(scope, &version.plugin);
    let missing: Vec<Import> = version.wants.iter().copied().filter(|want| !grants.contains(want)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = listed(missing.iter().map(ToString::to_string));
    let (plugin, adds) = (&version.plugin, missing.iter().map(|want| format!(" --add {want}")).collect::<String>());
    let (who, option) = match scope.tenant() {
        Some(tenant) => (format!("tenant {tenant}"), format!(" --tenant {tenant}")),
        None => ("all tenants".to_owned(), String::new()),
    };
    Err(Refused::new(format!(
        "{plugin} {} needs these grants for {who}: {wanted}; switchboard plugin grants {plugin}{option}{adds}",
        version.version
    )))
}

fn subjects_of(version: &Version) -> BTreeSet<Subject> {
    subjects(&version.plugin, version.kinds.iter().map(|spec| &spec.kind), &version.watches)
}

fn subjects<'a>(
    plugin: &PluginName,
    kinds: impl Iterator<Item = &'a crate::model::Kind>,
    watches: &[crate::model::Kind],
) -> BTreeSet<Subject> {
    let watches = (!watches.is_empty()).then(|| Subject::Watches(plugin.clone()));
    kinds.cloned().map(Subject::Handles).chain(watches).collect()
}
