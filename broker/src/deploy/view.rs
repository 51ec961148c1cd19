//! What follows from a catalogue: which target goes for whom, what is granted, and the words for it.
//!
//! It only reads.

use std::collections::BTreeSet;

use crate::model::catalogue::{
    Candidate, Catalogue, GenerationId, GenerationRow, Import, KindSpec, Route, Scope, Subject, Target, Trial, Version,
};
use crate::model::{Kind, PluginName};

/// A plugin that needs no deploying: it is compiled into the broker or named at its start.
#[derive(Debug, Clone)]
pub struct BuiltIn {
    /// Its name.
    pub plugin: PluginName,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its bytes.
    pub digest: String,
    /// What it handles.
    pub kinds: Vec<KindSpec>,
    /// What it is told of.
    pub watches: Vec<Kind>,
}

/// A catalogue beside the plugins that need none. Of two of these that handle one kind the later one counts.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What is decided.
    pub catalogue: &'a Catalogue,
    /// What there is without a decision.
    pub built_in: &'a [BuiltIn],
}

impl<'a> View<'a> {
    /// The route that is decided for exactly this scope.
    pub fn own_route(&self, scope: &Scope, subject: &Subject) -> Option<&'a Route> {
        self.catalogue.routes.iter().find(|route| route.scope == *scope && route.subject == *subject)
    }

    /// Where a subject goes in a scope, also when that was decided for all, or not at all.
    pub fn target(&self, scope: &Scope, subject: &Subject) -> Target {
        let own = self.own_route(scope, subject).or_else(|| self.own_route(&Scope::All, subject));
        own.map_or(Target::BuiltIn, |route| route.stable)
    }

    /// A generation.
    pub fn generation(&self, id: GenerationId) -> Option<&'a GenerationRow> {
        self.catalogue.generations.iter().find(|generation| generation.id == id)
    }

    /// The version of a generation.
    pub(super) fn version_of(&self, id: GenerationId) -> Option<&'a Version> {
        let row = self.generation(id)?;
        self.version(&row.plugin, &row.version)
    }

    /// A version that was deployed.
    pub fn version(&self, plugin: &PluginName, version: &str) -> Option<&'a Version> {
        self.catalogue.versions.iter().find(|known| known.plugin == *plugin && known.version == version)
    }

    /// The version of a plugin that was deployed last.
    pub fn latest(&self, plugin: &PluginName) -> Option<&'a Version> {
        let of_it = self.catalogue.versions.iter().filter(|known| known.plugin == *plugin);
        // Of those of one millisecond the later one in the list.
        of_it.max_by_key(|version| version.deployed_at)
    }

    /// The built-in plugin of a name.
    pub fn built_in_named(&self, plugin: &PluginName) -> Option<&'a BuiltIn> {
        self.built_in.iter().rev().find(|known| known.plugin == *plugin)
    }

    /// The plugin that a subject goes to without a decision.
    fn built_in_of(&self, subject: &Subject) -> Option<&'a BuiltIn> {
        match subject {
            Subject::Handles(kind) => {
                self.built_in.iter().rev().find(|known| known.kinds.iter().any(|spec| spec.kind == *kind))
            }
            Subject::Watches(plugin) => self.built_in_named(plugin).filter(|known| !known.watches.is_empty()),
        }
    }

    /// Which plugin a target is, for a subject.
    pub fn plugin_of(&self, target: Target, subject: &Subject) -> Option<&'a PluginName> {
        match target {
            Target::Off => None,
            Target::BuiltIn => self.built_in_of(subject).map(|known| &known.plugin),
            Target::Generation(id) => self.generation(id).map(|generation| &generation.plugin),
        }
    }

    /// Whether anything is known under this name.
    pub fn knows(&self, plugin: &PluginName) -> bool {
        self.built_in_named(plugin).is_some() || self.latest(plugin).is_some()
    }

    /// What a plugin may use in a scope. Without a decision a plugin that was deployed has its log, and one that came with
    /// the broker everything.
    pub fn grants(&self, scope: &Scope, plugin: &PluginName) -> BTreeSet<Import> {
        let decided = |scope: &Scope| {
            let terms = self.catalogue.terms.iter().find(|terms| terms.scope == *scope && terms.plugin == *plugin);
            terms.and_then(|terms| terms.grants.clone())
        };
        decided(scope).or_else(|| decided(&Scope::All)).unwrap_or_else(|| self.default_grants(plugin))
    }

    /// What a plugin may use where nothing is decided.
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

    /// A generation in words. Two of one version differ in their configuration, so the number is said, too.
    pub fn generation_words(&self, id: GenerationId) -> String {
        match self.generation(id) {
            Some(row) => format!("{} {} (generation {id})", row.plugin, row.version),
            None => format!("generation {id}"),
        }
    }

    /// What is tried out, in words.
    pub fn candidate_words(&self, candidate: Candidate) -> String {
        let generation = self.generation_words(candidate.generation);
        match candidate.trial {
            Trial::Canary(percent) => format!("{generation} on {percent}% of the channels"),
            Trial::Shadow => format!("{generation} as a shadow"),
        }
    }
}

/// Each of these once, in their order, with commas.
pub(super) fn listed(words: impl IntoIterator<Item = String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for word in words {
        if !seen.contains(&word) {
            seen.push(word);
        }
    }
    seen.join(", ")
}

/// What a subject is called in lines for operators.
pub(super) fn word(subject: &Subject) -> &str {
    match subject {
        Subject::Handles(kind) => kind.as_str(),
        Subject::Watches(_) => "stored messages",
    }
}
