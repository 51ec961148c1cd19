//! The catalogue of plugins as rows: each thing that is decided is an entry, a key and a JSON document.
//!
//! Both adapters keep the same entries. Nothing here reads or writes a database, or knows what an entry is good for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use switchboard_model::catalogue::{Catalogue, Change, Scope};

const VERSION: &str = "version";
const GENERATION: &str = "generation";
const ROUTE: &str = "route";
const TERMS: &str = "terms";
const POLICY: &str = "policy";
const CONSENT: &str = "consent";

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) part: &'static str,
    /// A tenant's slug, or nothing.
    pub(super) scope: String,
    pub(super) name: String,
}

/// What a change does to the entries. No key stands here twice.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// What must not be there before: what is deployed stays as it is for ever.
    pub(super) added: Vec<(Key, String)>,
    /// What takes the place of what is there, if something is.
    pub(super) put: Vec<(Key, String)>,
    /// What is taken out, if it is there.
    pub(super) gone: Vec<Key>,
}

impl Edits {
    /// What a change comes to. Of a route that is dropped and put, the putting counts.
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
        for terms in &change.terms {
            last.insert(key(TERMS, &terms.scope, terms.plugin.to_string()), Some(document(terms)));
        }
        for policy in &change.policies {
            let decided = policy.policy.map(|_| document(policy));
            last.insert(key(POLICY, &policy.scope, policy.kind.to_string()), decided);
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

/// Whether a change is one of the audit alone.
pub(super) fn is_audit_alone(change: &Change) -> bool {
    let Change { artefact, versions, generations, routes, dropped, terms, policies, consents, audit: _ } = change;
    artefact.is_none()
        && versions.is_empty()
        && generations.is_empty()
        && routes.is_empty()
        && dropped.is_empty()
        && terms.is_empty()
        && policies.is_empty()
        && consents.is_empty()
}

/// Puts the entries together again: each a part and a document, in any order.
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
            TERMS => all.terms.push(read(&text)?),
            POLICY => all.policies.push(read(&text)?),
            CONSENT => drop(all.consents.insert(read(&text)?)),
            _ => {
                return Err(StoreError::Failed(
                    format!("an entry of the catalogue is of an unknown part: {part}").into(),
                ));
            }
        }
    }
    all.versions.sort_by(|a, b| (&a.plugin, a.deployed_at, &a.version).cmp(&(&b.plugin, b.deployed_at, &b.version)));
    all.generations.sort_by_key(|generation| generation.id);
    all.routes.sort_by(|a, b| (&a.scope, &a.subject).cmp(&(&b.scope, &b.subject)));
    all.terms.sort_by(|a, b| (&a.scope, &a.plugin).cmp(&(&b.scope, &b.plugin)));
    all.policies.sort_by(|a, b| (&a.scope, &a.kind).cmp(&(&b.scope, &b.kind)));
    Ok(all)
}

/// A document's text. What JSON escapes, such as a NUL, stands escaped.
pub(super) fn document<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the types of the catalogue have names for keys and no failing part")
}

/// A document that was written by [`document`].
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Failed(Box::new(error)))
}

fn key(part: &'static str, scope: &Scope, name: String) -> Key {
    Key { part, scope: scope.tenant().map_or_else(String::new, ToString::to_string), name }
}
