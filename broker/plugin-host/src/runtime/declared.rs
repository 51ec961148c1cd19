//! Checks what a component declares before there is an instance of it.
//!
//! The store's limiter is consulted when a memory or table is created or grows. It is not consulted about what else the
//! engine keeps for an instance: space for each global, function reference and import of each core module, as often as
//! the module is instantiated. An engine with a pooling allocator adds this up when it loads a component and refuses
//! what would not fit a slot. So each component is loaded once into such an engine, which never instantiates anything.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{CORE_INSTANCES, MEMORIES, TABLES};
use crate::runtime::machine_code::{deserialize, in_one_line};

/// Bytes the engine keeps for an instance beside its memories and tables. The largest measured, a Python interpreter,
/// takes 401 KiB; one built with the SDK takes 8 KiB.
const INSTANCE: usize = 1 << 20;

/// Part of the cache key: code compiled under other bounds was not checked against these.
pub(crate) const BOUNDS: [usize; 4] = [INSTANCE, CORE_INSTANCES as usize, MEMORIES as usize, TABLES as usize];

/// The pooling engine that components are checked against.
pub(crate) struct Declared(Engine);

impl Declared {
    pub(crate) fn new(mut settings: Config) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.max_component_instance_size(INSTANCE)
            .max_core_instance_size(INSTANCE)
            .max_core_instances_per_component(CORE_INSTANCES)
            .max_memories_per_component(MEMORIES)
            .max_memories_per_module(MEMORIES)
            .max_tables_per_component(TABLES)
            .max_tables_per_module(TABLES)
            // The size of memories and tables is up to the limiter.
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

    /// Checks compiled code against the bounds. The error is one line for its author.
    pub(crate) fn check(&self, code: &[u8]) -> Result<(), String> {
        deserialize(&self.0, code)
            .map(drop)
            .map_err(|error| format!("an instance of it would exceed what the engine allows: {}", in_one_line(error)))
    }
}
