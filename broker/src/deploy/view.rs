//! A read-only view of the catalogue: targets, grants, and the words that describe them.

use std::collections::BTreeSet;

use crate::model::catalogue::{
    Candidate, Catalogue, GenerationId, GenerationRow, Import, KindSpec, Route, Scope, Subject, Target, Trial, Version,
};
use crate::model::{Kind, PluginName};

/// A plugin that needs no deployment: compiled into the broker or named at start-up.
#[derive(Debug, Clone)]
pub struct BuiltIn {
    pub plugin: PluginName,
    pub version: String,
    /// The SHA-256 of its bytes.
    pub digest: String,
    pub kinds: Vec<KindSpec>,
    /// The kinds of stored messages it is called with.
    pub watches: Vec<Kind>,
}

/// The catalogue together with the built-in plugins. If two of these handle the same kind, the later one wins.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub catalogue: &'a Catalogue,
    pub built_in: &'a [BuiltIn],
}

impl<'a> View<'a> {
    /// The route decided for exactly this scope.
    pub fn own_route(&self, scope: &Scope, subject: &Subject) -> Option<&'a Route> {
        self.catalogue.routes.iter().find(|route| route.scope == *scope && route.subject == *subject)
    }

    /// The target of a subject in a scope: its own, the one for all tenants, or the built-in plugin.
    pub fn target(&self, scope: &Scope, subject: &Subject) -> Target {
        let own = self.own_route(scope, subject).or_else(|| self.own_route(&Scope::All, subject));
        own.map_or(Target::BuiltIn, |route| route.stable)
    }

    pub fn generation(&self, id: GenerationId) -> Option<&'a GenerationRow> {
        self.catalogue.generations.iter().find(|generation| generation.id == id)
    }

    pub(super) fn version_of(&self, id: GenerationId) -> Option<&'a Version> {
        let row = self.generation(id)?;
        self.version(&row.plugin, &row.version)
    }

    pub fn version(&self, plugin: &PluginName, version: &str) -> Option<&'a Version> {
        self.catalogue.versions.iter().find(|known| known.plugin == *plugin && known.version == version)
    }

    /// The version of a plugin deployed last.
    pub fn latest(&self, plugin: &PluginName) -> Option<&'a Version> {
        let of_it = self.catalogue.versions.iter().filter(|known| known.plugin == *plugin);
        // If several have the same millisecond, the last one in the list.
        of_it.max_by_key(|version| version.deployed_at)
    }

    pub fn built_in_named(&self, plugin: &PluginName) -> Option<&'a BuiltIn> {
        self.built_in.iter().rev().find(|known| known.plugin == *plugin)
    }

    /// The built-in plugin that a subject goes to without a decision.
    fn built_in_of(&self, subject: &Subject) -> Option<&'a BuiltIn> {
        match subject {
            Subject::Handles(kind) => {
                self.built_in.iter().rev().find(|known| known.kinds.iter().any(|spec| spec.kind == *kind))
            }
            Subject::Watches(plugin) => self.built_in_named(plugin).filter(|known| !known.watches.is_empty()),
        }
    }

    pub fn plugin_of(&self, target: Target, subject: &Subject) -> Option<&'a PluginName> {
        match target {
            Target::Off => None,
            Target::BuiltIn => self.built_in_of(subject).map(|known| &known.plugin),
            Target::Generation(id) => self.generation(id).map(|generation| &generation.plugin),
        }
    }

    /// Whether any plugin of this name is known.
    pub fn knows(&self, plugin: &PluginName) -> bool {
        self.built_in_named(plugin).is_some() || self.latest(plugin).is_some()
    }

    /// What a plugin may use in a scope. Without a decision, a deployed plugin has its log and a built-in one
    /// everything.
    pub fn grants(&self, scope: &Scope, plugin: &PluginName) -> BTreeSet<Import> {
        let decided = |scope: &Scope| {
            let policy =
                self.catalogue.plugin_policies.iter().find(|policy| policy.scope == *scope && policy.plugin == *plugin);
            policy.and_then(|policy| policy.grants.clone())
        };
        decided(scope).or_else(|| decided(&Scope::All)).unwrap_or_else(|| self.default_grants(plugin))
    }

    pub fn default_grants(&self, plugin: &PluginName) -> BTreeSet<Import> {
        match self.latest(plugin) {
            None if self.built_in_named(plugin).is_some() => Import::ALL.into(),
            _ => BTreeSet::from([Import::Log]),
        }
    }

    /// A target in words: `poll 0.2.0`, `typing 0.1.0 (built in)`, `off`, `nothing`.
    pub fn words(&self, target: Target, subject: &Subject) -> String {
        match target {
            Target::Off => "off".to_owned(),
            Target::BuiltIn => match self.built_in_of(subject) {
                Some(known) => format!("{} {} (built in)", known.plugin, known.version),
                None => "nothing".to_owned(),
            },
            Target::Generation(id) => self.generation_words(id),
        }
    }

    /// A generation in words. Two generations of a version differ in their configuration, so the number is included.
    pub fn generation_words(&self, id: GenerationId) -> String {
        match self.generation(id) {
            Some(row) => format!("{} {} (generation {id})", row.plugin, row.version),
            None => format!("generation {id}"),
        }
    }

    pub fn candidate_words(&self, candidate: Candidate) -> String {
        let generation = self.generation_words(candidate.generation);
        match candidate.trial {
            Trial::Canary(percent) => format!("{generation} on {percent}% of the channels"),
            Trial::Shadow => format!("{generation} as a shadow"),
        }
    }
}

/// The words without duplicates, in order, separated by commas.
pub(super) fn listed(words: impl IntoIterator<Item = String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for word in words {
        if !seen.contains(&word) {
            seen.push(word);
        }
    }
    seen.join(", ")
}

/// The name of a subject in lines for operators.
pub(super) fn word(subject: &Subject) -> &str {
    match subject {
        Subject::Handles(kind) => kind.as_str(),
        Subject::Watches(_) => "stored messages",
    }
}
