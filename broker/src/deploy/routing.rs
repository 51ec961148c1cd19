//! Route changes being planned, and the words that describe them.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Refused, Step};
use super::view::{View, listed, word};
use crate::model::catalogue::{Candidate, Change, GenerationRow, Route, Scope, Subject, Target};
use crate::model::{PluginName, TenantSlug};

/// Tenants with routes of their own that a note lists.
const NAMED: usize = 5;

/// Collects route changes. In `changed`, `None` removes a route.
pub(super) struct Routing<'a> {
    view: View<'a>,
    asked: Scope,
    scope: Scope,
    changed: BTreeMap<(Scope, Subject), Option<Route>>,
    from: Vec<String>,
    notes: Vec<String>,
    /// Generation rows to add.
    pub(super) generations: Vec<GenerationRow>,
}

impl<'a> Routing<'a> {
    pub(super) fn new(view: View<'a>, scope: &Scope) -> Self {
        Self {
            view,
            asked: scope.clone(),
            scope: scope.clone(),
            changed: BTreeMap::new(),
            from: Vec::new(),
            notes: Vec::new(),
            generations: Vec::new(),
        }
    }

    /// The scope of the command.
    pub(super) fn asked(&self) -> &Scope {
        &self.asked
    }

    /// Sets the scope of the following calls.
    pub(super) fn turn_to(&mut self, scope: &Scope) {
        self.scope = scope.clone();
    }

    /// The routes of exactly this scope, before any change.
    pub(super) fn own_routes(&self) -> impl Iterator<Item = &'a Route> + use<'a> {
        let scope = self.scope.clone();
        self.view.catalogue.routes.iter().filter(move |route| route.scope == scope)
    }

    /// A subject's route with changes applied. A tenant without its own gets the one for all, with no history: going
    /// back then means following all again.
    pub(super) fn route(&self, subject: &Subject) -> Route {
        match self.changed.get(&(self.scope.clone(), subject.clone())) {
            Some(Some(route)) => route.clone(),
            Some(None) => self.default(subject),
            None => self.view.own_route(&self.scope, subject).cloned().unwrap_or_else(|| self.default(subject)),
        }
    }

    /// A subject's target with changes applied.
    pub(super) fn target(&self, subject: &Subject) -> Target {
        self.route(subject).stable
    }

    /// Puts a target in force. The former one goes to the history, and a trial ends.
    pub(super) fn put(&mut self, subject: &Subject, target: Target) {
        let mut route = self.route(subject);
        let is_own = self.is_own(subject);
        if is_own && route.stable == target && route.candidate.is_none() {
            return;
        }
        self.was(&route);
        if route.stable != target && (is_own || self.scope == Scope::All) {
            route.previous.insert(0, route.stable);
            route.previous.truncate(Route::KEPT);
        }
        if let Some(candidate) = route.candidate.take()
            && target != Target::Generation(candidate.generation)
        {
            let words = self.view.candidate_words(candidate);
            self.note(format!("the trial of {words} ended"));
        }
        route.stable = target;
        self.set(route);
    }

    /// Starts a trial beside what is in force.
    pub(super) fn try_out(&mut self, subject: &Subject, candidate: Candidate) {
        let mut route = self.route(subject);
        self.was(&route);
        route.candidate = Some(candidate);
        self.set(route);
    }

    /// Ends the scope's trials of matching generations. Returns whether there were any.
    pub(super) fn drop_trials(&mut self, which: impl Fn(&GenerationRow) -> bool) -> bool {
        let mut any = false;
        for route in self.own_routes() {
            let Some(candidate) = route.candidate else { continue };
            if !self.view.generation(candidate.generation).is_some_and(&which) {
                continue;
            }
            any = true;
            self.from.push(self.view.candidate_words(candidate));
            let mut route = route.clone();
            route.candidate = None;
            // A tenant's route that equals the one for all existed only for the trial.
            let idle = route.previous.is_empty() && route.stable == self.view.target(&Scope::All, &route.subject);
            match self.scope != Scope::All && idle {
                true => self.changed.insert((route.scope, route.subject), None),
                false => self.changed.insert((route.scope.clone(), route.subject.clone()), Some(route)),
            };
        }
        any
    }

