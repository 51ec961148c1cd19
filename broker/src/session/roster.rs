//! Keeps hub, bus, presence and the other members consistent about who is in which channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use crate::model::{ChannelKey, Kind, SessionId, User};
use crate::presence::Presence;
use crate::relay::Relay;
use crate::router::Router;

/// Where a session's coming and going is recorded and announced.
#[derive(Clone)]
pub struct Roster {
    pub relay: Arc<Relay>,
    pub presence: Arc<dyn Presence>,
    pub router: Arc<Router>,
    /// The kind of notice sent when a member joins a channel.
    pub joined: Kind,
    /// The kind of notice sent when a member leaves a channel.
    pub left: Kind,
}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").finish_non_exhaustive()
    }
}

/// A session's membership of a channel, created before it is recorded anywhere. If it is dropped without having ended,
/// as after a panic, a task of its own removes the session.
pub(super) struct Attendance {
    roster: Arc<Roster>,
    key: ChannelKey,
    user: User,
    session: SessionId,
    has_ended: AtomicBool,
}

impl Attendance {
    pub(super) fn new(roster: &Arc<Roster>, key: &ChannelKey, user: &User, session: SessionId) -> Self {
        let (roster, key, user) = (Arc::clone(roster), key.clone(), user.clone());
        Self { roster, key, user, session, has_ended: AtomicBool::new(false) }
    }

    pub(super) async fn announce(&self) {
        let Self { roster, key, user, session, .. } = self;
        roster.router.notify(key, &roster.joined, user, *session).await;
    }

    /// Removes the session, and announces the member's departure if it was the last one.
    pub(super) async fn leave(&self) {
        leave(&self.roster, &self.key, &self.user, self.session).await;
        self.end();
    }

    /// Removes the session before anybody has heard of it.
    pub(super) async fn withdraw(&self) {
        let Self { roster, key, user, session, .. } = self;
        roster.relay.leave(key, *session).await;
        let _ = roster.presence.leave(key, user, *session).await;
        self.end();
    }

    /// Nothing is left to remove: the session never got in, or another attendance took over.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }
}

async fn leave(roster: &Roster, key: &ChannelKey, user: &User, session: SessionId) {
    roster.relay.leave(key, session).await;
    match roster.presence.leave(key, user, session).await {
        Ok(true) => roster.router.notify(key, &roster.left, user, session).await,
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "failed to record a member's departure"),
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        if *self.has_ended.get_mut() {
            return;
        }
        let (roster, key) = (Arc::clone(&self.roster), self.key.clone());
        let (user, session) = (self.user.clone(), self.session);
        // Without a runtime the process is ending, and the records with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { leave(&roster, &key, &user, session).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bus::memory::Exchange;
    use crate::effects::Effects;
    use crate::hub::{Hub, Outbox, Subscriber};
    use crate::model::{ChannelId, Clock};
    use crate::plugin::Registry;
    use crate::presence::memory::MemoryPresence;
    use crate::store::Store;
    use crate::store::sqlite::Sqlite;

    #[tokio::test]
    async fn a_session_that_panics_leaves_its_channels() {
        let clock = Clock::system();
        let folder = std::env::temp_dir().join(format!("switchboard-{}", clock.uuid().simple()));
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&folder).await.unwrap());
        let tenant = "acme".parse().unwrap();
        store.create_tenant(&tenant, None, clock.now()).await.unwrap().unwrap();
        let (hub, (bus, inbox)) = (Arc::new(Hub::default()), Exchange::new().join());
        let relay = Relay::start(Arc::clone(&hub), Arc::new(bus), inbox, Arc::clone(&store), clock.clone());
        let effects = Effects::new(Arc::clone(&store), Arc::clone(&relay), Arc::new(|_, _, _| ()), clock.clone());
        let router = Arc::new(Router::new(Arc::new(Registry::default()), effects, clock.clone()));
        let (joined, left) = ("user.join".parse().unwrap(), "user.leave".parse().unwrap());
        let presence = Arc::<MemoryPresence>::default();
        let roster = Arc::new(Roster { relay, presence: presence.clone(), router, joined, left });

        let key = ChannelKey { tenant, channel: ChannelId(clock.uuid()) };
        let (user, session) =
            (User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() }, SessionId(clock.uuid()));
        let task = tokio::spawn({
            let (roster, hub, key) = (Arc::clone(&roster), Arc::clone(&hub), key.clone());
            async move {
                let _attendance = Attendance::new(&roster, &key, &user, session);
                let outbox = Arc::new(Outbox::new(None, 1_024));
                let subscriber = Subscriber::new(session, user.id.clone(), outbox, Arc::default());
                roster.relay.join(&key, Arc::new(subscriber)).await.unwrap();
                assert!(roster.presence.enter(&key, &user, session).await.unwrap());
                assert!(hub.feed(&key).is_some());
                panic!("a session that goes wrong");
            }
        });
        assert!(task.await.unwrap_err().is_panic());
        let gone = async {
            while hub.feed(&key).is_some() || !presence.present(&key, None, 1).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is taken out");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
