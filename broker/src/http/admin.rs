//! The routes for operators: health and metrics for everyone who can reach the listener, plugins for holders of the token.

mod answers;
mod audit;
mod deploy;
mod guard;
mod logs;
mod openapi;
mod plugins;
mod policy;
mod recordings;
mod request;
mod routes;

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::state::State;

/// All routes of the listener for operators.
pub(super) fn routes(state: Arc<State>) -> Router {
    let (guarded, description) = guarded().split_for_parts();
    // Guard whole routes, including methods that they do not support.
    let guarded = guarded
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .route_layer(from_fn_with_state(Arc::clone(&state), guard::check));
    health()
        .route("/metrics", get(metrics))
        .merge(openapi::routes(description))
        .merge(guarded)
        .fallback(async || ApiError::not_found())
        .with_state(state)
}

/// The routes of both listeners.
pub(super) fn health() -> Router<Arc<State>> {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz))
}

/// The routes that require the token. A handler declares the path, the method and the description of its route.
fn guarded() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::with_openapi(openapi::without_routes())
        .routes(routes!(plugins::list, deploy::deploy))
        .routes(routes!(plugins::show))
        .routes(routes!(routes::activate))
        .routes(routes!(routes::canary))
        .routes(routes!(routes::shadow))
        .routes(routes!(routes::promote))
        .routes(routes!(routes::rollback))
        .routes(routes!(routes::disable))
        .routes(routes!(routes::follow))
        .routes(routes!(logs::logs))
        .routes(routes!(policy::grants, policy::grant))
        .routes(routes!(policy::limits, policy::limit))
        .routes(routes!(policy::policies))
        .routes(routes!(policy::policy))
        .routes(routes!(policy::consents))
        .routes(routes!(policy::consent))
        .routes(routes!(recordings::record))
        .routes(routes!(audit::audit))
        .routes(routes!(audit::nodes))
}

async fn livez() -> &'static str {
    "live\n"
}

/// The broker is ready if the store answers and the broker is not draining. Without the bus it is degraded, but still
/// serves the clients of this node.
async fn readyz(Extract(state): Extract<Arc<State>>) -> Response {
    if state.draining.borrow().is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if let Err(error) = state.store.ping().await {
        tracing::warn!(%error, "not ready: the store does not answer");
        return (StatusCode::SERVICE_UNAVAILABLE, "store unavailable\n").into_response();
    }
    if !state.bus.is_connected() {
        return "degraded: bus unavailable\n".into_response();
    }
    match node_with_another_secret(&state).await {
        Some(node) => format!("degraded: node {node} has another secret\n").into_response(),
        None => "ready\n".into_response(),
    }
}

/// A living node that does not accept the tokens of this one, or the reverse. A status that cannot be read says nothing.
async fn node_with_another_secret(state: &State) -> Option<String> {
    let nodes = state.control.nodes().await.ok()?;
    let differs = |secret: &String| !state.keys.agrees_with(secret);
    nodes.into_iter().find(|node| node.secret.as_ref().is_some_and(differs)).map(|node| node.node)
}

async fn metrics(Extract(state): Extract<Arc<State>>) -> String {
    state.metrics.render()
}
