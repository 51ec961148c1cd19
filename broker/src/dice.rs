//! Chance for tests, from a seed that is printed.

use crate::model::Clock;

/// An xorshift generator.
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    /// One with a seed of its own.
    pub(crate) fn new() -> Self {
        let seed = u64::from_le_bytes(Clock::system().random()) | 1;
        println!("seed {seed}");
        Self { state: seed }
    }

    /// A number from 0 to one less than the sides.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % sides as u64).expect("less than the sides")
    }

    /// One of several, taken out.
    pub(crate) fn take<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let at = self.roll(from.len());
        Some(from.swap_remove(at))
    }
}
