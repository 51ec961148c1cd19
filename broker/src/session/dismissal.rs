//! Closes the sockets of whoever is dismissed: a disabled, deleted or renamed member, one with a new password, one who has
//! logged out, the thief and the victim of a refresh token, and everybody of a tenant that is disabled or deleted.
//!
//! Any process may dismiss, on any node or none, and the bus is only a hint. So each node asks the store once a second, in one
//! statement, for the revisions of the tenants with sockets here, and looks at sockets only where a revision has changed.
//! Members who were removed from a channel are looked for at the same time.
//!
//! What it promises: a socket whose token stopped counting closes within five seconds on every node that reaches the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::live::LiveSessions;
use crate::model::{SessionId, Tenant, TenantSlug};
use crate::relay::Relay;
use crate::store::{Bearer, Store, StoreError};

/// How often the revisions are asked for.
const EVERY: Duration = Duration::from_secs(1);

/// Tokens, or tenants, in one statement.
const BATCH: usize = 500;

/// Tenants that are looked at at once.
const AT_ONCE: usize = 32;

/// How long one tenant may take; it is looked at again a second later.
const WITHIN: Duration = Duration::from_secs(2);

/// What earlier looks have found.
#[derive(Default)]
struct Seen {
    /// The revisions as of which the members of channels were looked at.
    revisions: HashMap<TenantSlug, u64>,
    /// Who could not be looked at, so that the log says so once; `None` is all.
    failing: HashSet<Option<TenantSlug>>,
}

impl Seen {
    fn failed(&mut self, tenant: Option<TenantSlug>, error: &StoreError) {
        let name = tenant.as_ref().map_or("all", TenantSlug::as_str);
        if !self.failing.contains(&tenant) {
            tracing::warn!(tenant = name, %error, "failed to look for dismissed members; trying again every second");
            self.failing.insert(tenant);
        }
    }
}

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
        let mut seen = Seen::default();
        loop {
            tick.tick().await;
            if let Err(error) = self.look(&mut seen).await {
                seen.failed(None, &error);
            } else {
                seen.failing.remove(&None);
            }
        }
    }

    /// Looks at all tenants at once: one whose tables are locked or damaged keeps nobody of another one in.
    async fn look(&self, seen: &mut Seen) -> Result<(), StoreError> {
        let present = self.sessions.tenants();
        seen.revisions.retain(|tenant, _| present.contains(tenant));
        seen.failing.retain(|tenant| tenant.as_ref().is_none_or(|tenant| present.contains(tenant)));
        for slugs in present.chunks(BATCH) {
            let found = self.store.tenants_among(slugs).await?;
            let mut found: HashMap<TenantSlug, Tenant> =
                found.into_iter().map(|tenant| (tenant.slug.clone(), tenant)).collect();
            let mut enabled = Vec::new();
            for slug in slugs {
                match found.remove(slug).filter(|tenant| tenant.enabled) {
                    Some(tenant) => enabled.push((seen.revisions.get(slug) != Some(&tenant.revision), tenant)),
                    // No revision is this one.
                    None => self.dismiss(slug, &self.sessions.checked_before(slug, u64::MAX)),
                }
            }
            let looking = stream::iter(enabled).map(async |(is_new, tenant)| {
                let looked = timeout(WITHIN, self.look_at(&tenant, is_new)).await;
                (tenant, looked.unwrap_or_else(|_| Err(StoreError::Contended)))
            });
            let mut looking = std::pin::pin!(looking.buffer_unordered(AT_ONCE));
            while let Some((Tenant { slug, revision, .. }, looked)) = looking.next().await {
                match looked {
                    Ok(()) => {
                        seen.failing.remove(&Some(slug.clone()));
                        seen.revisions.insert(slug, revision);
                    }
                    Err(error) => seen.failed(Some(slug), &error),
                }
            }
        }
        Ok(())
    }

    async fn look_at(&self, tenant: &Tenant, is_new: bool) -> Result<(), StoreError> {
        let Tenant { slug, tokens_since, revision, .. } = tenant;
        // At first sight as well: the change may be older than that.
        if is_new {
            self.relay.look_for_former_members(slug).await?;
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
