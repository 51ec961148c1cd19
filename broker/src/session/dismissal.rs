//! Closes the sockets of whoever is dismissed: a disabled, deleted or renamed member, one with a new password, one who has
//! logged out, the thief and the victim of a refresh token, and everybody of a tenant that is disabled or deleted.
//!
//! Any process may dismiss, on any node or none, and the bus is only a hint. So each node asks the store once a second, in one
//! statement, for the revisions of the tenants with sockets here, and looks at sockets only where a revision has changed.
//! Members who were removed from a channel are looked for at the same time.
//!
//! What it promises: a socket whose token stopped counting closes within five seconds on every node that reaches the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::live::LiveSessions;
use crate::model::{SessionId, Tenant, TenantSlug};
use crate::relay::Relay;
use crate::store::{Bearer, Store, StoreError};

/// How often the revisions are asked for.
const EVERY: Duration = Duration::from_secs(1);

/// Tokens, or tenants, in one statement.
const BATCH: usize = 500;

/// Looks for the dismissed.
pub struct Dismissal {
    sessions: Arc<LiveSessions>,
    store: Arc<dyn Store>,
    relay: Arc<Relay>,
}

impl std::fmt::Debug for Dismissal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dismissal").finish_non_exhaustive()
    }
}

impl Dismissal {
    pub fn new(sessions: Arc<LiveSessions>, store: Arc<dyn Store>, relay: Arc<Relay>) -> Self {
        Self { sessions, store, relay }
    }

    /// Looks until it is dropped.
    pub async fn run(self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The revisions as of which the members of channels were looked at.
        let (mut seen, mut failing) = (HashMap::new(), false);
        loop {
            tick.tick().await;
            match self.look(&mut seen).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "failed to look for dismissed members; trying again every second");
                    }
                    failing = true;
                }
            }
        }
    }

    async fn look(&self, seen: &mut HashMap<TenantSlug, u64>) -> Result<(), StoreError> {
        let present = self.sessions.tenants();
        seen.retain(|tenant, _| present.contains(tenant));
        for slugs in present.chunks(BATCH) {
            let mut found: HashMap<TenantSlug, Tenant> = self
                .store
                .tenants_among(slugs)
                .await?
                .into_iter()
                .map(|tenant| (tenant.slug.clone(), tenant))
                .collect();
            for slug in slugs {
                match found.remove(slug).filter(|tenant| tenant.enabled) {
                    Some(tenant) => self.look_at(&tenant, seen).await?,
                    // No revision is this one.
                    None => self.dismiss(slug, &self.sessions.checked_before(slug, u64::MAX)),
                }
            }
        }
        Ok(())
    }

    async fn look_at(&self, tenant: &Tenant, seen: &mut HashMap<TenantSlug, u64>) -> Result<(), StoreError> {
        let Tenant { slug, tokens_since, revision, .. } = tenant;
        let before = seen.insert(slug.clone(), *revision);
        // At first sight as well: the change may be older than that.
        if before != Some(*revision)
            && let Err(error) = self.relay.look_for_former_members(slug).await
        {
            seen.remove(slug);
            return Err(error);
        }
        for asked in self.sessions.checked_before(slug, *revision).chunks(BATCH) {
            let bearers: Vec<Bearer> = asked.iter().map(|(_, bearer)| bearer.clone()).collect();
            let known = self.store.bearers(slug, &bearers).await?;
            for (session, known) in asked.iter().zip(known) {
                if known.is_some_and(|known| known.may_enter(&session.1.token, *tokens_since)) {
                    self.sessions.confirm(slug, session.0, &session.1, *revision);
                } else {
                    self.dismiss(slug, std::slice::from_ref(session));
                }
            }
        }
        Ok(())
    }

    fn dismiss(&self, tenant: &TenantSlug, sessions: &[(SessionId, Bearer)]) {
        for (session, bearer) in sessions {
            tracing::info!(%tenant, member = %bearer.user, %session, "closed a socket: its token no longer counts");
            self.sessions.dismiss(tenant, *session, bearer);
        }
    }
}
