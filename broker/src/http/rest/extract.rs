//! Extracts the bearer of a token, the channel and the body from a request.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::super::body;
use super::super::error::ApiError;
use super::super::state::State;
use super::super::token;
use crate::model::{ChannelId, ClientAddress, Principal, Role, TenantSlug, UserId};
use crate::protocol::Refusal;

/// Maximum size of a request body in bytes: a frame's content, with room for the rest.
const MAX_BODY: usize = 128 * 1024;

/// The bearer of the request's access token.
pub(super) struct Bearer(pub(super) Principal);

/// The member whose body it is.
#[derive(Clone)]
struct BodyOf(TenantSlug, UserId);

/// The channel in the path, if the bearer is in it. Any other channel is treated as if it did not exist.
pub(super) struct InChannel {
    pub(super) principal: Principal,
    pub(super) channel: ChannelId,
    pub(super) role: Role,
}

/// A JSON body; its errors have the common form.
pub(super) struct Body<T>(pub(super) T);

impl FromRequestParts<Arc<State>> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let Some(token) = token::in_authorization(&parts.headers) else { return Err(ApiError::unauthorized()) };
        let principal = state.identity.principal(token).await?;
        // For the limits on what comes in the body.
        parts.extensions.insert(BodyOf(principal.tenant.clone(), principal.user.id.clone()));
        Ok(Self(principal))
    }
}

impl FromRequestParts<Arc<State>> for InChannel {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let Bearer(principal) = Bearer::from_request_parts(parts, state).await?;
        let path = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let named = path.ok().and_then(|Path(pairs)| {
            pairs.into_iter().find(|(name, _)| name == "channel").and_then(|(_, value)| value.parse().ok())
        });
        let Some(channel) = named else { return Err(Refusal::unknown_channel().into()) };
        let role = state.store.role(&principal.tenant, channel, &principal.user.id).await?;
        let role = role.ok_or_else(Refusal::unknown_channel)?;
        Ok(Self { principal, channel, role })
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<State>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::body(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let member = request.extensions().get::<BodyOf>().cloned();
        let from = request.extensions().get::<ClientAddress>().copied();
        let body = body::read(request, MAX_BODY, body::WITHIN).await?;
        if let Some(from) = from {
            let member = member.as_ref().map(|BodyOf(tenant, user)| (tenant, user));
            state.rates.body(member, from, body.len()).map_err(Refusal::from)?;
        }
        serde_json::from_slice(&body).map(Self).map_err(|_| ApiError::body(StatusCode::BAD_REQUEST))
    }
}

/// Whether the type is `application/json`, or a variant such as `application/problem+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
