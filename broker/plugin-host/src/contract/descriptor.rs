//! What a component says about itself and what it needs, checked without trusting it.

use std::collections::BTreeSet;

use switchboard_model::catalogue::{Durability, Import, KindSpec, Origin};
use switchboard_model::{Digest, Kind, PluginName};

use crate::contract::text::for_client;
use crate::contract::v0_1::VERSION;

/// Frames the broker handles itself. No plugin can claim these names.
const RESERVED: &[&str] = &["auth", "auth.refresh", "subscribe", "unsubscribe", "ping"];

/// The WASI packages that standard libraries need to start.
const WASI: &[&str] = &["cli", "clocks", "filesystem", "io", "random"];

/// Kinds a plugin may handle, and kinds it may watch.
const MOST_KINDS: usize = 32;

/// What a component says about itself, unchecked.
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) kinds: Vec<DescribedKind>,
    pub(crate) watches: Vec<String>,
    pub(crate) wants: Vec<String>,
}

pub(crate) struct DescribedKind {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) durability: Durability,
}

/// A component as deployments and the audit log record it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub plugin: PluginName,
    pub version: String,
    pub digest: Digest,
    pub size: u64,
    pub kinds: Vec<KindSpec>,
    /// The kinds of stored messages it is called with.
    pub watches: Vec<Kind>,
    /// The interfaces it imports or declares that it wants, sorted and without duplicates.
    pub wants: Vec<Import>,
}

impl Descriptor {
    /// The first wanted interface that is missing from `grants`.
    pub fn ungranted(&self, grants: &BTreeSet<Import>) -> Option<Import> {
        self.wants.iter().copied().find(|import| !grants.contains(import))
    }

    /// Checks a description. The error is one line for the component's author.
    pub(crate) fn read(
        said: Description,
        imports: BTreeSet<Import>,
        digest: Digest,
        size: usize,
    ) -> Result<Self, String> {
        let plugin = said.name.parse().map_err(|rule| format!("its name {rule}"))?;
        if said.version.is_empty() || said.version.len() > 64 || !said.version.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("its version must be 1 to 64 ASCII characters without spaces".to_owned());
        }
        let mut wants = imports;
        for name in &said.wants {
            let import = Import::from_name(name);
            wants.insert(import.ok_or_else(|| {
                format!(
                    "it wants `{}`, which is not an interface; the interfaces are {}",
                    for_client(name),
                    all_imports()
                )
            })?);
        }
        for (count, what) in [(said.kinds.len(), "describes"), (said.watches.len(), "watches")] {
            if count > MOST_KINDS {
                return Err(format!("it {what} {count} kinds; the maximum is {MOST_KINDS}"));
            }
        }
        let (kinds, watches) = (kinds(&said)?, watches(&said)?);
        if kinds.is_empty() && watches.is_empty() {
            return Err("it neither handles nor watches any kind".to_owned());
        }
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        Ok(Self { plugin, version: said.version, digest, size, kinds, watches, wants: wants.into_iter().collect() })
    }
}

/// The broker's interfaces among a component's imports. Any import outside the contract and the permitted part of WASI
/// is refused, with one line that says what to do about it.
pub(crate) fn imports<'a>(names: impl Iterator<Item = &'a str>) -> Result<BTreeSet<Import>, String> {
    let mut found = BTreeSet::new();
    for name in names {
        let shown = for_client(name);
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        if let Some(own) = interface.strip_prefix("switchboard:plugin/") {
            if version != VERSION {
                return Err(format!("it imports {shown}; build it for version {VERSION} of the contract"));
            }
            match Import::from_name(own) {
                Some(import) => drop(found.insert(import)),
                None if own == "types" => {}
                None => return Err(format!("it imports {shown}, which is not part of the contract")),
            }
        } else if let Some(package) = interface.strip_prefix("wasi:").and_then(|rest| rest.split('/').next()) {
            if !WASI.contains(&package) {
                return Err(format!(
                    "it imports {shown}; plugins have no network: build it without wasi:{}",
                    for_client(package)
                ));
            }
        } else {
            return Err(format!("it imports {shown}; a plugin can only import from switchboard:plugin@{VERSION}"));
        }
    }
    Ok(found)
}

fn kinds(said: &Description) -> Result<Vec<KindSpec>, String> {
    let mut kinds: Vec<KindSpec> = Vec::with_capacity(said.kinds.len());
    for spec in &said.kinds {
        let kind = kind(&spec.name)?;
        if RESERVED.contains(&kind.as_str()) || kinds.iter().any(|other| other.kind == kind) {
            return Err(format!("its kind `{kind}` is reserved for the broker, or described twice"));
        }
        kinds.push(KindSpec { kind, origin: spec.origin, durability: spec.durability });
    }
    Ok(kinds)
}

fn watches(said: &Description) -> Result<Vec<Kind>, String> {
    let mut watches: Vec<Kind> = Vec::with_capacity(said.watches.len());
    for name in &said.watches {
        let kind = kind(name)?;
        if !watches.contains(&kind) {
            watches.push(kind);
        }
    }
    Ok(watches)
}

fn kind(name: &str) -> Result<Kind, String> {
    name.parse().map_err(|rule| format!("its kind `{}` {rule}", for_client(name)))
}

fn all_imports() -> String {
    Import::ALL.map(Import::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_imported_is_known_or_refused_in_one_line() {
        let known = ["switchboard:plugin/types@0.1.0", "switchboard:plugin/kv@0.1.0", "wasi:io/streams@0.2.9"];
        assert_eq!(imports(known.into_iter()), Ok(BTreeSet::from([Import::Kv])));
        for (name, said) in [
            ("switchboard:plugin/kv@0.2.0", "0.1.0"),
            ("switchboard:plugin/files@0.1.0", "files"),
            ("wasi:sockets/tcp@0.2.0", "no network"),
            ("wasi:http/outgoing-handler@0.2.0", "wasi:http"),
            ("acme:db/query", "switchboard:plugin@0.1.0"),
            ("acme:db\n/query", "switchboard:plugin@0.1.0"),
            ("wasi:ht\ntp/types", "no network"),
        ] {
            let refused = imports(std::iter::once(name)).unwrap_err();
            assert!(refused.contains(said) && !refused.contains('\n'), "{refused}");
        }
    }

    #[test]
    fn what_a_component_wants_is_refused_in_one_line_of_bounded_length() {
        for name in ["files\nother".to_owned(), "x".repeat(100_000)] {
            let (kinds, watches) = (Vec::new(), vec!["poke".to_owned()]);
            let said =
                Description { name: "poll".to_owned(), version: "1".to_owned(), kinds, watches, wants: vec![name] };
            let refused = Descriptor::read(said, BTreeSet::new(), "0".repeat(64).parse().unwrap(), 0).unwrap_err();
            assert!(!refused.contains('\n') && refused.len() < 1_000, "{refused}");
        }
    }
}
