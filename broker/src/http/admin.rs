//! The routes for operators: health and metrics for whoever can reach the listener, plugins for who has the token.

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
use axum::routing::{MethodRouter, get, post, put};

use super::error::ApiError;
use super::state::State;

/// The routes of the listener for operators.
pub(super) fn routes(state: Arc<State>) -> Router {
    // A route is guarded whole, with the methods that it does not take.
    let guarded = guarded()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .route_layer(from_fn_with_state(Arc::clone(&state), guard::check));
    health().merge(openapi::routes()).merge(guarded).fallback(async || ApiError::not_found()).with_state(state)
}

/// The routes that both listeners have.
pub(super) fn health() -> Router<Arc<State>> {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// What needs the token.
fn guarded() -> Vec<(&'static str, MethodRouter<Arc<State>>)> {
    vec![
        ("/api/plugins/", get(plugins::list).post(deploy::deploy)),
        ("/api/plugins/{name}/", get(plugins::show)),
        ("/api/plugins/{name}/activate/", post(routes::activate)),
        ("/api/plugins/{name}/canary/", post(routes::canary)),
        ("/api/plugins/{name}/shadow/", post(routes::shadow)),
        ("/api/plugins/{name}/promote/", post(routes::promote)),
        ("/api/plugins/{name}/rollback/", post(routes::rollback)),
        ("/api/plugins/{name}/disable/", post(routes::disable)),
        ("/api/plugins/{name}/follow/", post(routes::follow)),
        ("/api/plugins/{name}/logs/", get(logs::logs)),
        ("/api/plugins/{name}/grants/", get(policy::grants).put(policy::grant)),
        ("/api/plugins/{name}/limits/", get(policy::limits).put(policy::limit)),
        ("/api/policies/", get(policy::policies)),
        ("/api/policies/{kind}/", put(policy::policy)),
        ("/api/consents/", get(policy::consents)),
        ("/api/consents/{tenant}/", put(policy::consent)),
        ("/api/recordings/", post(recordings::record)),
        ("/api/audit/", get(audit::audit)),
        ("/api/nodes/", get(audit::nodes)),
    ]
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_needs_the_token_is_described_and_nothing_else_is() {
        let served: BTreeSet<String> = guarded().into_iter().map(|(path, _)| path.to_owned()).collect();
        assert_eq!(served, openapi::paths().collect());
    }
}
