//! `/api/channels/{channel}/members/…`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::super::error::ApiError;
use super::super::paging::{Page, link};
use super::super::query::{self, Limit};
use super::super::state::State;
use super::extract::{Body, InChannel};
use crate::model::{ChannelKey, ChannelMember, Role, Timestamp, User, UserId};

/// A member of a channel.
#[derive(Serialize)]
pub(super) struct MemberView {
    #[serde(flatten)]
    user: User,
    role: Role,
    joined_at: Timestamp,
}

impl From<ChannelMember> for MemberView {
    fn from(member: ChannelMember) -> Self {
        Self { user: member.user, role: member.role, joined_at: member.joined_at }
    }
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    limit: Limit,
    cursor: Option<UserId>,
}

#[derive(Deserialize)]
pub(super) struct Add {
    user_id: UserId,
}

/// Lists the members by id.
pub(super) async fn list(
    Extract(state): Extract<Arc<State>>,
    member: InChannel,
    uri: Uri,
) -> Result<Json<Page<MemberView>>, ApiError> {
    let query: ListQuery = query::read(&uri, "`limit` must be a number and `cursor` a member's id")?;
    let Limit(limit) = query.limit;
    let mut found =
        state.store.channel_members(&member.principal.tenant, member.channel, query.cursor.as_ref(), limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|last| link(&uri, limit, "cursor", last.user.id.as_str()));
    let previous = query.cursor.map(|_| format!("{}?limit={limit}", uri.path()));
    Ok(Json(Page { next, previous, results: found.into_iter().map(Into::into).collect() }))
}

/// Adds a member of the tenant. Only owners may do this.
pub(super) async fn add(
    Extract(state): Extract<Arc<State>>,
    member: InChannel,
    Body(body): Body<Add>,
) -> Result<(StatusCode, Json<serde_json::Value>), ApiError> {
    if member.role != Role::Owner {
        return Err(ApiError::denied("only an owner of the channel may add members"));
    }
    let tenant = &member.principal.tenant;
    let added =
        state.store.add_channel_member(tenant, member.channel, &body.user_id, Role::Member, state.clock.now()).await?;
    if !added {
        return Err(ApiError::bad(Some("user_id"), "there is no such member in this tenant"));
    }
    Ok((StatusCode::CREATED, Json(serde_json::json!({"user_id": body.user_id}))))
}

/// Removes a member. Owners may remove anyone, and members themselves. The member's open sockets leave the channel on every
/// node; on this one, before the answer.
pub(super) async fn remove(
    Extract(state): Extract<Arc<State>>,
    member: InChannel,
    Path((_, user)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let gone = || ApiError::bad(Some("user_id"), "there is no such member in this channel");
    let user: UserId = user.parse().map_err(|_| gone())?;
    if member.role != Role::Owner && user != member.principal.user.id {
        return Err(ApiError::denied("only an owner of the channel may remove other members"));
    }
    let tenant = member.principal.tenant;
    if !state.store.remove_channel_member(&tenant, member.channel, &user).await? {
        return Err(gone());
    }
    state.relay.revoke(&ChannelKey { tenant, channel: member.channel }, &user);
    Ok(StatusCode::NO_CONTENT)
}
