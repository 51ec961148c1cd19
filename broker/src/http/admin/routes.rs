//! The routes that decide which generation handles what: activate, canary, shadow, promote, roll back, disable, follow.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::state::State;
use super::answers::{ForWhom, OutcomeAnswer};
use super::request::{Actor, Fields, Known};
use crate::deploy::{Choice, Command, ControlError};
use crate::model::catalogue::{Scope, Trial};
use crate::model::{PluginName, TenantSlug};

/// A generation of the plugin, and its scope.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChoiceBody {
    /// The version, or `built-in`; the default is the version deployed last.
    version: Option<String>,
    /// The text for `init`; the default is the text of the generation in force.
    config: Option<String>,
    /// The tenant; if it is missing or null, all tenants.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
}

/// A generation of the plugin, its scope, and its share of the channels.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CanaryBody {
    /// The version; the default is the version deployed last.
    version: Option<String>,
    /// The text for `init`; the default is the text of the generation in force.
    config: Option<String>,
    /// The tenant; if it is missing or null, all tenants.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
    /// Percentage of the channels, 1 to 99.
    percent: u8,
}

/// The tenant that discards its own decisions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowBody {
    /// Slug of the tenant.
    #[schema(value_type = String)]
    tenant: TenantSlug,
}

impl ChoiceBody {
    fn choice(self, plugin: PluginName) -> Choice {
        Choice { plugin, version: self.version, config: self.config, scope: self.tenant.into() }
    }
}

type Answer = Result<Json<OutcomeAnswer>, ApiError>;

/// Lets a version handle all its types.
#[utoipa::path(post, path = "/api/plugins/{name}/activate/", tag = "plugins", params(("name" = String, Path)),
    request_body = ChoiceBody, responses((status = 200, body = OutcomeAnswer),
        (status = 422, description = "the change is not possible; the message says why")))]
pub(super) async fn activate(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ChoiceBody>,
) -> Answer {
    let command = Command::Activate(body.choice(name));
    run(&state, &actor, command).await
}

/// Runs a version as a canary, which handles a share of the channels.
#[utoipa::path(post, path = "/api/plugins/{name}/canary/", tag = "plugins", params(("name" = String, Path)),
    request_body = CanaryBody, responses((status = 200, body = OutcomeAnswer),
        (status = 422, description = "the change is not possible; the message says why")))]
pub(super) async fn canary(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<CanaryBody>,
) -> Answer {
    let choice = ChoiceBody { version: body.version, config: body.config, tenant: body.tenant };
    let command = Command::Try(choice.choice(name), Trial::Canary(body.percent));
    run(&state, &actor, command).await
}

/// Runs a version as a shadow: it receives every event, and its effects are compared and discarded.
#[utoipa::path(post, path = "/api/plugins/{name}/shadow/", tag = "plugins", params(("name" = String, Path)),
    request_body = ChoiceBody, responses((status = 200, body = OutcomeAnswer),
        (status = 422, description = "the change is not possible; the message says why")))]
pub(super) async fn shadow(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ChoiceBody>,
) -> Answer {
    let command = Command::Try(body.choice(name), Trial::Shadow);
    run(&state, &actor, command).await
}

/// Puts the version on trial in force.
#[utoipa::path(post, path = "/api/plugins/{name}/promote/", tag = "plugins", params(("name" = String, Path)),
    request_body = ForWhom, responses((status = 200, body = OutcomeAnswer),
        (status = 422, description = "the change is not possible; the message says why")))]
pub(super) async fn promote(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ForWhom>,
) -> Answer {
    let command = Command::Promote(name, Scope::from(body.tenant));
    run(&state, &actor, command).await
}

/// Ends the trial, or if there is none, restores what was in force before.
#[utoipa::path(post, path = "/api/plugins/{name}/rollback/", tag = "plugins", params(("name" = String, Path)),
    request_body = ForWhom, responses((status = 200, body = OutcomeAnswer),
        (status = 422, description = "the change is not possible; the message says why")))]
pub(super) async fn rollback(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ForWhom>,
) -> Answer {
    let command = Command::Rollback(name, Scope::from(body.tenant));
    run(&state, &actor, command).await
}

/// Removes the handler of the plugin's types, which are then unknown.
#[utoipa::path(post, path = "/api/plugins/{name}/disable/", tag = "plugins", params(("name" = String, Path)),
    request_body = ForWhom, responses((status = 200, body = OutcomeAnswer),
        (status = 422, description = "the change is not possible; the message says why")))]
pub(super) async fn disable(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ForWhom>,
) -> Answer {
    let command = Command::Disable(name, Scope::from(body.tenant));
    run(&state, &actor, command).await
}

/// Discards a tenant's own decisions about the plugin, so that those for all tenants apply.
#[utoipa::path(post, path = "/api/plugins/{name}/follow/", tag = "plugins", params(("name" = String, Path)),
    request_body = FollowBody, responses((status = 200, body = OutcomeAnswer),
        (status = 422, description = "the change is not possible; the message says why")))]
pub(super) async fn follow(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<FollowBody>,
) -> Answer {
    let command = Command::Follow(name, body.tenant);
    run(&state, &actor, command).await
}

/// Runs a command on the control plane.
pub(super) async fn run(state: &Arc<State>, actor: &str, command: Command) -> Answer {
    let (control, actor) = (Arc::clone(&state.control), actor.to_owned());
    let outcome = to_the_end(async move { control.run(&actor, &command).await }).await?;
    Ok(Json(outcome.into()))
}

/// Completes a change that has begun, even if the client disconnects.
pub(super) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, ControlError>> + Send + 'static,
) -> Result<T, ApiError> {
    let ended = tokio::spawn(change).await.map_err(|_| ApiError::internal())?;
    Ok(ended?)
}
