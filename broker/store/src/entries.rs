//! The plugin catalogue as rows: each decision is an entry, a key with a JSON document.
//!
//! Both adapters store the same entries. Nothing here reads or writes a database, or interprets an entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use switchboard_model::catalogue::{Catalogue, Change, Scope};

const VERSION: &str = "version";
const GENERATION: &str = "generation";
const ROUTE: &str = "route";
const PLUGIN_POLICY: &str = "terms";
const KIND_POLICY: &str = "policy";
const CONSENT: &str = "consent";

/// The primary key of an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) part: &'static str,
    /// A tenant's slug; empty for all tenants.
    pub(super) scope: String,
    pub(super) name: String,
}

/// What a change does to the entries. No key appears twice.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Must not exist yet: what is deployed never changes.
    pub(super) added: Vec<(Key, String)>,
    /// Inserts or replaces.
    pub(super) put: Vec<(Key, String)>,
    /// Deletes, if present.
    pub(super) gone: Vec<Key>,
}

impl Edits {
    /// The edits of a change. For a route that is both dropped and put, the put wins.
    pub(super) fn of(change: &Change) -> Self {
        let mut edits = Self::default();
        let nowhere = &Scope::All;
        for version in &change.versions {
            let name = document(&(&version.plugin, &version.version));
            edits.added.push((key(VERSION, nowhere, name), document(version)));
        }
        for generation in &change.generations {
            edits.added.push((key(GENERATION, nowhere, generation.id.to_string()), document(generation)));
        }
        let mut last = BTreeMap::new();
        for (scope, subject) in &change.dropped {
            last.insert(key(ROUTE, scope, document(subject)), None);
        }
        for route in &change.routes {
            last.insert(key(ROUTE, &route.scope, document(&route.subject)), Some(document(route)));
        }
        for plugin_policies in &change.plugin_policies {
            last.insert(
                key(PLUGIN_POLICY, &plugin_policies.scope, plugin_policies.plugin.to_string()),
                Some(document(plugin_policies)),
            );
        }
        for policy in &change.kind_policies {
            let decided = policy.policy.map(|_| document(policy));
            last.insert(key(KIND_POLICY, &policy.scope, policy.kind.to_string()), decided);
        }
        for (tenant, given) in &change.consents {
            let scope = Scope::Tenant(tenant.clone());
            last.insert(key(CONSENT, &scope, String::new()), given.then(|| document(tenant)));
        }
        for (key, document) in last {
            match document {
                Some(document) => edits.put.push((key, document)),
                None => edits.gone.push(key),
            }
        }
        edits
    }
}

/// Whether a change consists of audit lines only.
pub(super) fn is_audit_alone(change: &Change) -> bool {
    let Change { artefact, versions, generations, routes, dropped, plugin_policies, kind_policies, consents, audit: _ } =
        change;
    artefact.is_none()
        && versions.is_empty()
        && generations.is_empty()
        && routes.is_empty()
        && dropped.is_empty()
        && plugin_policies.is_empty()
        && kind_policies.is_empty()
        && consents.is_empty()
}

/// Assembles the catalogue from entries in any order.
pub(super) fn catalogue(
    revision: u64,
    entries: impl IntoIterator<Item = (String, String)>,
) -> Result<Catalogue, StoreError> {
    let mut all = Catalogue { revision, ..Catalogue::default() };
    for (part, text) in entries {
        match part.as_str() {
            VERSION => all.versions.push(read(&text)?),
            GENERATION => all.generations.push(read(&text)?),
            ROUTE => all.routes.push(read(&text)?),
            PLUGIN_POLICY => all.plugin_policies.push(read(&text)?),
            KIND_POLICY => all.kind_policies.push(read(&text)?),
            CONSENT => drop(all.consents.insert(read(&text)?)),
            _ => {
                return Err(StoreError::Failed(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(format!(
                    "an entry of the catalogue has an unknown part: {part}"
                )))));
            }
        }
    }
    all.versions.sort_by(|a, b| (&a.plugin, a.deployed_at, &a.version).cmp(&(&b.plugin, b.deployed_at, &b.version)));
    all.generations.sort_by_key(|generation| generation.id);
    all.routes.sort_by(|a, b| (&a.scope, &a.subject).cmp(&(&b.scope, &b.subject)));
    all.plugin_policies.sort_by(|a, b| (&a.scope, &a.plugin).cmp(&(&b.scope, &b.plugin)));
    all.kind_policies.sort_by(|a, b| (&a.scope, &a.kind).cmp(&(&b.scope, &b.kind)));
    Ok(all)
}

/// The JSON text of a value. It contains no NUL, because JSON escapes it.
pub(super) fn document<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the types of the catalogue always have a JSON form")
}

/// Parses what [`document`] wrote.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Failed(Arc::new(error)))
}

fn key(part: &'static str, scope: &Scope, name: String) -> Key {
    Key { part, scope: scope.tenant().map_or_else(String::new, ToString::to_string), name }
}
