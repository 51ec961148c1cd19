//! `/api/channels/{channel}/presence/`: the members who are connected to a channel now, on all nodes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::http::Uri;
use serde::Deserialize;

use super::super::error::ApiError;
use super::super::paging::{Page, link};
use super::super::query::{self, Limit};
use super::super::state::State;
use super::extract::InChannel;
use crate::effects::away;
use crate::model::{ChannelKey, User, UserId};

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    limit: Limit,
    cursor: Option<UserId>,
}

/// Lists the members who are online, by id. Who comes or goes between two pages is on neither or on one of them.
pub(super) async fn list(
    Extract(state): Extract<Arc<State>>,
    member: InChannel,
    uri: Uri,
) -> Result<Json<Page<User>>, ApiError> {
    let query: ListQuery = query::read(&uri, "`limit` must be a number and `cursor` a member's id")?;
    let Limit(limit) = query.limit;
    let key = ChannelKey { tenant: member.principal.tenant, channel: member.channel };
    // Reads one more than requested, to know whether there is a next page.
    let present = state.presence.present(&key, query.cursor.as_ref(), limit as usize + 1).await;
    let mut results = present.map_err(|error| away("presence", &error))?;
    let more = results.len() > limit as usize;
    results.truncate(limit as usize);
    let next = results.last().filter(|_| more).map(|last| link(&uri, limit, "cursor", last.id.as_str()));
    let previous = query.cursor.map(|_| format!("{}?limit={limit}", uri.path()));
    Ok(Json(Page { next, previous, results }))
}
