//! The keyed queue: one task after another within a channel, side by side across channels.
//!
//! A key is a channel, or `None` for frames that concern the socket itself. One task of a key is worked on at a time. A
//! task may finish its work and leave its answer to come; the next one then begins, and answers are given in the order
//! of their tasks. A task marked `alone` begins only when every earlier answer of its key has been given.
//!
//! Only bookkeeping happens here: nothing runs, sends or waits.
//!
//! Invariants: `tasks` and `bytes` count every task from entering until its answer is given. An absent key has nothing
//! in hand. A number identifies one answer for the life of the session, so an answer that arrives too late can never be
//! taken for another one.
//!
//! Start with [`KeyedQueue::enter`].

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use crate::model::ChannelId;

/// Tasks of one key, from entering to answered.
const MOST_OF_A_KEY: usize = 96;

/// Tasks of one session, from entering to answered. Beyond this its socket is not read.
const TASKS: usize = 128;

/// Bytes of frames of one session, counted and enforced the same way.
const BYTES: usize = 1 << 20;

/// A channel, or `None` for the socket itself.
pub(super) type Key = Option<ChannelId>;

/// What waits, what is worked on, and which answers are due to whom.
#[derive(Debug)]
pub(super) struct KeyedQueue<T, W, A> {
    /// An absent key has nothing in hand.
    keys: HashMap<Key, InHand<T, W, A>>,
    tasks: usize,
    bytes: usize,
    /// How many of `tasks` have not begun.
    waiting: usize,
    /// Answers promised so far, over all keys. A new key starts counting here, so that it never reuses a number of an
    /// earlier key of the same channel: an answer may still arrive after it was given up and its key was removed.
    numbered: u64,
}

#[derive(Debug)]
struct InHand<T, W, A> {
    waiting: VecDeque<Waiting<T>>,
    /// Bytes of the task being worked on, if there is one.
    working: Option<usize>,
    answers: VecDeque<ToCome<W, A>>,
    /// The number of the front of `answers`.
    first: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    task: T,
    alone: bool,
    bytes: usize,
}

#[derive(Debug)]
struct ToCome<W, A> {
    to: W,
    answer: Option<A>,
    /// When the answer is given up; `None` means never.
    by: Option<Instant>,
    bytes: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered<T> {
    /// Begin it now.
    Now(T),
    /// It is queued.
    Later,
    /// Refused: its key is full.
    Full(T),
}

impl<T, W, A> KeyedQueue<T, W, A> {
    pub(super) fn new() -> Self {
        Self { keys: HashMap::new(), tasks: 0, bytes: 0, waiting: 0, numbered: 0 }
    }

    /// Adds a task, behind those of its key.
    pub(super) fn enter(&mut self, key: Key, task: T, alone: bool, bytes: usize) -> Entered<T> {
        let first = self.numbered;
        let new = || InHand { waiting: VecDeque::new(), working: None, answers: VecDeque::new(), first };
        let in_hand = self.keys.entry(key).or_insert_with(new);
        if in_hand.is_full() {
            return Entered::Full(task);
        }
        self.tasks += 1;
        self.bytes += bytes;
        if in_hand.waiting.is_empty() && in_hand.may_begin(alone) {
            in_hand.working = Some(bytes);
            return Entered::Now(task);
        }
        self.waiting += 1;
        in_hand.waiting.push_back(Waiting { task, alone, bytes });
        Entered::Later
    }

    /// Begins something ahead of the tasks that wait in a key. `false` if a task is being worked on or an answer is
    /// outstanding.
    pub(super) fn begin_alone(&mut self, key: Key) -> bool {
        let Some(in_hand) = self.keys.get_mut(&key).filter(|in_hand| in_hand.may_begin(true)) else { return false };
        in_hand.working = Some(0);
        self.tasks += 1;
        true
    }

    /// Ends the task being worked on, without an answer.
    pub(super) fn finish(&mut self, key: Key) {
        if let Some(bytes) = self.keys.get_mut(&key).and_then(|in_hand| in_hand.working.take()) {
            self.tasks -= 1;
            self.bytes -= bytes;
        }
    }

