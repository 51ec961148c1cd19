//! Who handles what: activate, try out, promote, roll back, disable, follow.

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

/// Which generation of the plugin, and for whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChoiceBody {
    /// The version, or `built-in`; none: the one deployed last.
    version: Option<String>,
    /// The text for `init`; none: that of the generation in force.
    config: Option<String>,
    /// The tenant; none: for all.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
}

/// As for `activate`, and for how many of the channels.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CanaryBody {
    /// The version; none: the one deployed last.
    version: Option<String>,
    /// The text for `init`; none: that of the generation in force.
    config: Option<String>,
    /// The tenant; none: for all.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantSlug>,
    /// Per cent of the channels, 1 to 99.
    percent: u8,
}

/// The tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowBody {
    /// Who gives its own decisions up.
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
    request_body = ChoiceBody, responses((status = 200, body = OutcomeAnswer), (status = 422, description = "why not")))]
pub(super) async fn activate(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ChoiceBody>,
) -> Answer {
    let command = Command::Activate(body.choice(name));
    run(&state, &actor, command).await
}

/// Lets a version handle a part of the channels.
#[utoipa::path(post, path = "/api/plugins/{name}/canary/", tag = "plugins", params(("name" = String, Path)),
    request_body = CanaryBody, responses((status = 200, body = OutcomeAnswer), (status = 422, description = "why not")))]
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

/// Gives a version every event beside the one in force, and compares.
#[utoipa::path(post, path = "/api/plugins/{name}/shadow/", tag = "plugins", params(("name" = String, Path)),
    request_body = ChoiceBody, responses((status = 200, body = OutcomeAnswer), (status = 422, description = "why not")))]
pub(super) async fn shadow(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ChoiceBody>,
) -> Answer {
    let command = Command::Try(body.choice(name), Trial::Shadow);
    run(&state, &actor, command).await
}

/// Puts what is tried out in force.
#[utoipa::path(post, path = "/api/plugins/{name}/promote/", tag = "plugins", params(("name" = String, Path)),
    request_body = ForWhom, responses((status = 200, body = OutcomeAnswer), (status = 422, description = "why not")))]
pub(super) async fn promote(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ForWhom>,
) -> Answer {
    let command = Command::Promote(name, Scope::from(body.tenant));
    run(&state, &actor, command).await
}

/// Stops what is tried out; when nothing is, goes back to what was in force before.
#[utoipa::path(post, path = "/api/plugins/{name}/rollback/", tag = "plugins", params(("name" = String, Path)),
    request_body = ForWhom, responses((status = 200, body = OutcomeAnswer), (status = 422, description = "why not")))]
pub(super) async fn rollback(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ForWhom>,
) -> Answer {
    let command = Command::Rollback(name, Scope::from(body.tenant));
    run(&state, &actor, command).await
}

/// Lets nobody handle the plugin's types.
#[utoipa::path(post, path = "/api/plugins/{name}/disable/", tag = "plugins", params(("name" = String, Path)),
    request_body = ForWhom, responses((status = 200, body = OutcomeAnswer), (status = 422, description = "why not")))]
pub(super) async fn disable(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<ForWhom>,
) -> Answer {
    let command = Command::Disable(name, Scope::from(body.tenant));
    run(&state, &actor, command).await
}

/// Gives up what a tenant decided about the plugin.
#[utoipa::path(post, path = "/api/plugins/{name}/follow/", tag = "plugins", params(("name" = String, Path)),
    request_body = FollowBody, responses((status = 200, body = OutcomeAnswer), (status = 422, description = "why not")))]
pub(super) async fn follow(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Known(name): Known,
    Fields(body): Fields<FollowBody>,
) -> Answer {
    let command = Command::Follow(name, body.tenant);
    run(&state, &actor, command).await
}

/// Has the control do it.
pub(super) async fn run(state: &Arc<State>, actor: &str, command: Command) -> Answer {
    let (control, actor) = (Arc::clone(&state.control), actor.to_owned());
    let outcome = to_the_end(async move { control.run(&actor, &command).await }).await?;
    Ok(Json(outcome.into()))
}

/// A change that was begun is ended, whether or not who asked still listens.
pub(super) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, ControlError>> + Send + 'static,
) -> Result<T, ApiError> {
    let ended = tokio::spawn(change).await.map_err(|_| ApiError::internal())?;
    Ok(ended?)
}
