//! Builds the routing table from the operators' decisions.
//!
//! A decision for a tenant outranks one for all tenants, which outranks the built-in plugins. A tenant has rows only
//! where they differ from those for all tenants. The table depends on nothing but its [`Plan`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::limits::Allowance;
use crate::routing::handler::{Handler, Role};
use crate::runtime::generation::Generation;
use switchboard_model::catalogue::{
    Durability, FailurePolicy, GenerationId, KindPolicy, KindSpec, Origin, PluginPolicy, Route, Scope, Subject, Target,
    Trial,
};
use switchboard_model::{Kind, PluginName, TenantSlug};

/// Everything a table is built from.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The revision of the catalogue.
    pub revision: u64,
    /// The plugins that are built in or named at start-up. If two handle the same kind, the later one wins.
    pub builtin: &'a [Arc<Generation>],
    /// Prepared generations of the catalogue: at least those that the routes name.
    pub generations: &'a HashMap<GenerationId, Arc<Generation>>,
    pub routes: &'a [Route],
    pub plugin_policies: &'a [PluginPolicy],
    pub kind_policies: &'a [KindPolicy],
}

/// A route names a generation that is not prepared on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to route to generation {0}: it is not prepared")]
pub struct Unprepared(pub GenerationId);

#[derive(Debug, Default)]
pub struct Table {
    pub(crate) revision: u64,
    pub(crate) all: Rows,
    pub(crate) tenants: HashMap<TenantSlug, Rows>,
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) handles: HashMap<Kind, Row>,
    pub(crate) watches: HashMap<Kind, Vec<Row>>,
}

#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) stable: Option<Arc<Handler>>,
    pub(crate) canary: Option<Canary>,
}

#[derive(Debug)]
pub(crate) struct Canary {
    pub(crate) plugin: PluginName,
    pub(crate) percent: u8,
    /// `None` if the canary does not watch what the stable generation watches.
    pub(crate) handler: Option<Arc<Handler>>,
}

impl Table {
    /// Builds a table. Fails unless every generation that a route names is prepared.
    pub fn new(plan: &Plan<'_>) -> Result<Self, Unprepared> {
        let mut maker = Maker::new(plan);
        let mut table = Self { revision: plan.revision, all: maker.rows(None)?, tenants: HashMap::new() };
        let decided = plan.routes.iter().map(|route| &route.scope);
        let decided = decided.chain(plan.plugin_policies.iter().map(|terms| &terms.scope));
        let decided = decided.chain(plan.kind_policies.iter().map(|policy| &policy.scope));
        let tenants: HashSet<&TenantSlug> = decided.filter_map(Scope::tenant).collect();
        for tenant in tenants {
            let rows = maker.rows(Some(tenant))?;
            if !rows.handles.is_empty() || !rows.watches.is_empty() {
                table.tenants.insert(tenant.clone(), rows);
            }
        }
        Ok(table)
    }

    /// A table of built-in plugins only.
    pub fn builtin(builtin: &[Arc<Generation>]) -> Self {
        let none = HashMap::new();
        let plan =
            Plan { revision: 0, builtin, generations: &none, routes: &[], plugin_policies: &[], kind_policies: &[] };
        Self::new(&plan).expect("no route can name a generation that is not there")
    }

    /// Every generation the table leads to. May repeat.
    pub(crate) fn generations(&self) -> impl Iterator<Item = Arc<Generation>> {
        let rows = std::iter::once(&self.all).chain(self.tenants.values());
        let rows = rows.flat_map(|rows| rows.handles.values().chain(rows.watches.values().flatten()));
        let handlers = rows.flat_map(|row| {
            let canary = row.canary.iter().filter_map(|canary| canary.handler.as_ref());
            let shadow = row.stable.iter().filter_map(|stable| stable.shadow.as_ref());
            row.stable.iter().chain(canary).chain(shadow)
        });
        handlers.map(|handler| Arc::clone(&handler.generation))
    }
}

type For<'a> = Option<&'a TenantSlug>;

struct Maker<'a> {
    plan: &'a Plan<'a>,
    routes: HashMap<(For<'a>, &'a Subject), &'a Route>,
    terms: HashMap<(For<'a>, &'a PluginName), &'a PluginPolicy>,
    policies: HashMap<(For<'a>, &'a Kind), FailurePolicy>,
    /// Subjects that have a target for all tenants.
    subjects: HashSet<Subject>,
    handled: HashMap<&'a Kind, &'a Arc<Generation>>,
    named: HashMap<&'a PluginName, &'a Arc<Generation>>,
    /// Lets equal handlers share one allowance.
    allowances: HashMap<(For<'a>, PluginName, bool), Arc<Allowance>>,
}