    /// Ends the work on a task and promises its answer. Returns the number by which the answer is given.
    pub(super) fn answer_later(&mut self, key: Key, to: W, by: Option<Instant>) -> u64 {
        let in_hand = self.keys.get_mut(&key).expect("a key with a task under way is here");
        let bytes = in_hand.working.take().expect("a task is worked on");
        in_hand.answers.push_back(ToCome { to, answer: None, by, bytes });
        self.numbered += 1;
        in_hand.first + in_hand.answers.len() as u64 - 1
    }

    /// Records an answer, and returns every answer of the key that is now due, in order. An answer that was already
    /// given up is ignored.
    pub(super) fn answered(&mut self, key: Key, number: u64, answer: A) -> Vec<(W, A)> {
        let Some(in_hand) = self.keys.get_mut(&key) else { return Vec::new() };
        let place = number.checked_sub(in_hand.first).and_then(|place| usize::try_from(place).ok());
        let Some(to_come) = place.and_then(|place| in_hand.answers.get_mut(place)) else { return Vec::new() };
        to_come.answer.get_or_insert(answer);
        let mut given = Vec::new();
        while in_hand.answers.front().is_some_and(|first| first.answer.is_some()) {
            let Some(ToCome { to, answer: Some(answer), bytes, .. }) = in_hand.answers.pop_front() else { break };
            in_hand.first += 1;
            self.tasks -= 1;
            self.bytes -= bytes;
            given.push((to, answer));
        }
        if in_hand.is_idle() {
            self.keys.remove(&key);
        }
        given
    }

    pub(super) fn overdue(&self, now: Instant) -> Vec<(Key, u64)> {
        let overdue = |to_come: &ToCome<W, A>| to_come.answer.is_none() && to_come.by.is_some_and(|by| by <= now);
        let of_key = |(key, in_hand): (&Key, &InHand<T, W, A>)| {
            let (key, numbers) = (*key, in_hand.first..);
            let of_key = numbers.zip(&in_hand.answers).filter(|(_, to_come)| overdue(to_come));
            of_key.map(|(number, _)| (key, number)).collect::<Vec<_>>()
        };
        self.keys.iter().flat_map(of_key).collect()
    }

    /// When the next answer becomes overdue.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        let to_come = self.keys.values().flat_map(|in_hand| &in_hand.answers);
        to_come.filter(|to_come| to_come.answer.is_none()).filter_map(|to_come| to_come.by).min()
    }

    /// Takes the next task of a key, if it may begin now.
    pub(super) fn next(&mut self, key: Key) -> Option<T> {
        let in_hand = self.keys.get_mut(&key)?;
        let is_next = in_hand.waiting.front().is_some_and(|next| in_hand.may_begin(next.alone));
        if is_next && let Some(Waiting { task, bytes, .. }) = in_hand.waiting.pop_front() {
            self.waiting -= 1;
            in_hand.working = Some(bytes);
            return Some(task);
        }
        if in_hand.is_idle() {
            self.keys.remove(&key);
        }
        None
    }

    /// Whether a task of this key would be refused.
    pub(super) fn is_full(&self, key: Key) -> bool {
        self.keys.get(&key).is_some_and(InHand::is_full)
    }

    pub(super) fn is_busy(&self, key: Key) -> bool {
        self.keys.contains_key(&key)
    }

    /// Whether the session may take in another frame.
    pub(super) fn have_room(&self) -> bool {
        self.tasks < TASKS && self.bytes < BYTES
    }

