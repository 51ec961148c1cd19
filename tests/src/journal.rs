//! A channel under load, and what must be true of it afterwards whatever broke meanwhile.
//!
//! Publishers say things over real sockets, each thing under an id of its own, and say it again under that id until it is
//! answered. Readers listen, connect again when they are cut off, and resume where they were. All of it is written down,
//! and [`Journal::verify`] holds it against the stored history. Nothing here knows what is done to the broker meanwhile.

mod figures;
mod history;
mod line;
mod publisher;
mod reader;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::{Channel, Door, Goal, Member, figure, unique};

pub use figures::Figures;
pub use history::{MessageFrame, history};
use publisher::Publisher;
use reader::Reader;

/// How long after a fault has healed the live streams are to equal the stored history, on a machine that does nothing
/// else: the broker compares them every two seconds at most, and then reads what is missing.
pub const HEALS_WITHIN: Goal<Duration> = Goal::AtMost(Duration::from_secs(5));

/// How long anything may take that must happen. Publishers wait for their answers, readers connect again, and all of it
/// is a matter of seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a state is looked at that somebody waits for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The doors of a cluster, as its clients know them. A clone is the same list.
#[derive(Debug, Clone)]
pub struct Doors(Arc<Mutex<Vec<Door>>>);

impl Doors {
    /// These doors; clients that lose one go to the next.
    pub fn new<'a>(doors: impl IntoIterator<Item = &'a Door>) -> Self {
        Self(Arc::new(Mutex::new(doors.into_iter().cloned().collect())))
    }

    /// Puts the door of a node that was started again in its place.
    pub fn replace(&self, place: usize, door: &Door) {
        locked(&self.0)[place] = door.clone();
    }

    /// The door for a client's nth attempt.
    pub fn nth(&self, attempt: usize) -> Door {
        let doors = locked(&self.0);
        doors[attempt % doors.len()].clone()
    }
}

/// How hard a publisher works.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many messages may wait for their answer.
    pub in_flight: usize,
    /// How long it rests after an answer.
    pub rest: Duration,
}

impl Pace {
    /// As fast as answers come.
    pub const FULL: Self = Self { in_flight: 4, rest: Duration::ZERO };

    /// About fifty messages a second.
    pub const STEADY: Self = Self { in_flight: 1, rest: Duration::from_millis(20) };
}

/// One channel, those who speak in it and those who listen. Dropping it ends them.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    publishers: JoinSet<()>,
    readers: JoinSet<()>,
}

/// What publishers and readers write down, and what they are told.
#[derive(Debug)]
struct Shared {
    channel: Channel,
    /// Begins every text of this journal and no other's.
    name: String,
    record: Mutex<Record>,
    phase: watch::Sender<Phase>,
}

/// What publishers are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Speak,
    /// Say nothing new for now.
    Rest,
    /// End when everything is answered.
    End,
}

#[derive(Debug, Default)]
struct Record {
    /// What was said, by its id, which is its text as well.
    sent: BTreeMap<String, Sent>,
    /// What each reader heard, and when, in the order in which it did.
    heard: Vec<Vec<(MessageFrame, Instant)>>,
    epoch: Option<String>,
    /// For each publisher, the messages that were acked.
    acked: Vec<u64>,
    refused: u64,
    /// The highest number that was acked.
    acked_up_to: u64,
    slowest_answer: Duration,
    /// How long each ack took from the last time its message was sent.
    acks: Vec<Duration>,
    /// For each publisher, the errors that said to try again.
    retries: Vec<u64>,
    publisher_connections: u64,
    reader_connections: u64,
    recovered: u64,
    filled: u64,
    /// Rules that were seen to break, in words.
    broken: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sent {
    /// No answer yet.
    Unknown,
    Acked {
        message: String,
        seq: u64,
        duplicate: bool,
        at: Instant,
    },
    /// For good, with this error code.
    Refused(u64),
}

impl Journal {
    /// Begins with a channel in which nothing was said.
    pub fn of(channel: &Channel) -> Self {
        let shared = Shared {
            channel: channel.clone(),
            name: format!("{}-{}", channel.name, unique()),
            record: Mutex::default(),
            phase: watch::channel(Phase::Speak).0,
        };
        Self { shared: Arc::new(shared), publishers: JoinSet::new(), readers: JoinSet::new() }
    }

    /// Adds someone who speaks until [`Journal::verify`]. Publishers begin at different doors.
    pub fn publisher(&mut self, member: &Member, doors: &Doors, pace: Pace) {
        let mut record = self.shared.record();
        let number = record.retries.len();
        record.acked.push(0);
        record.retries.push(0);
        drop(record);
        let publisher = Publisher::new(Arc::clone(&self.shared), number, member, doors, pace);
        self.publishers.spawn(publisher.run());
    }

    /// Adds someone who listens.
    pub fn reader(&mut self, member: &Member, doors: &Doors) {
        let mut record = self.shared.record();
        let number = record.heard.len();
        record.heard.push(Vec::new());
        drop(record);
        let reader = Reader::new(Arc::clone(&self.shared), number, member, doors);
        self.readers.spawn(reader.run());
    }

    /// How many messages were acked.
    pub fn acked(&self) -> u64 {
        self.shared.record().acked()
    }

    /// The highest `seq` that was acked.
    pub fn acked_up_to(&self) -> u64 {
        self.shared.record().acked_up_to
    }

    /// How many errors said to try again.
    pub fn retries(&self) -> u64 {
        self.shared.record().retries.iter().sum()
    }

