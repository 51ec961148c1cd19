//! The live sessions of this node, with the token of each, so that a dismissed member's sockets can be found.
//!
//! Invariant: a session is in the table from before it first acts until it ends, under the tenant's revision that was read
//! before its token was checked. A right that ended after that check therefore shows as a later revision.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::hub::Outbox;
use crate::model::{Principal, SessionId, TenantSlug};
use crate::protocol::Close;
use crate::store::Bearer;

/// The live sessions of this node.
#[derive(Debug, Default)]
pub struct LiveSessions(Mutex<HashMap<TenantSlug, HashMap<SessionId, Live>>>);

#[derive(Debug)]
struct Live {
    bearer: Bearer,
    /// The tenant's revision as of which the token counts.
    revision: u64,
    outbox: Arc<Outbox>,
}

/// A session's entry. Dropping it removes the entry.
#[derive(Debug)]
pub(super) struct LiveEntry {
    sessions: Arc<LiveSessions>,
    tenant: TenantSlug,
    session: SessionId,
}

impl LiveSessions {
    pub(super) fn add(self: &Arc<Self>, principal: &Principal, session: SessionId, outbox: &Arc<Outbox>) -> LiveEntry {
        let live = Live { bearer: bearer(principal), revision: principal.revision, outbox: Arc::clone(outbox) };
        self.0.lock().entry(principal.tenant.clone()).or_default().insert(session, live);
        LiveEntry { sessions: Arc::clone(self), tenant: principal.tenant.clone(), session }
    }

    pub(super) fn tenants(&self) -> Vec<TenantSlug> {
        self.0.lock().keys().cloned().collect()
    }

    /// The sessions of a tenant whose tokens were checked at another revision than this.
    pub(super) fn checked_before(&self, tenant: &TenantSlug, revision: u64) -> Vec<(SessionId, Bearer)> {
        let sessions = self.0.lock();
        let sessions = sessions.get(tenant).into_iter().flatten();
        sessions.filter(|(_, live)| live.revision != revision).map(|(id, live)| (*id, live.bearer.clone())).collect()
    }

    /// The token of a session counts as of a revision, unless it has another one by now.
    pub(super) fn confirm(&self, tenant: &TenantSlug, session: SessionId, bearer: &Bearer, revision: u64) {
        if let Some(live) = self.0.lock().get_mut(tenant).and_then(|sessions| sessions.get_mut(&session))
            && live.bearer == *bearer
        {
            live.revision = revision;
        }
    }

    /// Closes a session, unless it has another token by now.
    pub(super) fn dismiss(&self, tenant: &TenantSlug, session: SessionId, bearer: &Bearer) {
        let sessions = self.0.lock();
        let live = sessions.get(tenant).and_then(|sessions| sessions.get(&session));
        if let Some(live) = live.filter(|live| live.bearer == *bearer) {
            crate::metrics::SESSIONS_DISMISSED.handle().increment(1);
            live.outbox.close(Close::Revoked);
        }
    }
}

impl LiveEntry {
    /// The session has a new token of the same member.
    pub(super) fn renew(&self, principal: &Principal) {
        let mut sessions = self.sessions.0.lock();
        if let Some(live) = sessions.get_mut(&self.tenant).and_then(|sessions| sessions.get_mut(&self.session)) {
            live.bearer = bearer(principal);
            live.revision = principal.revision;
        }
    }
}

impl Drop for LiveEntry {
    fn drop(&mut self) {
        let mut sessions = self.sessions.0.lock();
        if let Some(of_tenant) = sessions.get_mut(&self.tenant) {
            of_tenant.remove(&self.session);
            if of_tenant.is_empty() {
                sessions.remove(&self.tenant);
            }
        }
    }
}

fn bearer(principal: &Principal) -> Bearer {
    Bearer { user: principal.user.id.clone(), token: principal.token.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Timestamp, TokenId, User};

    fn principal(jti: &str, revision: u64) -> Principal {
        let user = User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() };
        let token = TokenId { jti: Some(jti.to_owned()), ..TokenId::default() };
        Principal { tenant: "acme".parse().unwrap(), user, expires_at: Timestamp(0), token, revision }
    }

    #[test]
    fn a_session_is_asked_about_after_each_change_and_goes_by_the_token_that_it_has() {
        let (sessions, outbox) = (Arc::<LiveSessions>::default(), Arc::new(Outbox::new(None, 1_024)));
        let (acme, id) = ("acme".parse().unwrap(), SessionId(Clock::system().uuid()));
        let entry = sessions.add(&principal("a", 1), id, &outbox);
        assert!(sessions.checked_before(&acme, 1).is_empty());
        let asked = sessions.checked_before(&acme, 2);
        assert_eq!(asked.len(), 1);
        // Meanwhile the session has been given another token: what was found out about the first one says nothing.
        entry.renew(&principal("b", 1));
        sessions.dismiss(&acme, id, &asked[0].1);
        sessions.confirm(&acme, id, &asked[0].1, 2);
        assert!(!outbox.is_closing());
        let asked = sessions.checked_before(&acme, 2);
        sessions.confirm(&acme, id, &asked[0].1, 2);
        assert!(sessions.checked_before(&acme, 2).is_empty());
        sessions.dismiss(&acme, id, &asked[0].1);
        assert!(outbox.is_closing());
        drop(entry);
        assert!(sessions.tenants().is_empty());
    }
}
