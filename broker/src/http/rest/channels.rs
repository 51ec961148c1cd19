//! `/api/channels/` and `/api/channels/{channel}/`.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::http::{StatusCode, Uri};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::super::error::ApiError;
use super::super::paging::{Page, link};
use super::super::query::{self, Limit};
use super::super::state::State;
use super::extract::{Bearer, Body, InChannel};
use crate::model::{ChannelId, ClientAddress, Epoch, Message, Role, Timestamp, UserId, Username};
use crate::protocol::Refusal;
use crate::store::{ChannelSummary, NewChannel};

/// Maximum number of members that a new channel can have.
const FIRST_MEMBERS: usize = 100;

/// A channel as one of its members sees it.
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
    #[serde(default)]
    limit: Limit,
    cursor: Option<ChannelId>,
}

#[derive(Deserialize)]
pub(super) struct Create {
    name: String,
    #[serde(default)]
    members: Vec<UserId>,
}

/// Lists the channels that the bearer is in, oldest first.
pub(super) async fn list(
    Extract(state): Extract<Arc<State>>,
    Bearer(principal): Bearer,
    uri: Uri,
) -> Result<Json<Page<ChannelView>>, ApiError> {
    let query: ListQuery = query::read(&uri, "`limit` must be a number and `cursor` a channel's id")?;
    let Limit(limit) = query.limit;
    // Reads one more than requested, to know whether there is a next page.
    let mut found =
        state.store.channel_summaries(&principal.tenant, &principal.user.id, query.cursor, limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|last| link(&uri, limit, "cursor", &last.channel.id.to_string()));
    // A keyset cursor only goes forward, so the previous page is the first one.
    let previous = query.cursor.map(|_| format!("{}?limit={limit}", uri.path()));
    Ok(Json(Page { next, previous, results: found.into_iter().map(Into::into).collect() }))
}

/// Creates a channel that the bearer owns.
pub(super) async fn create(
    Extract(state): Extract<Arc<State>>,
    Extension(from): Extension<ClientAddress>,
    Bearer(principal): Bearer,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<ChannelView>), ApiError> {
    state.rates.create_channel(&principal.tenant, &principal.user.id, from).map_err(Refusal::from)?;
    // The rules for a channel's name are those for a username.
    let name: Username =
        body.name.trim().parse().map_err(|error| ApiError::bad(Some("name"), format!("a channel's name {error}")))?;
    if body.members.len() > FIRST_MEMBERS {
        return Err(ApiError::bad(Some("members"), "a new channel can have at most 100 members; add more afterwards"));
    }
    let owner = (principal.user.id.clone(), Role::Owner);
    let others = body.members.into_iter().filter(|id| *id != principal.user.id).map(|id| (id, Role::Member));
    let new = NewChannel {
        id: ChannelId(state.clock.uuid()),
        name: name.as_str().to_owned(),
        epoch: state.clock.epoch(),
        members: std::iter::once(owner).chain(others).collect(),
        at: state.clock.now(),
    };
    if !state.store.create_channel(&principal.tenant, &new).await? {
        return Err(ApiError::bad(Some("members"), "every member must belong to the tenant"));
    }
    let made = state.store.channel_summary(&principal.tenant, new.id, &principal.user.id).await?;
    Ok((StatusCode::CREATED, Json(made.ok_or_else(Refusal::unknown_channel)?.into())))
}

/// Shows one channel.
pub(super) async fn show(
    Extract(state): Extract<Arc<State>>,
    member: InChannel,
) -> Result<Json<ChannelView>, ApiError> {
    let found =
        state.store.channel_summary(&member.principal.tenant, member.channel, &member.principal.user.id).await?;
    Ok(Json(found.ok_or_else(Refusal::unknown_channel)?.into()))
}
