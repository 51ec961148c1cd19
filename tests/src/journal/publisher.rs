//! Someone who speaks: closed loop, a bounded number of messages under way, each said again until it is answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::line::{self, Line};
use super::{Doors, Pace, Phase, Sent, Shared};
use crate::{DEADLINE, Member, number, text};

/// How long after a failed attempt to connect the next one comes.
const PAUSE: Duration = Duration::from_millis(50);

/// How long after an error that says to try again a message is sent again.
const AGAIN: Duration = Duration::from_millis(200);

/// How long a socket may be silent while an answer is due; then it counts as dead.
const SILENCE: Duration = Duration::from_secs(30);

/// How every message of others begins. They are many, and not looked at.
const OTHERS: &str = r#"{"type":"chat.message""#;

pub(super) struct Publisher {
    shared: Arc<Shared>,
    number: usize,
    member: Member,
    doors: Doors,
    pace: Pace,
    said: u64,
    attempts: usize,
    waiting: VecDeque<Waiting>,
    /// When the rest after the last answer is over.
    rested: Instant,
}

/// A message without an answer.
struct Waiting {
    id: String,
    sent: Instant,
    /// When it is to be sent again, after an error that said so.
    again: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, number: usize, member: &Member, doors: &Doors, pace: Pace) -> Self {
        let (member, doors, waiting) = (member.clone(), doors.clone(), VecDeque::new());
        Self { shared, number, member, doors, pace, said: 0, attempts: number, waiting, rested: Instant::now() }
    }

    /// Speaks until the journal is stopping and everything said is answered.
    pub(super) async fn run(mut self) {
        while !(self.shared.phase() == Phase::End && self.waiting.is_empty()) {
            match timeout(DEADLINE, self.connect()).await.ok().flatten() {
                Some(line) => {
                    self.shared.record().publisher_connections += 1;
                    // Ends when the connection does, or when there is nothing left to say.
                    let _ = self.talk(line).await;
                }
                None => sleep(PAUSE).await,
            }
        }
    }

    async fn connect(&mut self) -> Option<Line> {
        let door = self.doors.nth(self.attempts);
        self.attempts += 1;
        let mut line = Line::open(&door, &self.member.token).await?;
        line.send(&json!({"type": "subscribe", "channel": self.shared.channel.id})).await?;
        loop {
            let frame = line::json(&line.next().await?);
            match text(&frame, "type") {
                "subscribed" => return Some(line),
                "error" => return None,
                _ => {}
            }
        }
    }

    async fn talk(&mut self, mut line: Line) -> Option<()> {
        for waiting in &mut self.waiting {
            waiting.again = Some(Instant::now());
        }
        let mut phase = self.shared.phase.subscribe();
        loop {
            self.send_what_is_due(&mut line).await?;
            if self.waiting.is_empty() && self.shared.phase() == Phase::End {
                return None;
            }
            let due = self.next_due();
            let text = tokio::select! {
                heard = timeout(SILENCE, line.next()) => match heard {
                    Ok(text) => text?,
                    Err(_) if self.waiting.is_empty() => continue,
                    Err(_) => return None,
                },
                () = sleep_until(due.unwrap_or(self.rested)), if due.is_some() => continue,
                _ = phase.changed() => continue,
            };
            if !text.starts_with(OTHERS) {
                self.hear(&line::json(&text));
            }
        }
    }

    async fn send_what_is_due(&mut self, line: &mut Line) -> Option<()> {
        for waiting in &mut self.waiting {
            if waiting.again.is_some_and(|due| due <= Instant::now()) {
                waiting.again = None;
                waiting.sent = Instant::now();
                line.send(&frame(&self.shared, &waiting.id)).await?;
            }
        }
        while self.may_speak() && self.rested <= Instant::now() {
            self.said += 1;
            let id = format!("{}-{}-{}", self.shared.name, self.number, self.said);
            self.shared.record().sent.insert(id.clone(), Sent::Unknown);
            let frame = frame(&self.shared, &id);
            self.waiting.push_back(Waiting { id, sent: Instant::now(), again: None });
            line.send(&frame).await?;
        }
        Some(())
    }

    fn next_due(&self) -> Option<Instant> {
        let again = self.waiting.iter().filter_map(|waiting| waiting.again);
        again.chain(self.may_speak().then_some(self.rested)).min()
    }

    fn may_speak(&self) -> bool {
        self.waiting.len() < self.pace.in_flight && self.shared.phase() == Phase::Speak
    }

    fn hear(&mut self, answer: &Value) {
        let Some(at) = self.waiting.iter().position(|waiting| answer["id"] == waiting.id.as_str()) else { return };
        match self.note(&self.waiting[at], answer) {
            None => self.waiting[at].again = Some(Instant::now() + AGAIN),
            Some(outcome) => {
                if let Some(answered) = self.waiting.remove(at) {
                    self.shared.record().sent.insert(answered.id, outcome);
                }
                self.rested = Instant::now() + self.pace.rest;
            }
        }
    }

    /// Writes an answer down. None: it is to be tried again.
    fn note(&self, waiting: &Waiting, answer: &Value) -> Option<Sent> {
        let mut record = self.shared.record();
        record.slowest_answer = record.slowest_answer.max(waiting.sent.elapsed());
        if answer["retryable"] == true {
            record.retries[self.number] += 1;
            return None;
        }
        if answer["type"] == "error" {
            record.refused += 1;
            return Some(Sent::Refused(number(answer, "code")));
        }
        let seq = number(answer, "seq");
        record.numbering(text(answer, "epoch"));
        record.acked[self.number] += 1;
        record.acks.push(waiting.sent.elapsed());
        record.acked_up_to = record.acked_up_to.max(seq);
        let message = text(answer, "message_id").to_owned();
        Some(Sent::Acked { message, seq, duplicate: answer["duplicate"] == true, at: Instant::now() })
    }
}

fn frame(shared: &Shared, id: &str) -> Value {
    json!({"type": "chat.message", "channel": shared.channel.id, "id": id, "message": id})
}
