//! The routes for operators: health and metrics for whoever can reach the listener, plugins for who has the token.

mod answers;
mod audit;
mod deploy;
mod guard;
mod logs;
mod openapi;
mod plugins;
mod routes;
mod terms;

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};

use super::State;
use super::error::ApiError;

/// The routes of the listener for operators.
pub(super) fn routes(state: Arc<State>) -> Router {
    health()
        .merge(openapi::routes())
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .merge(guarded(&state))
        .with_state(state)
}

/// The routes that both listeners have.
pub(super) fn health() -> Router<Arc<State>> {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// What needs the token, also to learn that a path is not there.
fn guarded(state: &Arc<State>) -> Router<Arc<State>> {
    Router::new()
        .route("/api/plugins/", get(plugins::list).post(deploy::deploy))
        .route("/api/plugins/{name}/", get(plugins::show))
        .route("/api/plugins/{name}/activate/", post(routes::activate))
        .route("/api/plugins/{name}/canary/", post(routes::canary))
        .route("/api/plugins/{name}/shadow/", post(routes::shadow))
        .route("/api/plugins/{name}/promote/", post(routes::promote))
        .route("/api/plugins/{name}/rollback/", post(routes::rollback))
        .route("/api/plugins/{name}/disable/", post(routes::disable))
        .route("/api/plugins/{name}/follow/", post(routes::follow))
        .route("/api/plugins/{name}/logs/", get(logs::logs))
        .route("/api/plugins/{name}/grants/", get(terms::grants).put(terms::grant))
        .route("/api/plugins/{name}/limits/", get(terms::limits).put(terms::limit))
        .route("/api/policies/", get(terms::policies))
        .route("/api/policies/{kind}/", put(terms::policy))
        .route("/api/consents/", get(terms::consents))
        .route("/api/consents/{tenant}/", put(terms::consent))
        .route("/api/audit/", get(audit::audit))
        .route("/api/nodes/", get(audit::nodes))
        .route("/api/{*path}", axum::routing::any(async || ApiError::not_found()))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(from_fn_with_state(Arc::clone(state), guard::operators_only))
}

async fn livez() -> &'static str {
    "live\n"
}

/// Ready: the store answers and the broker is not going away. A lost bus degrades the broker and is said, but clients of
/// this node are served.
async fn readyz(Extract(state): Extract<Arc<State>>) -> Response {
    if state.services.draining.borrow().is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if let Err(error) = state.services.store.ping().await {
        tracing::warn!(%error, "not ready: the store does not answer");
        return (StatusCode::SERVICE_UNAVAILABLE, "store unavailable\n").into_response();
    }
    let word = if state.bus.is_connected() { "ready\n" } else { "degraded: bus unavailable\n" };
    word.into_response()
}

async fn metrics(Extract(state): Extract<Arc<State>>) -> String {
    state.metrics.render()
}
