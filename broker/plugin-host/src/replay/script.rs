//! Answers host reads during a replay: from the recording, or else from what earlier events wrote.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::contract::host_data::{HostData, Unavailable};
use crate::recording::recorded::{Call, Read, RecordedEntry, RecordedMessage};
use switchboard_model::{
    ChannelKey, KvEntry, KvWrite, Message, MessageId, PluginName, TenantSlug, Timestamp, User, UserId,
};

/// The host's answers, one event at a time.
#[derive(Debug, Default)]
pub(crate) struct Script(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Time of the current event, in milliseconds.
    now: i64,
    reads: Vec<Option<Read>>,
    asked: u32,
    unrecorded: u32,
    keys: BTreeMap<TenantSlug, BTreeMap<String, Kept>>,
}

#[derive(Debug)]
struct Kept {
    value: Vec<u8>,
    version: u64,
    expires_at: Option<Timestamp>,
}

impl Script {
    /// Starts an event with its recorded answers.
    pub(crate) fn begin(&self, now: Timestamp, reads: &[Read]) {
        let mut state = self.0.lock();
        state.now = now.0;
        state.reads = reads.iter().cloned().map(Some).collect();
        (state.asked, state.unrecorded) = (0, 0);
    }

    /// Host reads of the current event, and how many of them had no recorded answer.
    pub(crate) fn asked(&self) -> (u32, u32) {
        let state = self.0.lock();
        (state.asked, state.unrecorded)
    }

    /// Applies an event's writes, all or none. The error is the key whose version did not match.
    pub(crate) fn write(&self, tenant: &TenantSlug, writes: &[&KvWrite]) -> Result<(), String> {
        let mut state = self.0.lock();
        let now = Timestamp(state.now);
        let keys = state.keys.entry(tenant.clone()).or_default();
        keys.retain(|_, kept| kept.expires_at.is_none_or(|end| end > now));
        let moved = writes.iter().find(|write| {
            let version = keys.get(&write.key).map_or(0, |kept| kept.version);
            write.expected.is_some_and(|expected| expected != version)
        });
        if let Some(write) = moved {
            return Err(write.key.clone());
        }
        for write in writes {
            let version = keys.get(&write.key).map_or(0, |kept| kept.version) + 1;
            if let Some(value) = write.value.clone() {
                keys.insert(write.key.clone(), Kept { value, version, expires_at: write.expires_at });
            } else {
                keys.remove(&write.key);
            }
        }
        Ok(())
    }

    /// Takes the recorded answer to a call: the one with the same arguments, or else the next one of that call.
    fn recorded<T: DeserializeOwned>(&self, call: Call, arguments: &Value) -> Option<Result<T, Unavailable>> {
        let mut state = self.0.lock();
        state.asked += 1;
        let of_call = |read: &&mut Option<Read>| read.as_ref().is_some_and(|read| read.call == call);
        let same = |read: &&mut Option<Read>| {
            read.as_ref().is_some_and(|read| read.call == call && read.arguments == *arguments)
        };
        let found = match state.reads.iter_mut().find(same) {
            Some(read) => read.take(),
            None => state.reads.iter_mut().find(of_call).and_then(Option::take),
        };
        match found {
            Some(read) => Some(read.answer.and_then(|answer| serde_json::from_value(answer).ok()).ok_or(Unavailable)),
            None => {
                state.unrecorded += 1;
                None
            }
        }
    }
}

#[async_trait]
impl HostData for Script {
    async fn recent(&self, channel: &ChannelKey, before: Option<u64>, limit: u32) -> Result<Vec<Message>, Unavailable> {
        let arguments = json!({ "before": before, "limit": limit });
        let recorded = self.recorded::<Vec<RecordedMessage>>(Call::Recent, &arguments);
        let messages = recorded.unwrap_or_else(|| Ok(Vec::new()))?;
        Ok(messages.iter().map(|message| message.message(channel.channel)).collect())
    }

    async fn message(&self, channel: &ChannelKey, id: MessageId) -> Result<Option<Message>, Unavailable> {
        let recorded = self.recorded::<Option<RecordedMessage>>(Call::Message, &json!({ "message_id": id }));
        let message = recorded.unwrap_or(Ok(None))?;
        Ok(message.map(|message| message.message(channel.channel)))
    }

    async fn members(&self, _: &ChannelKey, after: Option<&UserId>, limit: u32) -> Result<Vec<User>, Unavailable> {
        let arguments = json!({ "after": after, "limit": limit });
        self.recorded(Call::Members, &arguments).unwrap_or_else(|| Ok(Vec::new()))
    }

    async fn contains(&self, _: &ChannelKey, user: &UserId) -> Result<bool, Unavailable> {
        self.recorded(Call::Contains, &json!({ "user_id": user })).unwrap_or(Ok(false))
    }

    async fn online(&self, _: &ChannelKey, _: usize) -> Result<Vec<User>, Unavailable> {
        self.recorded(Call::Online, &json!({})).unwrap_or_else(|| Ok(Vec::new()))
    }

