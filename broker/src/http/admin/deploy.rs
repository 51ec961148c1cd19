//! The route that deploys a component.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State as Extract};
use axum::http::StatusCode;
use tokio::sync::Semaphore;

use super::super::body;
use super::super::error::ApiError;
use super::super::state::State;
use super::answers::{DeployedAnswer, VersionAnswer};
use super::request::Actor;
use super::routes::to_the_end;
use crate::model::catalogue::Version;
use crate::protocol::{ErrorCode, Refusal};

/// Time within which a component must arrive.
const COMPONENT_WITHIN: Duration = Duration::from_secs(60);

/// Components that can be uploaded at once, since each is held in memory.
static PLACES: Semaphore = Semaphore::const_new(4);

/// Checks a component and stores it. It handles nothing until it is activated.
#[utoipa::path(post, path = "/api/plugins/", tag = "plugins",
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses((status = 201, body = DeployedAnswer),
        (status = 200, description = "the same bytes were already deployed", body = DeployedAnswer),
        (status = 413, description = "larger than 32 MiB"),
        (status = 422, description = "not acceptable, or its version already has different bytes")))]
pub(super) async fn deploy(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    request: Request,
) -> Result<(StatusCode, Json<DeployedAnswer>), ApiError> {
    let Ok(place) = PLACES.try_acquire() else {
        return Err(Refusal::new(ErrorCode::Overloaded, "other components are being deployed; try again later").into());
    };
    let component = body::read(request, state.control.largest(), COMPONENT_WITHIN).await?;
    let (control, by) = (Arc::clone(&state.control), actor.clone());
    let (described, outcome) = to_the_end(async move {
        let _place = place;
        control.deploy(&by, component).await
    })
    .await?;
    let version = Version {
        plugin: described.plugin,
        version: described.version,
        digest: described.digest,
        size: described.size,
        kinds: described.kinds,
        watches: described.watches,
        wants: described.wants,
        deployed_at: state.clock.now(),
        deployed_by: actor,
    };
    let status = if outcome.changed { StatusCode::CREATED } else { StatusCode::OK };
    let (changed, revision) = (outcome.changed, outcome.revision);
    Ok((status, Json(DeployedAnswer { version: VersionAnswer::from(&version), changed, revision })))
}
