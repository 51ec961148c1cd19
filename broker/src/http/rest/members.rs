//! `/api/channels/{channel}/members/…`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::super::error::ApiError;
use super::super::paging::{Page, limit, link};
use super::super::state::State;
use super::extract::{Body, Seat};
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
    limit: Option<u32>,
    cursor: Option<UserId>,
}

#[derive(Deserialize)]
pub(super) struct Add {
    user_id: UserId,
}

/// The members by id.
pub(super) async fn list(
    Extract(state): Extract<Arc<State>>,
    seat: Seat,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
    uri: Uri,
) -> Result<Json<Page<MemberView>>, ApiError> {
    let Query(query) = query.map_err(|_| ApiError::bad(None, "`limit` is a number and `cursor` a member's id"))?;
    let limit = limit(query.limit)?;
    let store = &state.services.store;
    let mut found =
        store.channel_members(&seat.principal.tenant, seat.channel, query.cursor.as_ref(), limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|last| link(&uri, limit, "cursor", last.user.id.as_str()));
    let previous = query.cursor.map(|_| format!("{}?limit={limit}", uri.path()));
    Ok(Json(Page { next, previous, results: found.into_iter().map(Into::into).collect() }))
}

/// Adds a member of the tenant. Owners may.
pub(super) async fn add(
    Extract(state): Extract<Arc<State>>,
    seat: Seat,
    Body(body): Body<Add>,
) -> Result<(StatusCode, Json<serde_json::Value>), ApiError> {
    if seat.role != Role::Owner {
        return Err(ApiError::denied("only an owner of the channel may add members"));
    }
    let services = &state.services;
    let tenant = &seat.principal.tenant;
    let added = services
        .store
        .add_channel_member(tenant, seat.channel, &body.user_id, Role::Member, services.clock.now())
        .await?;
    if !added {
        return Err(ApiError::bad(Some("user_id"), "there is no such member in this tenant"));
    }
    Ok((StatusCode::CREATED, Json(serde_json::json!({"user_id": body.user_id}))))
}

/// Takes a member out. Owners may take out anyone, members themselves. Live sockets of that member leave the channel on
/// every node before this answers on its own.
pub(super) async fn remove(
    Extract(state): Extract<Arc<State>>,
    seat: Seat,
    Path((_, user)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let gone = || ApiError::bad(Some("user_id"), "there is no such member in this channel");
    let user: UserId = user.parse().map_err(|_| gone())?;
    if seat.role != Role::Owner && user != seat.principal.user.id {
        return Err(ApiError::denied("only an owner of the channel may take others out"));
    }
    let services = &state.services;
    let tenant = seat.principal.tenant;
    if !services.store.remove_channel_member(&tenant, seat.channel, &user).await? {
        return Err(gone());
    }
    services.relay.revoke(&ChannelKey { tenant, channel: seat.channel }, &user);
    Ok(StatusCode::NO_CONTENT)
}