impl<'a> Maker<'a> {
    fn new(plan: &'a Plan<'a>) -> Self {
        let handled: HashMap<&Kind, &Arc<Generation>> =
            plan.builtin.iter().flat_map(|built| built.kinds().iter().map(move |spec| (&spec.kind, built))).collect();
        let named: HashMap<&PluginName, &Arc<Generation>> =
            plan.builtin.iter().map(|built| (built.plugin(), built)).collect();
        let mut subjects: HashSet<Subject> = handled.keys().map(|kind| Subject::Handles((*kind).clone())).collect();
        let watching = named.values().filter(|built| !built.watches().is_empty());
        subjects.extend(watching.map(|built| Subject::Watches(built.plugin().clone())));
        subjects
            .extend(plan.routes.iter().filter(|route| route.scope == Scope::All).map(|route| route.subject.clone()));
        let policies = plan.kind_policies.iter().filter_map(|row| Some(((row.scope.tenant(), &row.kind), row.policy?)));
        Self {
            routes: plan.routes.iter().map(|route| ((route.scope.tenant(), &route.subject), route)).collect(),
            terms: plan.plugin_policies.iter().map(|terms| ((terms.scope.tenant(), &terms.plugin), terms)).collect(),
            policies: policies.collect(),
            subjects,
            handled,
            named,
            allowances: HashMap::new(),
            plan,
        }
    }

    /// The rows for all tenants, or those of one tenant that differ.
    fn rows(&mut self, tenant: For<'a>) -> Result<Rows, Unprepared> {
        let mut subjects = self.subjects.clone();
        let own = self.plan.routes.iter().filter(|route| tenant.is_some() && route.scope.tenant() == tenant);
        subjects.extend(own.map(|route| route.subject.clone()));
        let (mut rows, mut differing) = (Rows::default(), HashSet::new());
        for subject in &subjects {
            let differs = self.differs(tenant, subject)?;
            match subject {
                Subject::Handles(kind) => {
                    if differs {
                        rows.handles.insert(kind.clone(), self.row(tenant, subject, kind)?);
                    }
                }
                Subject::Watches(_) => {
                    for kind in self.watched(tenant, subject)? {
                        let row = self.row(tenant, subject, &kind)?;
                        rows.watches.entry(kind.clone()).or_default().push(row);
                        if differs {
                            differing.insert(kind);
                        }
                    }
                    // Watched by default but not for this tenant: an empty row overrides the default.
                    if differs && tenant.is_some() {
                        for kind in self.watched(None, subject)? {
                            rows.watches.entry(kind.clone()).or_default();
                            differing.insert(kind);
                        }
                    }
                }
            }
        }
        rows.watches.retain(|kind, _| differing.contains(kind));
        Ok(rows)
    }

    fn differs(&self, tenant: For<'a>, subject: &Subject) -> Result<bool, Unprepared> {
        if tenant.is_none() || self.routes.contains_key(&(tenant, subject)) {
            return Ok(true);
        }
        if let Subject::Handles(kind) = subject
            && self.policies.contains_key(&(tenant, kind))
        {
            return Ok(true);
        }
        let (stable, candidate) = self.targets(tenant, subject)?;
        let mut both = stable.into_iter().chain(candidate.map(|(generation, _)| generation));
        Ok(both.any(|generation| self.terms.contains_key(&(tenant, generation.plugin()))))
    }

    fn route(&self, tenant: For<'a>, subject: &Subject) -> Option<&'a Route> {
        let own = tenant.and_then(|_| self.routes.get(&(tenant, subject)));
        own.or_else(|| self.routes.get(&(None, subject))).copied()
    }

    #[expect(clippy::type_complexity, reason = "the two of a route, used here alone")]
    fn targets(
        &self,
        tenant: For<'a>,
        subject: &Subject,
    ) -> Result<(Option<&'a Arc<Generation>>, Option<(&'a Arc<Generation>, Trial)>), Unprepared> {
        let builtin = match subject {
            Subject::Handles(kind) => self.handled.get(kind).copied(),
            Subject::Watches(plugin) => self.named.get(plugin).copied(),
        };
        let Some(route) = self.route(tenant, subject) else { return Ok((builtin, None)) };
        let stable = match route.stable {
            Target::Off => None,
            Target::BuiltIn => builtin,
            Target::Generation(id) => Some(self.prepared(id)?),
        };
        let candidate = match route.candidate {
            None => None,
            Some(candidate) => Some((self.prepared(candidate.generation)?, candidate.trial)),
        };
        Ok((stable, candidate))
    }

