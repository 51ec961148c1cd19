//! What `tests/fuzz` calls of how a component's words are read: its description, its imports and its effects.

use switchboard_model::catalogue::{Durability, Origin};

pub use super::v0_1::fuzzing::{effects, types};
use crate::contract::descriptor::{DescribedKind, Description, Descriptor, imports};

/// What a component says about itself: its name and version, and the names of kinds and interfaces.
#[derive(Debug)]
pub struct Said {
    pub name: String,
    pub version: String,
    pub kinds: Vec<(String, Origin, Durability)>,
    pub watches: Vec<String>,
    pub wants: Vec<String>,
}

/// Reads a description as it is read of a component with these imports.
pub fn describe(said: Said, imported: &[&str]) -> Result<Descriptor, String> {
    let kinds = said.kinds.into_iter().map(|(name, origin, durability)| DescribedKind { name, origin, durability });
    let Said { name, version, watches, wants, .. } = said;
    let description = Description { name, version, kinds: kinds.collect(), watches, wants };
    let digest = "0".repeat(64).parse().expect("a digest");
    Descriptor::read(description, imports(imported.iter().copied())?, digest, 0)
}
