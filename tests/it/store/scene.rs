//! A tenant with people who talk, for cases that would rather say that than spell out commits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use switchboard::model::{
    Amendment, ChannelId, Clock, Draft, KvWrite, Message, MessageId, PluginName, ReadUpTo, Role, TenantSlug, Timestamp,
    TokenId, User,
};
use switchboard::store::{
    Bearer, Commit, Committed, KnownBearer, NewChannel, Outcome, Receipt, RefreshUse, Span, Store, Successor,
};

use super::backing::Backing;

/// A tenant in a store, and a clock that stands still.
#[derive(Clone)]
pub(crate) struct Scene {
    pub store: Arc<dyn Store>,
    pub tenant: TenantSlug,
    pub clock: Clock,
}

impl Scene {
    /// Opens the store and makes a tenant in it.
    pub(crate) async fn new(backing: &Backing) -> Self {
        Self::of(backing.open().await, "acme").await
    }

    /// Makes a tenant in a store.
    pub(crate) async fn of(store: Arc<dyn Store>, slug: &str) -> Self {
        let scene = Self { store, tenant: slug.parse().unwrap(), clock: Clock::manual(START) };
        scene.store.create_tenant(&scene.tenant, None, START).await.unwrap().expect("the slug is free");
        scene
    }

    /// Makes a member; the id is the name.
    pub(crate) async fn member(&self, name: &str) -> User {
        let user = user(name, name);
        assert!(self.store.create_member(&self.tenant, &user, None, self.clock.now()).await.unwrap());
        user
    }

    /// Uses a refresh token.
    pub(crate) async fn spend(&self, jti: &str, family: &str, now: Timestamp) -> Option<Successor> {
        self.store.spend_refresh(&self.tenant, &used(jti, family, now)).await.unwrap()
    }

    /// What the store knows of somebody with a token.
    pub(crate) async fn known(&self, user: &User, token: &TokenId) -> Option<KnownBearer> {
        let bearer = Bearer { user: user.id.clone(), token: token.clone() };
        self.store.bearers(&self.tenant, &[bearer]).await.unwrap().remove(0)
    }

    pub(crate) async fn may_enter(&self, user: &User, token: &TokenId) -> bool {
        let tenant = self.store.tenant(&self.tenant).await.unwrap().unwrap();
        self.known(user, token).await.unwrap().may_enter(token, tenant.tokens_since)
    }

    pub(crate) async fn revision(&self) -> u64 {
        self.store.tenant(&self.tenant).await.unwrap().unwrap().revision
    }

    /// Makes a channel of some members, the first of whom owns it.
    pub(crate) async fn channel(&self, members: &[&User]) -> ChannelId {
        let id = ChannelId(self.clock.uuid());
        assert!(self.store.create_channel(&self.tenant, &self.new_channel(id, members)).await.unwrap());
        id
    }

    /// The same, yet to be made.
    pub(crate) fn new_channel(&self, id: ChannelId, members: &[&User]) -> NewChannel {
        let role = |place| if place == 0 { Role::Owner } else { Role::Member };
        NewChannel {
            id,
            name: "lobby".into(),
            epoch: "e1".parse().unwrap(),
            members: members.iter().enumerate().map(|(place, user)| (user.id.clone(), role(place))).collect(),
            at: self.clock.now(),
        }
    }

    /// A commit of one message.
    pub(crate) fn saying(&self, channel: ChannelId, sender: &User, text: &str) -> Commit {
        let drafts = vec![(MessageId(self.clock.uuid()), draft(text))];
        Commit { drafts, ..self.nothing(channel, sender) }
    }

    /// A commit of one read mark.
    pub(crate) fn reading(&self, channel: ChannelId, sender: &User, message: MessageId) -> Commit {
        Commit { reads: vec![mark(message)], ..self.nothing(channel, sender) }
    }

    /// A commit of nothing yet.
    pub(crate) fn nothing(&self, channel: ChannelId, sender: &User) -> Commit {
        let (drafts, reads) = (Vec::new(), Vec::new());
        Commit {
            channel,
            sender: sender.clone(),
            request: None,
            drafts,
            reads,
            amendments: Vec::new(),
            kv: None,
            at: self.clock.now(),
        }
    }

