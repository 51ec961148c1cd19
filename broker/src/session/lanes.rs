//! The order of a session's work: one after the other within a channel, side by side between channels.
//!
//! A lane is a channel, or the socket itself for what is no channel's affair. What is done in it is not decided here.

use std::collections::{HashMap, VecDeque};

use crate::model::ChannelId;

/// Tasks of one lane that may wait behind the one under way.
pub(super) const LANE: usize = 32;

/// Tasks of one session, under way or waiting, beyond which its socket is not read.
pub(super) const TASKS: usize = 128;

/// A channel; none for the socket itself.
pub(super) type Lane = Option<ChannelId>;

/// What waits, and which lanes have a task under way.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    /// A lane that is here has a task under way; those after it wait.
    busy: HashMap<Lane, VecDeque<T>>,
    tasks: usize,
}

/// What becomes of a task that comes in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<T> {
    /// Nothing of its lane is under way: it is to be started.
    Now(T),
    /// It waits.
    Later,
    /// Too many wait in its lane already.
    Full(T),
}

impl<T> Lanes<T> {
    pub(super) fn new() -> Self {
        Self { busy: HashMap::new(), tasks: 0 }
    }

    /// Takes a task in, in its lane's order.
    pub(super) fn enter(&mut self, lane: Lane, task: T) -> Turn<T> {
        match self.busy.get_mut(&lane) {
            Some(waiting) if waiting.len() >= LANE => return Turn::Full(task),
            Some(waiting) => waiting.push_back(task),
            None => {
                self.busy.insert(lane, VecDeque::new());
                self.tasks += 1;
                return Turn::Now(task);
            }
        }
        self.tasks += 1;
        Turn::Later
    }

    /// The task under way in a lane is done: the one to start now, if one waits.
    pub(super) fn finish(&mut self, lane: Lane) -> Option<T> {
        let next = self.busy.get_mut(&lane)?.pop_front();
        if next.is_none() {
            self.busy.remove(&lane);
        }
        self.tasks -= 1;
        next
    }

    /// Whether a task of this lane would wait, or not even that.
    pub(super) fn is_full(&self, lane: Lane) -> bool {
        self.busy.get(&lane).is_some_and(|waiting| waiting.len() >= LANE)
    }

    /// Whether a task of this lane is under way.
    pub(super) fn is_busy(&self, lane: Lane) -> bool {
        self.busy.contains_key(&lane)
    }

    /// How many tasks are under way or wait.
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Drops what waits; what is under way stays to be finished.
    pub(super) fn give_up_waiting(&mut self) {
        self.busy.values_mut().for_each(VecDeque::clear);
        self.tasks = self.busy.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(number: u128) -> Lane {
        Some(ChannelId(uuid::Uuid::from_u128(number)))
    }

    #[test]
    fn a_lane_has_one_task_under_way_and_the_others_do_not_wait_for_it() {
        let mut lanes = Lanes::new();
        assert_eq!(lanes.enter(lane(1), "a"), Turn::Now("a"));
        assert_eq!(lanes.enter(lane(1), "b"), Turn::Later);
        assert_eq!(lanes.enter(lane(2), "c"), Turn::Now("c"));
        assert_eq!(lanes.enter(None, "d"), Turn::Now("d"));
        assert_eq!(lanes.tasks(), 4);
        assert_eq!(lanes.finish(lane(2)), None);
        assert_eq!(lanes.finish(lane(1)), Some("b"));
        assert_eq!(lanes.enter(lane(1), "e"), Turn::Later, "b is under way");
        assert_eq!(lanes.finish(lane(1)), Some("e"));
        assert_eq!(lanes.finish(lane(1)), None);
        assert_eq!(lanes.tasks(), 1);
    }

    #[test]
    fn a_full_lane_takes_no_more_and_the_others_do() {
        let mut lanes = Lanes::new();
        for task in 0..=LANE {
            assert!(!lanes.is_full(lane(1)));
            assert!(!matches!(lanes.enter(lane(1), task), Turn::Full(_)), "{task}");
        }
        assert!(lanes.is_full(lane(1)));
        assert_eq!(lanes.enter(lane(1), 99), Turn::Full(99));
        assert_eq!(lanes.enter(lane(2), 99), Turn::Now(99));
        lanes.give_up_waiting();
        assert_eq!((lanes.tasks(), lanes.finish(lane(1)), lanes.finish(lane(2))), (2, None, None));
        assert_eq!(lanes.tasks(), 0);
    }
}