    /// Drops the tasks that have not begun. Those under way and outstanding answers stay.
    pub(super) fn give_up_waiting(&mut self) {
        for in_hand in self.keys.values_mut() {
            for given_up in in_hand.waiting.drain(..) {
                self.tasks -= 1;
                self.waiting -= 1;
                self.bytes -= given_up.bytes;
            }
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Whether no answer is outstanding.
    pub(super) fn is_answered(&self) -> bool {
        self.keys.values().all(|in_hand| in_hand.answers.is_empty())
    }
}

impl<T, W, A> InHand<T, W, A> {
    fn may_begin(&self, alone: bool) -> bool {
        self.working.is_none() && (!alone || self.answers.is_empty())
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.working.is_none() && self.answers.is_empty()
    }

    fn is_full(&self) -> bool {
        self.waiting.len() + usize::from(self.working.is_some()) + self.answers.len() >= MOST_OF_A_KEY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    type Texts = KeyedQueue<&'static str, (), &'static str>;

    fn key(number: u128) -> Key {
        Some(ChannelId(uuid::Uuid::from_u128(number)))
    }

    /// Finishes the task under way and begins the next one.
    fn on<A>(queue: &mut KeyedQueue<&'static str, (), A>, key: Key) -> Option<&'static str> {
        queue.finish(key);
        queue.next(key)
    }

    #[test]
    fn a_lane_has_one_task_under_way_and_the_others_do_not_wait_for_it() {
        let mut queue = Texts::new();
        assert_eq!(queue.enter(key(1), "a", false, 1), Entered::Now("a"));
        assert_eq!(queue.enter(key(1), "b", false, 1), Entered::Later);
        assert_eq!(queue.enter(key(2), "c", false, 1), Entered::Now("c"));
        assert_eq!(queue.enter(None, "d", true, 1), Entered::Now("d"));
        assert_eq!((queue.tasks, queue.bytes), (4, 4));
        assert_eq!(on(&mut queue, key(2)), None);
        assert_eq!(on(&mut queue, key(1)), Some("b"));
        assert_eq!(queue.enter(key(1), "e", false, 1), Entered::Later, "b is under way");
        assert_eq!(on(&mut queue, key(1)), Some("e"));
        assert_eq!(on(&mut queue, key(1)), None);
        assert!(!queue.is_busy(key(1)) && queue.is_busy(None));
        assert_eq!((queue.tasks, queue.bytes), (1, 1));
    }

    #[test]
    fn the_next_task_waits_for_no_answer_and_answers_keep_the_order() {
        let mut queue = Texts::new();
        queue.enter(key(1), "a", false, 1);
        let a = queue.answer_later(key(1), (), None);
        assert_eq!(queue.enter(key(1), "b", false, 1), Entered::Now("b"));
        let b = queue.answer_later(key(1), (), None);
        assert_eq!(queue.enter(key(1), "alone", true, 1), Entered::Later);
        assert_eq!(queue.enter(key(1), "c", false, 1), Entered::Later, "behind what goes alone");
        assert_eq!(queue.next(key(1)), None);
        assert!(!queue.begin_alone(key(1)));
        assert!(queue.answered(key(1), b, "B").is_empty());
        assert_eq!(queue.next(key(1)), None);
        assert_eq!(queue.answered(key(1), a, "A"), [((), "A"), ((), "B")]);
        assert!(queue.begin_alone(key(1)), "before what waits");
        assert_eq!(on(&mut queue, key(1)), Some("alone"));
        assert_eq!(on(&mut queue, key(1)), Some("c"));
        let c = queue.answer_later(key(1), (), None);
        assert_eq!(queue.answered(key(1), c, "C"), [((), "C")]);
        assert_eq!(queue.next(key(1)), None);
        assert!(queue.keys.is_empty() && (queue.tasks, queue.bytes) == (0, 0));
    }

    #[test]
    fn an_answer_that_comes_after_it_was_given_up_answers_no_later_frame() {
        let mut queue = Texts::new();
        let (now, later) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        queue.enter(key(1), "a", false, 1);
        let a = queue.answer_later(key(1), (), Some(now));
        queue.enter(key(1), "b", false, 1);
        let b = queue.answer_later(key(1), (), Some(later));
        assert_eq!(queue.next_overdue(), Some(now));
        assert_eq!(queue.overdue(now), [(key(1), a)]);
        assert_eq!(queue.answered(key(1), a, "given up"), [((), "given up")]);
        assert_eq!(queue.next_overdue(), Some(later));
        assert_eq!(queue.answered(key(1), b, "B"), [((), "B")]);
        assert!(!queue.is_busy(key(1)));

        queue.enter(key(1), "c", false, 1);
        let c = queue.answer_later(key(1), (), None);
        assert!(queue.answered(key(1), a, "A, late").is_empty(), "it is not the answer to c");
        assert_eq!(queue.answered(key(1), c, "C"), [((), "C")]);
    }

    /// Answers arrive in any order, twice, and after they were given up.
    #[test]
    fn whatever_comes_each_frame_has_one_answer_of_its_own_in_its_place() {
        let mut dice = Dice::new();
        let mut queue = KeyedQueue::<usize, usize, Option<usize>>::new();
        let (mut working, mut to_come, mut given) = (Vec::new(), Vec::new(), Vec::new());
        let mut entered = [const { Vec::new() }; 3];
        let mut task = 0;
        while task < 3_000 || !working.is_empty() || given.len() < task {
            match dice.roll(5) {
                0 | 1 if task < 3_000 => {
                    let place = dice.roll(3);
                    match queue.enter(key(place as u128), task, false, 1) {
                        Entered::Now(begun) => working.push((place, begun)),
                        Entered::Later => {}
                        Entered::Full(_) => continue,
                    }
                    entered[place].push(task);
                    task += 1;
                }
                2 => {
                    let Some((place, done)) = dice.take(&mut working) else { continue };
                    let number = queue.answer_later(key(place as u128), done, None);
                    to_come.push((place, number, done));
                    working.extend(queue.next(key(place as u128)).map(|next| (place, next)));
                }
                _ => {
                    let Some((place, number, done)) = dice.take(&mut to_come) else { continue };
                    let answer = if dice.roll(4) == 0 {
                        // Arrives later, when it is no longer wanted.
                        to_come.push((place, number, done));
                        None
                    } else {
                        Some(done)
                    };
                    given
                        .extend(queue.answered(key(place as u128), number, answer).into_iter().map(|all| (place, all)));
                }
            }
        }
        assert!(given.iter().all(|(_, (to, answer))| answer.is_none_or(|answer| answer == *to)), "each its own");
        for (place, entered) in entered.iter().enumerate() {
            let of_key = given.iter().filter(|(key, _)| *key == place).map(|(_, (to, _))| *to);
            assert!(of_key.eq(entered.iter().copied()), "each once and in order");
        }
        assert!(queue.keys.is_empty() && (queue.tasks, queue.bytes, queue.waiting) == (0, 0, 0));
    }

    #[test]
    fn tasks_and_answers_of_a_lane_and_of_a_session_are_bounded() {
        let mut queue = KeyedQueue::<usize, (), ()>::new();
        const WAITING: usize = 30;
        for task in 0..MOST_OF_A_KEY - WAITING - 1 {
            assert_eq!(queue.enter(key(1), task, false, 0), Entered::Now(task));
            queue.answer_later(key(1), (), None);
        }
        assert_eq!(queue.enter(key(1), 1, false, 0), Entered::Now(1));
        for task in 0..WAITING {
            assert!(queue.have_room() && !queue.is_full(key(1)));
            assert_eq!(queue.enter(key(1), task, false, 0), Entered::Later);
        }
        assert!(queue.is_full(key(1)));
        assert_eq!(queue.enter(key(1), 99, false, 0), Entered::Full(99));
        assert_eq!(queue.enter(key(2), 99, false, BYTES), Entered::Now(99));
        assert!(!queue.have_room(), "it has as many bytes in hand as it may");
        queue.finish(key(2));
        assert!(queue.have_room());
        for task in 0..TASKS - MOST_OF_A_KEY {
            queue.enter(key(3 + task as u128), task, false, 0);
        }
        assert!(!queue.have_room(), "and as many tasks");
        queue.give_up_waiting();
        assert_eq!(queue.tasks, TASKS - WAITING);
    }
}
