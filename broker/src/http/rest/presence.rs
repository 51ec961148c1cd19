//! `/api/channels/{channel}/presence/`: the members who are connected to a channel now, on all nodes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;

use super::super::error::ApiError;
use super::super::paging::{MAX_PAGE, Page};
use super::super::state::State;
use super::extract::InChannel;
use crate::effects::away;
use crate::model::{ChannelKey, User};

/// Lists the first members who are online, by id.
pub(super) async fn list(Extract(state): Extract<Arc<State>>, member: InChannel) -> Result<Json<Page<User>>, ApiError> {
    let key = ChannelKey { tenant: member.principal.tenant, channel: member.channel };
    let present = state.presence.present(&key, MAX_PAGE as usize).await;
    let results = present.map_err(|error| away("presence", &error))?;
    Ok(Json(Page { next: None, previous: None, results }))
}
