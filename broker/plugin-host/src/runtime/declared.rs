//! What a component declares, added up before there is an instance of it.
//!
//! A store's limiter is asked before a memory or a table is made or grows. It is not asked about what else the engine keeps
//! for an instance: a place for each global, function reference and import of each core module, as often as the module is
//! instantiated. An engine that allocates from pools adds this up when it loads a component, and refuses what would not fit
//! into a pool. So each component is loaded once into one that has bounds and no instances.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{CORE_INSTANCES, MEMORIES, TABLES};
use crate::runtime::machine_code::{deserialize, in_one_line};

/// Bytes that the engine keeps for an instance beside its memories and tables. An instance of a Python interpreter, the
/// largest that was measured, takes 401 KiB, and one of the SDK's 8 KiB.
const INSTANCE: usize = 1 << 20;

/// What is compiled under other bounds was not held to these.
pub(crate) const BOUNDS: [usize; 4] = [INSTANCE, CORE_INSTANCES as usize, MEMORIES as usize, TABLES as usize];

/// Holds components to the bounds.
pub(crate) struct Declared(Engine);

impl Declared {
    /// For components that are compiled under these settings.
    pub(crate) fn new(mut settings: Config) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.max_component_instance_size(INSTANCE)
            .max_core_instance_size(INSTANCE)
            .max_core_instances_per_component(CORE_INSTANCES)
            .max_memories_per_component(MEMORIES)
            .max_memories_per_module(MEMORIES)
            .max_tables_per_component(TABLES)
            .max_tables_per_module(TABLES)
            // How large memories and tables are is the limiter's to decide.
            .max_memory_size(1 << 32)
            .table_elements(1 << 24)
            // Nothing is ever instantiated here.
            .total_component_instances(1)
            .total_core_instances(CORE_INSTANCES)
            .total_memories(MEMORIES)
            .total_tables(TABLES)
            .total_stacks(1);
        settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Ok(Self(Engine::new(&settings)?))
    }

    /// Whether an instance of this compiled component stays within the bounds. The error is one line for its author.
    pub(crate) fn check(&self, code: &[u8]) -> Result<(), String> {
        deserialize(&self.0, code).map(drop).map_err(|error| {
            format!("an instance of it would need more of the engine than it may have: {}", in_one_line(error))
        })
    }
}
