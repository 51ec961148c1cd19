//! Grants and limits of a plugin in a tenant: names, bounds, defaults, and how policies combine.
//!
//! Operators set the limits of a call within the bounds given here. [`Bounds`] holds what all plugins on a node share;
//! no operator of a tenant can change it. Nothing here measures or enforces.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use switchboard_model::catalogue::{Import, PluginPolicy};

/// Core module instances in one component instance.
pub(crate) const CORE_INSTANCES: u32 = 128;

/// Memories in one component instance.
pub(crate) const MEMORIES: u32 = 4;

/// Tables in one component instance.
pub(crate) const TABLES: u32 = 64;

/// A limit that operators can set by name.
#[derive(Debug, Clone, Copy)]
pub struct LimitSpec {
    /// Ends with its unit, if it has one.
    pub name: &'static str,
    pub default: u64,
    pub least: u64,
    pub most: u64,
    pub about: &'static str,
    apply: fn(&mut Limits, u64),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("there is no limit `{name}`; the limits are {}", names())]
    Unknown {
        /// As the operator wrote it.
        name: String,
    },
    #[error("the limit {name} must be {least} to {most}")]
    OutOfBounds {
        name: &'static str,
        /// Both bounds are inclusive.
        least: u64,
        most: u64,
    },
}

/// What one call may use, and how long an instance is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Processor time of one call. Default 50 ms.
    pub cpu: Duration,
    /// Time from the call to its answer, host reads included. Default 250 ms.
    pub wall: Duration,
    /// Memories and tables of one instance together, in bytes. Default 16 MiB.
    pub memory: usize,
    /// Effects of one event. Default 64.
    pub effects: usize,
    /// Bytes of text in the effects of one event. Default 256 KiB.
    pub effect_bytes: usize,
    /// Host reads of one event. Default 32.
    pub reads: u32,
    /// Log lines of one event, each cut to [`Limits::LOG_LINE`]. Default 20.
    pub log_lines: u32,
    /// Concurrent calls of one tenant in one generation. Default 8.
    pub running: usize,
    /// Calls that may queue for one of those. Default 256; the next one is refused as
    /// [`CallError::Busy`](crate::CallError::Busy).
    pub waiting: usize,
    /// Calls after which an instance is replaced, so that a leak in it stays small. Default 10,000.
    pub calls: u32,
    /// Whether each call gets a new instance.
    pub fresh: bool,
}

impl Limits {
    /// Longest line of the guest log, in bytes.
    pub const LOG_LINE: usize = 1_024;

    pub const NAMED: &[LimitSpec] = &[
        LimitSpec {
            name: "cpu_ms",
            default: 50,
            least: 1,
            most: 1_000,
            about: "processor time of a call",
            apply: |limits, value| limits.cpu = Duration::from_millis(value),
        },
        LimitSpec {
            name: "wall_ms",
            default: 250,
            least: 5,
            most: 5_000,
            about: "time from a call to its answer, including host reads",
            apply: |limits, value| limits.wall = Duration::from_millis(value),
        },
        LimitSpec {
            name: "memory_mib",
            default: 16,
            least: 2,
            most: 512,
            about: "memory of an instance",
            apply: |limits, value| limits.memory = size(value) << 20,
        },
        LimitSpec {
            name: "effects",
            default: 64,
            least: 1,
            most: 1_024,
            about: "effects of an event",
            apply: |limits, value| limits.effects = size(value),
        },
        LimitSpec {
            name: "effect_kib",
            default: 256,
            least: 1,
            most: 1_024,
            about: "text in the effects of an event",
            apply: |limits, value| limits.effect_bytes = size(value) << 10,
        },
        LimitSpec {
            name: "reads",
            default: 32,
            least: 0,
            most: 1_024,
            about: "host reads of an event",
            apply: |limits, value| limits.reads = count(value),
        },
        LimitSpec {
            name: "log_lines",
            default: 20,
            least: 0,
            most: 1_000,
            about: "log lines of an event",
            apply: |limits, value| limits.log_lines = count(value),
        },
        LimitSpec {
            name: "running",
            default: 8,
            least: 1,
            most: 64,
            about: "concurrent calls of a tenant, on each node",
            apply: |limits, value| limits.running = size(value),
        },
        LimitSpec {
            name: "waiting",
            default: 256,
            least: 0,
            most: 4_096,
            about: "waiting calls of a tenant, on each node",
            apply: |limits, value| limits.waiting = size(value),
        },
        LimitSpec {
            name: "calls",
            default: 10_000,
            least: 1,
            most: 1_000_000,
            about: "calls after which an instance is replaced",
            apply: |limits, value| limits.calls = count(value),
        },
        LimitSpec {
            name: "fresh",
            default: 0,
            least: 0,
            most: 1,
            about: "1: a new instance for each call",
            apply: |limits, value| limits.fresh = value == 1,
        },
    ];

    /// Checks that the limit exists and accepts this value.
    pub fn check(name: &str, value: u64) -> Result<(), LimitError> {
        let spec = Self::spec(name).ok_or_else(|| LimitError::Unknown { name: name.to_owned() })?;
        if (spec.least..=spec.most).contains(&value) {
            Ok(())
        } else {
            Err(LimitError::OutOfBounds { name: spec.name, least: spec.least, most: spec.most })
        }
    }

    /// Sets a limit. The catalogue may have been written by another version of the broker: an unknown name is ignored
    /// and a value is clamped to the bounds.
    fn set(&mut self, name: &str, value: u64) {
        if let Some(spec) = Self::spec(name) {
            (spec.apply)(self, value.clamp(spec.least, spec.most));
        }
    }

