//! Someone who listens, and resumes where they were after each end of the connection.
//!
//! A broker that cannot resume says so (`recovered: false`); what is missing is then read as pages of history, which is
//! what clients do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::history::page_after;
use super::line::{self, Line};
use super::{Doors, MessageFrame, Shared};
use crate::{DEADLINE, Door, Member, list, number, text};

/// How long after a failed attempt the next one comes.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Reader {
    shared: Arc<Shared>,
    number: usize,
    member: Member,
    doors: Doors,
    attempts: usize,
    epoch: Option<String>,
    /// The last number that was heard.
    place: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, number: usize, member: &Member, doors: &Doors) -> Self {
        let (member, doors) = (member.clone(), doors.clone());
        Self { shared, number, member, doors, attempts: number, epoch: None, place: 0 }
    }

    /// Listens until the journal ends it.
    pub(super) async fn run(mut self) {
        loop {
            let door = self.doors.nth(self.attempts);
            self.attempts += 1;
            let joined = timeout(DEADLINE, self.join(&door)).await.ok().flatten();
            if let Some(line) = joined {
                self.shared.record().reader_connections += 1;
                let _ = self.listen(line).await;
            }
            sleep(PAUSE).await;
        }
    }

    /// Connects and hears everything up to the place from which the broker goes on by itself.
    async fn join(&mut self, door: &Door) -> Option<Line> {
        let mut line = Line::open(door, &self.member.token).await?;
        let mut subscribe = json!({"type": "subscribe", "channel": self.shared.channel.id, "id": "join"});
        if let Some(epoch) = &self.epoch {
            subscribe["since"] = json!({"epoch": epoch, "seq": self.place});
        }
        line.send(&subscribe).await?;
        loop {
            let frame = line::json(&line.next().await?);
            match text(&frame, "type") {
                "chat.message" => self.hear(&frame["message"]),
                "error" if frame["id"] == "join" => return None,
                "subscribed" => {
                    self.joined(&frame, door).await?;
                    return Some(line);
                }
                _ => {}
            }
        }
    }

    async fn joined(&mut self, subscribed: &Value, door: &Door) -> Option<()> {
        let (epoch, seq) = (text(subscribed, "epoch"), number(subscribed, "seq"));
        self.shared.record().numbering(epoch);
        self.epoch = Some(epoch.to_owned());
        if subscribed["recovered"] == true {
            let mut record = self.shared.record();
            record.recovered += 1;
            if self.place != seq {
                let (reader, place) = (self.number, self.place);
                record
                    .broke(format!("reader {reader}: told to have recovered up to {seq}, and had heard up to {place}"));
            }
            return Some(());
        }
        let missed = self.place < seq;
        while self.place < seq {
            let (status, page) =
                door.try_get(&page_after(&self.shared.channel, self.place), &self.member.token).await?;
            let results = (status == 200).then(|| list(&page, "results"))?;
            if results.is_empty() {
                let (reader, place) = (self.number, self.place);
                self.shared.record().broke(format!("reader {reader}: told of {seq}, and history ends at {place}"));
                return None;
            }
            for message in results.iter().filter(|message| number(message, "seq") <= seq) {
                self.hear(message);
            }
        }
        self.shared.record().filled += u64::from(missed);
        Some(())
    }

    async fn listen(&mut self, mut line: Line) -> Option<()> {
        loop {
            let frame = line::json(&line.next().await?);
            if frame["type"] == "chat.message" {
                self.hear(&frame["message"]);
            }
        }
    }

    fn hear(&mut self, message: &Value) {
        let said = MessageFrame::new(message);
        let mut record = self.shared.record();
        if said.seq != self.place + 1 {
            let (reader, place) = (self.number, self.place);
            record.broke(format!("reader {reader}: heard {} right after {place}", said.seq));
        }
        self.place = said.seq;
        record.heard[self.number].push((said, Instant::now()));
    }
}