    fn prepared(&self, id: GenerationId) -> Result<&'a Arc<Generation>, Unprepared> {
        self.plan.generations.get(&id).ok_or(Unprepared(id))
    }

    fn watched(&self, tenant: For<'a>, subject: &Subject) -> Result<HashSet<Kind>, Unprepared> {
        let (stable, candidate) = self.targets(tenant, subject)?;
        let both = stable.into_iter().chain(candidate.map(|(generation, _)| generation));
        Ok(both.flat_map(|generation| generation.watches().iter().cloned()).collect())
    }

    fn row(&mut self, tenant: For<'a>, subject: &Subject, kind: &Kind) -> Result<Row, Unprepared> {
        let (stable, candidate) = self.targets(tenant, subject)?;
        let scope = self.route(tenant, subject).map_or(Scope::All, |route| route.scope.clone());
        let place = Place { tenant, scope, subject: subject.clone(), kind: kind.clone() };
        let shadow = match candidate {
            Some((generation, Trial::Shadow)) => self.handler(&place, generation, Role::Shadow, stable, None),
            _ => None,
        };
        let canary = match candidate {
            Some((generation, Trial::Canary(percent))) => {
                let handler = self.handler(&place, generation, Role::Canary, stable, None);
                // A canary that does not handle a type leaves it to the stable generation. One that does not watch a
                // kind is deliberately not called.
                let tried = handler.is_some() || matches!(subject, Subject::Watches(_));
                tried.then(|| Canary { plugin: generation.plugin().clone(), percent, handler })
            }
            _ => None,
        };
        let stable = stable.and_then(|generation| self.handler(&place, generation, Role::Stable, None, shadow));
        Ok(Row { stable, canary })
    }

    fn handler(
        &mut self,
        place: &Place<'a>,
        generation: &Arc<Generation>,
        role: Role,
        rival: Option<&Arc<Generation>>,
        shadow: Option<Arc<Handler>>,
    ) -> Option<Arc<Handler>> {
        let spec = match &place.subject {
            Subject::Handles(kind) => generation.kinds().iter().find(|spec| spec.kind == *kind)?.clone(),
            Subject::Watches(_) if generation.watches().contains(&place.kind) => {
                KindSpec { kind: place.kind.clone(), origin: Origin::Broker, durability: Durability::Ephemeral }
            }
            Subject::Watches(_) => return None,
        };
        let decided =
            self.policies.get(&(place.tenant, &place.kind)).or_else(|| self.policies.get(&(None, &place.kind)));
        let policy = decided.copied().unwrap_or(match spec.durability {
            Durability::Durable => FailurePolicy::Closed,
            Durability::Ephemeral => FailurePolicy::Open,
        });
        Some(Arc::new(Handler {
            generation: Arc::clone(generation),
            spec,
            allowance: self.allowance(place.tenant, generation),
            policy,
            role,
            scope: place.scope.clone(),
            subject: place.subject.clone(),
            shadow,
            rival: rival.cloned(),
            reported: AtomicBool::new(false),
        }))
    }

    fn allowance(&mut self, tenant: For<'a>, generation: &Generation) -> Arc<Allowance> {
        let plugin = generation.plugin();
        let trusted = generation.id().is_none();
        let all = self.terms.get(&(None, plugin)).copied();
        let own = tenant.and_then(|_| self.terms.get(&(tenant, plugin)).copied());
        // A tenant without a policy of its own shares the allowance for all tenants.
        let key = (tenant.filter(|_| own.is_some()), plugin.clone(), trusted);
        let made = self.allowances.entry(key).or_insert_with(|| {
            let base = if trusted { Allowance::trusted() } else { Allowance::deployed() };
            Arc::new(base.under(all, own))
        });
        Arc::clone(made)
    }
}

/// The place of a handler in the table.
struct Place<'a> {
    tenant: For<'a>,
    scope: Scope,
    subject: Subject,
    kind: Kind,
}
