//! `/api/channels/{channel}/presence/`: who is connected to a channel right now, over all nodes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;

use super::super::error::ApiError;
use super::super::paging::{MAX_PAGE, Page};
use super::super::state::State;
use super::extract::Seat;
use crate::effects::away;
use crate::model::{ChannelKey, User};

/// The first members present, by id.
pub(super) async fn list(Extract(state): Extract<Arc<State>>, seat: Seat) -> Result<Json<Page<User>>, ApiError> {
    let key = ChannelKey { tenant: seat.principal.tenant, channel: seat.channel };
    let present = state.services.presence.present(&key, MAX_PAGE as usize).await;
    let results = present.map_err(|error| away("presence", &error))?;
    Ok(Json(Page { next: None, previous: None, results }))
}
