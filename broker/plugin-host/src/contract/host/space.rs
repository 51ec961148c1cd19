//! Limits the memories and tables of one instance, all of them together.

use wasmtime::ResourceLimiter;

use crate::limits::{CORE_INSTANCES, MEMORIES, TABLES};

/// Bytes the engine keeps for each table element.
const ELEMENT: usize = size_of::<usize>();

/// Counts every allocation and growth, and refuses what would exceed the limit.
#[derive(Debug)]
pub(crate) struct Space {
    limit: usize,
    taken: usize,
    /// The total that the last refused request would have reached.
    refused: Option<usize>,
}

impl Space {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, taken: 0, refused: None }
    }

    /// Bytes counted. Never decreases: neither memories nor tables shrink.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// If the instance was refused here, why: one line for its author.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refused.map(|wanted| {
            let (wanted, limit) = (wanted.div_ceil(1 << 20), self.limit >> 20);
            format!("its memories and tables need at least {wanted} MiB, and the limit memory_mib is {limit}")
        })
    }

    /// Counts a growth, or refuses it. Growth beyond the guest's own maximum is not counted. Growth that was allowed
    /// but then fails, because the machine is out of memory, stays counted: the engine also reports failures of growth
    /// that was never allowed, so subtracting them would let a guest erase its own limit.
    fn take(&mut self, current: usize, desired: usize, maximum: Option<usize>, unit: usize) -> bool {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        let more = desired.saturating_sub(current).saturating_mul(unit);
        let wanted = self.taken.saturating_add(more);
        if wanted > self.limit {
            self.refused = Some(wanted);
            return false;
        }
        self.taken = wanted;
        true
    }
}

impl ResourceLimiter for Space {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.take(current, desired, maximum, 1))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.take(current, desired, maximum, ELEMENT))
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 64 << 10;

    #[test]
    fn all_memories_and_tables_are_counted_together() {
        let mut space = Space::new(10 * PAGE);
        assert!(space.memory_growing(0, 4 * PAGE, None).unwrap());
        assert!(space.memory_growing(0, 4 * PAGE, None).unwrap(), "another one");
        assert!(space.memory_growing(4 * PAGE, 5 * PAGE, None).unwrap());
        assert!(!space.memory_growing(4 * PAGE, 6 * PAGE, None).unwrap());
        assert!(space.table_growing(0, PAGE / 8, None).unwrap());
        assert!(!space.table_growing(PAGE / 8, PAGE / 8 + 1, None).unwrap());
        assert_eq!(space.taken(), 10 * PAGE);
        assert!(space.refusal().is_some_and(|line| line.contains("memory_mib")));
    }

    #[test]
    fn what_is_beyond_a_memorys_own_maximum_takes_nothing() {
        let mut space = Space::new(2 * PAGE);
        assert!(space.memory_growing(0, PAGE, Some(PAGE)).unwrap());
        assert!(!space.memory_growing(PAGE, 2 * PAGE, Some(PAGE)).unwrap());
        assert!(space.memory_growing(0, PAGE, None).unwrap());
        assert!(space.refusal().is_none());
    }
}
