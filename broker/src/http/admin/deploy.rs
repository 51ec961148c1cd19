//! Takes a component in.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State as Extract;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};

use super::super::State;
use super::super::error::ApiError;
use super::answers::{DeployedAnswer, VersionAnswer};
use super::guard::Operator;
use crate::model::catalogue::Version;
use crate::protocol::{ErrorCode, Refusal};

/// How long a component may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(120);

/// Checks a component and keeps it. It handles nothing until it is activated.
#[utoipa::path(post, path = "/api/plugins/", tag = "plugins", request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses((status = 201, body = DeployedAnswer), (status = 413, description = "it is too large"),
        (status = 422, description = "it is not fit, or its version has other bytes already")))]
pub(super) async fn deploy(
    Extract(state): Extract<Arc<State>>,
    Operator(actor): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<DeployedAnswer>), ApiError> {
    let component = read(&headers, body, state.desk.largest()).await?;
    let (described, outcome) = state.desk.deploy(&actor, component.into()).await?;
    let version = Version {
        plugin: described.plugin,
        version: described.version,
        digest: described.digest,
        size: described.size,
        kinds: described.kinds,
        watches: described.watches,
        wants: described.wants,
        deployed_at: state.services.clock.now(),
        deployed_by: actor,
    };
    let answer =
        DeployedAnswer { version: VersionAnswer::from(&version), changed: outcome.changed, revision: outcome.revision };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// What says at once that it is too large is not read at all.
async fn read(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, ApiError> {
    let too_large =
        || Refusal::new(ErrorCode::TooLarge, format!("the component has more than {most} bytes, which is the most"));
    let says = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if says.is_some_and(|says| says > most) {
        return Err(too_large().into());
    }
    match tokio::time::timeout(ARRIVES_WITHIN, axum::body::to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(too_large().into()),
        Err(_) => Err(Refusal::new(ErrorCode::BadRequest, "the component did not arrive in time").into()),
    }
}