    /// Commits.
    pub(crate) async fn commit(&self, commit: &Commit) -> Outcome {
        self.batch(std::slice::from_ref(commit)).await.remove(0)
    }

    /// Commits several at once.
    pub(crate) async fn batch(&self, batch: &[Commit]) -> Vec<Outcome> {
        let outcomes = self.store.commit(&self.tenant, batch).await.unwrap();
        assert_eq!(outcomes.len(), batch.len(), "one outcome for each commit");
        outcomes
    }

    /// Commits what must succeed.
    pub(crate) async fn done(&self, commit: &Commit) -> Committed {
        done(self.commit(commit).await)
    }

    /// Says something and returns the message.
    pub(crate) async fn say(&self, channel: ChannelId, sender: &User, text: &str) -> Message {
        self.done(&self.saying(channel, sender, text)).await.messages.remove(0)
    }

    /// Reads up to a message.
    pub(crate) async fn read(&self, channel: ChannelId, sender: &User, message: MessageId) {
        self.done(&self.reading(channel, sender, message)).await;
    }

    /// The newest hundred messages.
    pub(crate) async fn history(&self, channel: ChannelId) -> Vec<Message> {
        self.store.messages(&self.tenant, channel, Span::Latest, 100).await.unwrap()
    }

    /// The channel's last number.
    pub(crate) async fn seq(&self, channel: ChannelId) -> u64 {
        self.store.channel(&self.tenant, channel).await.unwrap().expect("the channel is there").seq
    }
}

/// When every scene begins; not a whole second, so that lost milliseconds show.
pub(crate) const START: Timestamp = Timestamp(1_767_323_045_678);

/// An hour later.
pub(crate) fn hours(count: u64) -> Timestamp {
    START.plus(Duration::from_secs(count * 3_600))
}

pub(crate) fn user(id: &str, username: &str) -> User {
    User { id: id.parse().unwrap(), username: username.parse().unwrap() }
}

pub(crate) fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(serde_json::to_string(text).unwrap()).unwrap()
}

pub(crate) fn draft(text: &str) -> Draft {
    let attachments = RawValue::from_string("[]".into()).unwrap();
    Draft { kind: "chat.message".parse().unwrap(), content: json(text), reply_to: None, attachments }
}

pub(crate) fn mark(message: MessageId) -> ReadUpTo {
    ReadUpTo { kind: "message.read".parse().unwrap(), message }
}

/// A change of a message to a text; `None` deletes it.
pub(crate) fn amending(message: MessageId, text: Option<&str>) -> Amendment {
    Amendment { message, content: text.map(json) }
}

pub(crate) fn plugin(name: &str) -> PluginName {
    name.parse().unwrap()
}

pub(crate) fn put(key: &str, value: &str) -> KvWrite {
    KvWrite { key: key.into(), value: Some(value.into()), expires_at: None, expected: None }
}

pub(crate) fn removal(key: &str) -> KvWrite {
    KvWrite { value: None, ..put(key, "") }
}

/// The commit under an idempotency key.
pub(crate) fn keyed(commit: Commit, key: &str, digest: u8) -> Commit {
    Commit { request: Some((key.parse().unwrap(), [digest; 32])), ..commit }
}

pub(crate) fn done(outcome: Outcome) -> Committed {
    match outcome {
        Outcome::Done(committed) => committed,
        other => panic!("not done: {other:?}"),
    }
}

pub(crate) fn duplicate(outcome: Outcome) -> Receipt {
    match outcome {
        Outcome::Duplicate(receipt) => receipt,
        other => panic!("no duplicate: {other:?}"),
    }
}

pub(crate) fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

pub(crate) fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| serde_json::from_str(message.content.get()).unwrap()).collect()
}

/// The use of a refresh token for one that nothing else names.
pub(crate) fn used<'a>(jti: &'a str, family: &'a str, now: Timestamp) -> RefreshUse<'a> {
    let successor = Box::leak(Clock::system().uuid().to_string().into_boxed_str());
    RefreshUse { jti, family, successor, expires_at: hours(24), now }
}
