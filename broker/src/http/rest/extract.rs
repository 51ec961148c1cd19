//! Who asks, and for which channel.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::super::State;
use super::super::error::ApiError;
use crate::model::{ChannelId, Principal, Role};
use crate::protocol::Refusal;

/// The bearer of the request's access token.
pub(super) struct Bearer(pub(super) Principal);

/// A channel of the path that the bearer is in. Any other answers as one that does not exist.
pub(super) struct Seat {
    pub(super) principal: Principal,
    pub(super) channel: ChannelId,
    pub(super) role: Role,
}

/// A JSON body, refused in the one form of errors.
pub(super) struct Body<T>(pub(super) T);

impl FromRequestParts<Arc<State>> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| {
            // SimpleJWT takes `Bearer` and, in older projects, `JWT`.
            scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("jwt")
        });
        let Some((_, token)) = token else { return Err(ApiError::unauthorized()) };
        Ok(Self(state.services.identity.principal(token.trim()).await?))
    }
}

impl FromRequestParts<Arc<State>> for Seat {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let Bearer(principal) = Bearer::from_request_parts(parts, state).await?;
        let path = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let named = path.ok().and_then(|Path(pairs)| {
            pairs.into_iter().find(|(name, _)| name == "channel").and_then(|(_, value)| value.parse().ok())
        });
        let Some(channel) = named else { return Err(Refusal::unknown_channel().into()) };
        let role = state.services.store.role(&principal.tenant, channel, &principal.user.id).await?;
        let role = role.ok_or_else(Refusal::unknown_channel)?;
        Ok(Self { principal, channel, role })
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<State>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, ApiError> {
        let json = axum::Json::<T>::from_request(request, state).await;
        json.map(|axum::Json(body)| Self(body)).map_err(|rejection| ApiError::body(rejection.status()))
    }
}
