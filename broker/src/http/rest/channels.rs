//! `/api/channels/` and `/api/channels/{channel}/`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State as Extract};
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::super::error::ApiError;
use super::super::paging::{Page, limit, link};
use super::super::state::State;
use super::extract::{Bearer, Body, Seat};
use crate::model::{ChannelId, Epoch, Message, Role, Timestamp, UserId, Username};
use crate::protocol::Refusal;
use crate::store::{ChannelSummary, NewChannel};

/// Members that a new channel may be given at once.
const FIRST_MEMBERS: usize = 100;

/// A channel as its member sees it.
#[derive(Serialize)]
pub(super) struct ChannelView {
    id: ChannelId,
    name: String,
    role: Role,
    member_count: u64,
    unread_count: u64,
    last_message: Option<Message>,
    epoch: Epoch,
    seq: u64,
    created_at: Timestamp,
}

impl From<ChannelSummary> for ChannelView {
    fn from(summary: ChannelSummary) -> Self {
        Self {
            id: summary.channel.id,
            name: summary.channel.name,
            role: summary.role,
            member_count: summary.member_count,
            unread_count: summary.unread,
            last_message: summary.last_message,
            epoch: summary.channel.epoch,
            seq: summary.channel.seq,
            created_at: summary.channel.created_at,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    limit: Option<u32>,
    cursor: Option<ChannelId>,
}

#[derive(Deserialize)]
pub(super) struct Create {
    name: String,
    #[serde(default)]
    members: Vec<UserId>,
}

/// The channels the bearer is in, oldest first.
pub(super) async fn list(
    Extract(state): Extract<Arc<State>>,
    Bearer(principal): Bearer,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
    uri: Uri,
) -> Result<Json<Page<ChannelView>>, ApiError> {
    let Query(query) = query.map_err(|_| ApiError::bad(None, "`limit` is a number and `cursor` a channel's id"))?;
    let limit = limit(query.limit)?;
    let store = &state.services.store;
    // One more than asked for tells whether there is a next page.
    let mut found = store.channel_summaries(&principal.tenant, &principal.user.id, query.cursor, limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|last| link(&uri, limit, "cursor", &last.channel.id.to_string()));
    // A keyset cursor only goes forward; the list is walked back from its start.
    let previous = query.cursor.map(|_| format!("{}?limit={limit}", uri.path()));
    Ok(Json(Page { next, previous, results: found.into_iter().map(Into::into).collect() }))
}

/// Makes a channel that the bearer owns.
pub(super) async fn create(
    Extract(state): Extract<Arc<State>>,
    Bearer(principal): Bearer,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<ChannelView>), ApiError> {
    // A channel's name is bounded and printable as a member's is.
    if body.name.trim().parse::<Username>().is_err() {
        return Err(ApiError::bad(Some("name"), "a name has 1 to 150 characters, none a control character"));
    }
    if body.members.len() > FIRST_MEMBERS {
        return Err(ApiError::bad(Some("members"), "a new channel takes at most 100 members; add more afterwards"));
    }
    let services = &state.services;
    let owner = (principal.user.id.clone(), Role::Owner);
    let others = body.members.into_iter().filter(|id| *id != principal.user.id).map(|id| (id, Role::Member));
    let new = NewChannel {
        id: ChannelId(services.clock.uuid()),
        name: body.name.trim().to_owned(),
        epoch: services.clock.epoch(),
        members: std::iter::once(owner).chain(others).collect(),
        at: services.clock.now(),
    };
    if !services.store.create_channel(&principal.tenant, &new).await? {
        return Err(ApiError::bad(Some("members"), "each of the members must be a member of the tenant"));
    }
    let made = services.store.channel_summary(&principal.tenant, new.id, &principal.user.id).await?;
    Ok((StatusCode::CREATED, Json(made.ok_or_else(Refusal::unknown_channel)?.into())))
}

/// One channel.
pub(super) async fn show(Extract(state): Extract<Arc<State>>, seat: Seat) -> Result<Json<ChannelView>, ApiError> {
    let store = &state.services.store;
    let found = store.channel_summary(&seat.principal.tenant, seat.channel, &seat.principal.user.id).await?;
    Ok(Json(found.ok_or_else(Refusal::unknown_channel)?.into()))
}