    /// Gives up what the plugin handled or watched in the scope and does not any more: a kind returns to its built-in
    /// plugin, if there is one.
    pub(super) fn give_up(&mut self, plugin: &PluginName, kept: &BTreeSet<Subject>) {
        let view = self.view;
        let given_up: Vec<Subject> = self
            .own_routes()
            .filter(|route| !kept.contains(&route.subject))
            .filter(|route| matches!(route.stable, Target::Generation(_)))
            .filter(|route| view.plugin_of(route.stable, &route.subject) == Some(plugin))
            .map(|route| route.subject.clone())
            .collect();
        for subject in given_up {
            let target = match &subject {
                Subject::Handles(_) => Target::BuiltIn,
                Subject::Watches(_) => Target::Off,
            };
            self.put(&subject, target);
            let now = view.words(target, &subject);
            self.note(format!("{plugin} gives up {}; now in force: {now}", word(&subject)));
        }
    }

    /// Goes back one step. `None`: the tenant follows the route for all again.
    pub(super) fn back(&mut self, subject: &Subject) -> Result<Option<Target>, Refused> {
        let mut route = self.route(subject);
        if route.previous.is_empty() {
            if self.scope == Scope::All {
                let now = self.view.words(route.stable, subject);
                return Err(Refused::new(format!("there is no record of what was in force before {now}")));
            }
            self.drop_route(subject);
            return Ok(None);
        }
        self.was(&route);
        let before = route.previous.remove(0);
        route.stable = before;
        route.candidate = None;
        self.set(route);
        Ok(Some(before))
    }

    /// Removes a tenant's own route.
    pub(super) fn drop_route(&mut self, subject: &Subject) {
        let route = self.route(subject);
        self.was(&route);
        self.changed.insert((self.scope.clone(), subject.clone()), None);
    }

    pub(super) fn set(&mut self, route: Route) {
        self.changed.insert((route.scope.clone(), route.subject.clone()), Some(route));
    }

    /// Reminds an operator who decides for all tenants of those with routes of their own.
    pub(super) fn warn_of_tenants<'s>(&mut self, subjects: impl IntoIterator<Item = &'s Subject>) {
        if self.asked != Scope::All {
            return;
        }
        let subjects: Vec<&Subject> = subjects.into_iter().collect();
        let mut own: BTreeMap<&TenantSlug, Vec<String>> = BTreeMap::new();
        for route in self.view.catalogue.routes.iter().filter(|route| subjects.contains(&&route.subject)) {
            if let Scope::Tenant(tenant) = &route.scope {
                let stays = self.view.words(route.stable, &route.subject);
                own.entry(tenant).or_default().push(format!("{}: {stays}", word(&route.subject)));
            }
        }
        let shown = own.iter().take(NAMED).map(|(tenant, routes)| format!("{tenant} for {}", routes.join(", ")));
        let shown = shown.collect::<Vec<_>>().join("; ");
        match own.len() {
            0 => {}
            1..=NAMED => self.note(format!("tenants that keep routes of their own: {shown}")),
            all => {
                self.note(format!("tenants that keep routes of their own: {shown}; and {} more tenants", all - NAMED));
            }
        }
    }

    /// The step that makes the collected changes.
    pub(super) fn step(self, to: impl Into<String>) -> Step {
        let to = to.into();
        if self.changed.is_empty() {
            return Step { change: None, from: to.clone(), to, notes: self.notes };
        }
        let mut change = Change { generations: self.generations, ..Change::default() };
        for (key, route) in self.changed {
            match route {
                Some(route) => change.routes.push(route),
                None => change.dropped.push(key),
            }
        }
        Step { change: Some(change), from: listed(self.from), to, notes: self.notes }
    }

    fn was(&mut self, route: &Route) {
        self.from.push(self.view.words(route.stable, &route.subject));
    }

    fn note(&mut self, line: String) {
        if !self.notes.contains(&line) {
            self.notes.push(line);
        }
    }

    fn is_own(&self, subject: &Subject) -> bool {
        match self.changed.get(&(self.scope.clone(), subject.clone())) {
            Some(route) => route.is_some(),
            None => self.view.own_route(&self.scope, subject).is_some(),
        }
    }

    fn default(&self, subject: &Subject) -> Route {
        let stable = match self.scope {
            Scope::All => Target::BuiltIn,
            Scope::Tenant(_) => self.view.target(&Scope::All, subject),
        };
        Route { scope: self.scope.clone(), subject: subject.clone(), stable, previous: Vec::new(), candidate: None }
    }
}
