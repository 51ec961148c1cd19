//! The same publishers without sockets and handlers: what the gathering of commits and the store allow by themselves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::value::RawValue;
use switchboard::effects::committer::Committer;
use switchboard::model::{ChannelId, Clock, Draft, MessageId, TenantSlug, User};
use switchboard::store::{Commit, Outcome, Store};
use tokio::time::Instant;

use super::publishers::TEXT;

/// How many commits a second are answered to callers who each wait for their answer, each in a channel of its own.
pub(super) async fn commit(
    store: Arc<dyn Store>,
    tenant: &TenantSlug,
    rooms: &[(ChannelId, User)],
    span: Duration,
) -> f64 {
    let committer = Committer::new(store);
    let begun = Instant::now();
    let callers = rooms.iter().map(|(channel, user)| {
        let (committer, tenant, channel, user) = (Arc::clone(&committer), tenant.clone(), *channel, user.clone());
        tokio::spawn(async move {
            let clock = Clock::system();
            let raw = |json: String| RawValue::from_string(json).expect("a JSON text");
            let mut answered = 0_u32;
            while begun.elapsed() < span {
                let id = clock.uuid();
                let draft = Draft {
                    kind: "chat.message".parse().expect("a kind"),
                    content: raw(format!("{:?}", "x".repeat(TEXT))),
                    reply_to: None,
                    attachments: raw("[]".to_owned()),
                };
                let commit = Commit {
                    channel,
                    sender: user.clone(),
                    request: Some((id.to_string().parse().expect("an id"), [7; 32])),
                    drafts: vec![(MessageId(id), draft)],
                    reads: Vec::new(),
                    amendments: Vec::new(),
                    kv: None,
                    at: clock.now(),
                };
                let outcome = committer.commit(&tenant, commit).await;
                assert!(matches!(outcome, Ok(Outcome::Done(_))), "{outcome:?}");
                answered += 1;
            }
            answered
        })
    });
    let answered: u32 = join_all(callers).await.into_iter().map(|answered| answered.expect("a caller ends")).sum();
    f64::from(answered) / begun.elapsed().as_secs_f64()
}