    /// Waits until so many more messages were acked.
    ///
    /// # Panics
    /// When no ack comes for as long as the publishers may wait for one.
    pub async fn acks(&self, more: u64) {
        let mut seen = self.acked();
        let wanted = seen + more;
        while seen < wanted {
            let name = &self.shared.name;
            let what = || format!("{name}: {seen} messages of {wanted} were acked, and then no more");
            self.until(what, |record| record.acked() > seen).await;
            seen = self.acked();
        }
    }

    /// Waits until every publisher has so many more acks, hence until they go on at every node.
    ///
    /// # Panics
    /// When they do not come for as long as a publisher may wait for an answer.
    pub async fn acks_each(&self, more: u64) {
        let before = self.shared.record().acked.clone();
        let acked = |record: &Record| record.acked.iter().zip(&before).all(|(now, before)| *now >= before + more);
        self.until(|| format!("not every publisher had {more} acks"), acked).await;
    }

    /// Waits until every publisher was told to try again, hence has had each answer that was on its way before. It holds
    /// for publishers with one message in flight.
    ///
    /// # Panics
    /// When one of them hears nothing for as long as it may wait for an answer.
    pub async fn refusals(&self) {
        let before = self.shared.record().retries.clone();
        let refused = |record: &Record| record.retries.iter().zip(&before).all(|(now, before)| now > before);
        self.until(|| "not every publisher was told to try again".to_owned(), refused).await;
    }

    /// Has the publishers say nothing new until [`Journal::go_on`], and waits for their answers.
    ///
    /// # Panics
    /// When they wait in vain.
    pub async fn rest(&self) {
        self.shared.phase.send_replace(Phase::Rest);
        let answered = |record: &Record| record.acked() + record.refused == record.sent.len() as u64;
        self.until(|| "not everything was answered".to_owned(), answered).await;
    }

    /// Has the publishers speak again.
    pub fn go_on(&self) {
        self.shared.phase.send_replace(Phase::Speak);
    }

    async fn until(&self, what: impl Fn() -> String, holds: impl Fn(&Record) -> bool) {
        let (begun, mut look) = (Instant::now(), interval(LOOK_EVERY));
        while !holds(&self.shared.record()) {
            assert!(begun.elapsed() < PATIENCE, "{}", what());
            look.tick().await;
        }
    }

    /// Waits until every reader has heard everything that was acked when this is called, and says how long that took
    /// from the moment at which the fault was healed.
    ///
    /// # Panics
    /// When they hear nothing more, or took longer than [`HEALS_WITHIN`] where figures are held to their goals.
    pub async fn caught_up(&self, healed: Instant) -> Duration {
        let up_to = self.acked_up_to();
        let took = self.heard_up_to(up_to, healed).await;
        figure("live equalled history after", took, HEALS_WITHIN);
        took
    }

    async fn heard_up_to(&self, seq: u64, healed: Instant) -> Duration {
        let places = || -> Vec<u64> {
            let record = self.shared.record();
            record.heard.iter().map(|heard| heard.last().map_or(0, |(said, _)| said.seq)).collect()
        };
        let mut look = interval(LOOK_EVERY);
        while places().iter().any(|place| *place < seq) {
            let broken = &self.shared.record().broken.clone();
            assert!(broken.is_empty(), "{broken:#?}");
            let late = healed.elapsed();
            assert!(late < PATIENCE, "{late:?} after healing the readers are at {:?}, not all at {seq}", places());
            look.tick().await;
        }
        healed.elapsed()
    }

    /// Has the publishers say nothing new. They still wait for their answers.
    pub fn stop(&self) {
        self.shared.phase.send_replace(Phase::End);
    }

    /// Has the publishers say nothing new, waits for their answers, and holds what was acked and what was heard against
    /// the stored history: every acked message is stored once, at its place, under its id; nothing is stored twice or was
    /// never said; numbers have no gap; every reader heard exactly the history. How long that took is a [`figure`].
    ///
    /// # Panics
    /// When any of that is not so.
    pub async fn verify(mut self, member: &Member) -> Figures {
        self.stop();
        let last_answers = async {
            while let Some(ended) = self.publishers.join_next().await {
                ended.expect("a publisher does not fail");
            }
        };
        // Those that wait in vain leave unknown outcomes behind, which the figures count.
        let _ = timeout(PATIENCE, last_answers).await;
        self.publishers.shutdown().await;

        let caught_up = self.caught_up(Instant::now()).await;
        let stored = history(member, &self.shared.channel).await;
        // What was stored and never acked is to be heard, too.
        self.heard_up_to(stored.len() as u64, Instant::now()).await;
        self.readers.shutdown().await;
        let record = std::mem::take(&mut *self.shared.record());
        let figures = figures::check(&self.shared.name, &record, &stored, caught_up);
        figures.unwrap_or_else(|broken| panic!("{}:\n{}", self.shared.name, broken.join("\n")))
    }
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        locked(&self.record)
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }
}

impl Record {
    fn acked(&self) -> u64 {
        self.acked.iter().sum()
    }

    fn broke(&mut self, rule: String) {
        self.broken.push(rule);
    }

    /// Every answer of a channel names the same numbering.
    fn numbering(&mut self, epoch: &str) {
        match &self.epoch {
            None => self.epoch = Some(epoch.to_owned()),
            Some(known) if known == epoch => {}
            Some(known) => {
                let rule = format!("the epoch changed from {known} to {epoch}");
                self.broke(rule);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
