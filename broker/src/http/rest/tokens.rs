//! `/api/token/…`: the paths and answers of SimpleJWT.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::{Extension, Json};
use serde::Deserialize;

use super::super::error::ApiError;
use super::super::state::State;
use super::extract::Body;
use crate::auth::{Pair, TokenType};
use crate::identity::IdentityError;
use crate::model::ClientAddress;

#[derive(Deserialize)]
pub(super) struct LogIn {
    tenant: String,
    username: String,
    password: String,
}

#[derive(Deserialize)]
pub(super) struct Refresh {
    refresh: String,
}

#[derive(Deserialize)]
pub(super) struct LogOut {
    refresh: Option<String>,
    access: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Verify {
    token: String,
}

/// Issues a pair of tokens for a password.
pub(super) async fn log_in(
    Extract(state): Extract<Arc<State>>,
    Extension(from): Extension<ClientAddress>,
    Body(body): Body<LogIn>,
) -> Result<Json<Pair>, ApiError> {
    Ok(Json(state.identity.log_in(&body.tenant, &body.username, &body.password, from).await?))
}

/// Issues a new pair of tokens for a refresh token, which is then spent.
pub(super) async fn refresh(
    Extract(state): Extract<Arc<State>>,
    Body(body): Body<Refresh>,
) -> Result<Json<Pair>, ApiError> {
    Ok(Json(state.identity.refresh(&body.refresh).await?))
}

/// Answers `{}` if a token is valid.
pub(super) async fn verify(
    Extract(state): Extract<Arc<State>>,
    Body(body): Body<Verify>,
) -> Result<Json<serde_json::Value>, ApiError> {
    state.identity.verify(&body.token).await?;
    Ok(Json(serde_json::json!({})))
}

/// Ends a log-in: every token that derives from it is refused from now on, and its sockets close. A token that derives from no
/// log-in of the broker ends alone.
pub(super) async fn blacklist(
    Extract(state): Extract<Arc<State>>,
    Body(body): Body<LogOut>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let given = [(body.refresh, TokenType::Refresh), (body.access, TokenType::Access)];
    let mut has_ended = false;
    for (token, kind) in given {
        let Some(token) = token else { continue };
        match state.identity.log_out(&token, kind).await {
            // The first one has ended the second.
            Err(IdentityError::Refused) if has_ended => {}
            ended => ended?,
        }
        has_ended = true;
    }
    if !has_ended {
        return Err(ApiError::bad(Some("refresh"), "give the refresh token or the access token to end"));
    }
    Ok(Json(serde_json::json!({})))
}