    fn spec(name: &str) -> Option<&'static LimitSpec> {
        Self::NAMED.iter().find(|spec| spec.name == name)
    }
}

impl Default for Limits {
    fn default() -> Self {
        let mut limits = Self {
            cpu: Duration::ZERO,
            wall: Duration::ZERO,
            memory: 0,
            effects: 0,
            effect_bytes: 0,
            reads: 0,
            log_lines: 0,
            running: 0,
            waiting: 0,
            calls: 0,
            fresh: false,
        };
        for spec in Self::NAMED {
            (spec.apply)(&mut limits, spec.default);
        }
        limits
    }
}

/// The policy in force for one plugin in one tenant, with all levels combined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    pub grants: BTreeSet<Import>,
    pub limits: Limits,
}

impl Allowance {
    /// The default for a deployed plugin: the log and nothing else, under the default limits.
    pub fn deployed() -> Self {
        Self { grants: BTreeSet::from([Import::Log]), limits: Limits::default() }
    }

    /// The default for a plugin that is built in or named at start-up: every interface, under the default limits.
    pub fn trusted() -> Self {
        Self { grants: Import::ALL.into_iter().collect(), limits: Limits::default() }
    }

    /// Combines `self` with the policies for all tenants and for this tenant. The tenant's grants replace the grants
    /// for all; limits combine name by name.
    pub fn under(mut self, all: Option<&PluginPolicy>, tenant: Option<&PluginPolicy>) -> Self {
        let both = [all, tenant].into_iter().flatten();
        if let Some(grants) = both.clone().filter_map(|terms| terms.grants.as_ref()).next_back() {
            self.grants.clone_from(grants);
        }
        let limits: BTreeMap<&str, u64> =
            both.flat_map(|terms| &terms.limits).map(|(name, value)| (name.as_str(), *value)).collect();
        for (name, value) in limits {
            self.limits.set(name, value);
        }
        self
    }
}

/// What all plugins on a node share. Operators of a tenant cannot set it.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Size of a component in bytes. Default 32 MiB, because a component in an interpreted language contains its
    /// interpreter.
    pub component: usize,
    /// Instances on the node, running and warm. Default 1,024; beyond that the one unused longest is evicted.
    pub instances: usize,
    /// Instances of one tenant. Default 256.
    pub tenant_instances: usize,
    /// How long an unused instance stays warm. Default 60 s.
    pub idle: Duration,
    /// Concurrent calls on the node. Default 16 for each processor, at least 32.
    pub running: usize,
    /// How long a call may wait for a permit. Default 5 s.
    pub wait: Duration,
    /// Processor time of one compilation. Default 60 s.
    pub compile: Duration,
    /// Address space of the compiler, in bytes. Default 2 GiB.
    pub compile_memory: u64,
    /// Bytes of compiled components kept on disk. Default 1 GiB.
    pub cache: u64,
}

impl Bounds {
    /// How often running guests are interrupted, to account for their time and let others run.
    pub const TICK: Duration = Duration::from_millis(1);
}

impl Default for Bounds {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            component: 32 << 20,
            instances: 1_024,
            tenant_instances: 256,
            idle: Duration::from_secs(60),
            running: (16 * processors).max(32),
            wait: Duration::from_secs(5),
            compile: Duration::from_secs(60),
            compile_memory: 2 << 30,
            cache: 1 << 30,
        }
    }
}

fn names() -> String {
    let names: Vec<&str> = Limits::NAMED.iter().map(|spec| spec.name).collect();
    names.join(", ")
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_model::catalogue::Scope;

    fn terms(grants: Option<&[Import]>, limits: &[(&str, u64)]) -> PluginPolicy {
        PluginPolicy {
            scope: Scope::All,
            plugin: "poll".parse().unwrap(),
            grants: grants.map(|grants| grants.iter().copied().collect()),
            limits: limits.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        }
    }

    #[test]
    fn what_is_decided_for_a_tenant_goes_before_what_is_decided_for_all_each_part_by_itself() {
        let all = terms(Some(&[Import::Kv, Import::Log]), &[("cpu_ms", 100), ("memory_mib", 64)]);
        let tenant = terms(None, &[("cpu_ms", 20)]);
        let allowed = Allowance::deployed().under(Some(&all), Some(&tenant));
        assert_eq!(allowed.grants, BTreeSet::from([Import::Kv, Import::Log]));
        assert_eq!((allowed.limits.cpu, allowed.limits.memory), (Duration::from_millis(20), 64 << 20));
        assert_eq!(allowed.limits.effects, Limits::default().effects);
        let nothing = terms(Some(&[]), &[]);
        assert!(Allowance::trusted().under(Some(&all), Some(&nothing)).grants.is_empty());
    }

    #[test]
    fn a_limit_has_bounds_that_hold_whatever_the_catalogue_says() {
        for spec in Limits::NAMED {
            assert!(Limits::check(spec.name, spec.default).is_ok(), "{}", spec.name);
            assert!(Limits::check(spec.name, spec.most + 1).is_err(), "{}", spec.name);
        }
        let unknown = Limits::check("cpu", 1).unwrap_err().to_string();
        assert!(unknown.contains("cpu_ms"), "{unknown}");
        let foreign = terms(None, &[("memory_mib", 1 << 40), ("from_the_future", 1)]);
        assert_eq!(Allowance::deployed().under(Some(&foreign), None).limits.memory, 512 << 20);
    }
}