    async fn kv_get(&self, tenant: &TenantSlug, _: &PluginName, key: &str) -> Result<Option<KvEntry>, Unavailable> {
        let recorded = self.recorded::<Option<RecordedEntry>>(Call::KvGet, &json!({ "key": key }));
        match recorded {
            Some(answer) => {
                let entry = answer?.map(KvEntry::from);
                self.0.lock().learn(tenant, key, entry.as_ref());
                Ok(entry)
            }
            None => Ok(self.0.lock().entries(tenant).find(|entry| entry.key == key)),
        }
    }

    async fn kv_list(
        &self,
        tenant: &TenantSlug,
        _: &PluginName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KvEntry>, Unavailable> {
        let arguments = json!({ "prefix": prefix, "after": after, "limit": limit });
        if let Some(answer) = self.recorded::<Vec<RecordedEntry>>(Call::KvPage, &arguments) {
            let entries: Vec<KvEntry> = answer?.into_iter().map(Into::into).collect();
            for entry in &entries {
                self.0.lock().learn(tenant, &entry.key, Some(entry));
            }
            return Ok(entries);
        }
        let state = self.0.lock();
        let later = |key: &str| after.is_none_or(|after| key > after);
        let entries = state.entries(tenant).filter(|entry| entry.key.starts_with(prefix) && later(&entry.key));
        Ok(entries.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
    }
}

impl State {
    /// Sets a key to its recorded state, so that a write which expects that version succeeds.
    fn learn(&mut self, tenant: &TenantSlug, key: &str, entry: Option<&KvEntry>) {
        let keys = self.keys.entry(tenant.clone()).or_default();
        match entry {
            Some(KvEntry { value, version, .. }) => {
                keys.insert(key.to_owned(), Kept { value: value.clone(), version: *version, expires_at: None });
            }
            None => {
                keys.remove(key);
            }
        }
    }

    fn entries(&self, tenant: &TenantSlug) -> impl Iterator<Item = KvEntry> {
        let now = Timestamp(self.now);
        let keys = self.keys.get(tenant).into_iter().flatten();
        keys.filter(move |(_, kept)| kept.expires_at.is_none_or(|end| end > now)).map(|(key, kept)| KvEntry {
            key: key.clone(),
            value: kept.value.clone(),
            version: kept.version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> ChannelKey {
        ChannelKey { tenant: "demo".parse().unwrap(), channel: switchboard_model::ChannelId(uuid::Uuid::nil()) }
    }

    #[tokio::test]
    async fn what_was_recorded_of_the_same_question_goes_first() {
        let script = Script::default();
        let read = |user: &str, answer: Option<Value>| Read {
            call: Call::Contains,
            arguments: json!({ "user_id": user }),
            answer,
        };
        script.begin(Timestamp(0), &[read("1", Some(json!(true))), read("2", Some(json!(false))), read("3", None)]);
        let ask = async |user: &str| script.contains(&channel(), &user.parse().unwrap()).await;
        assert_eq!(ask("2").await, Ok(false));
        assert_eq!(ask("9").await, Ok(true), "the next one, for another question");
        assert_eq!(ask("3").await, Err(Unavailable));
        assert_eq!(ask("3").await, Ok(false), "nothing is left");
        assert_eq!(script.asked(), (4, 1));
    }

    #[tokio::test]
    async fn keys_are_there_for_the_next_event_until_they_end() {
        let (script, tenant, plugin) = (Script::default(), "demo".parse().unwrap(), "poll".parse().unwrap());
        let put = |value: &str, expected| KvWrite {
            key: "k".to_owned(),
            value: Some(value.into()),
            expires_at: Some(Timestamp(10)),
            expected,
        };
        script.begin(Timestamp(0), &[]);
        assert_eq!(script.write(&tenant, &[&put("one", Some(0))]), Ok(()));
        assert_eq!(script.write(&tenant, &[&put("two", Some(0))]), Err("k".to_owned()));
        script.begin(Timestamp(9), &[]);
        let kept = script.kv_get(&tenant, &plugin, "k").await.unwrap().unwrap();
        assert_eq!((kept.value.as_slice(), kept.version), (b"one".as_slice(), 1));
        assert_eq!(script.kv_list(&tenant, &plugin, "", None, 9).await.unwrap(), [kept]);
        assert!(script.kv_list(&tenant, &plugin, "", Some("k"), 9).await.unwrap().is_empty());
        script.begin(Timestamp(10), &[]);
        assert_eq!(script.kv_get(&tenant, &plugin, "k").await, Ok(None));

        // A recording that begins after the key was written.
        let answer = Some(json!({ "key": "k", "value": "seven", "version": 7 }));
        script.begin(Timestamp(11), &[Read { call: Call::KvGet, arguments: json!({ "key": "k" }), answer }]);
        assert_eq!(script.kv_get(&tenant, &plugin, "k").await.unwrap().unwrap().version, 7);
        assert_eq!(script.write(&tenant, &[&put("eight", Some(6))]), Err("k".to_owned()));
        let eight = KvWrite { expires_at: None, ..put("eight", Some(7)) };
        assert_eq!(script.write(&tenant, &[&eight]), Ok(()));
    }
}
