//! The REST routes for clients and backends, one file per resource.

mod channels;
mod extract;
mod me;
mod members;
mod messages;
mod presence;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};

use super::error::ApiError;
use super::state::State;
use super::{admin, cors, page};

/// The routes of the listener for clients.
pub(super) fn routes(state: Arc<State>) -> Router {
    let api = Router::new()
        .route("/api/token/", post(tokens::log_in))
        .route("/api/token/refresh/", post(tokens::refresh))
        .route("/api/token/verify/", post(tokens::verify))
        .route("/api/token/blacklist/", post(tokens::blacklist))
        .route("/api/me/", get(me::show))
        .route("/api/channels/", get(channels::list).post(channels::create))
        .route("/api/channels/{channel}/", get(channels::show))
        .route("/api/channels/{channel}/members/", get(members::list).post(members::add))
        .route("/api/channels/{channel}/members/{user}/", delete(members::remove))
        .route("/api/channels/{channel}/messages/", get(messages::list).post(messages::post))
        .route("/api/channels/{channel}/presence/", get(presence::list))
        .route("/api/channels/{channel}/read/", post(messages::read))
        // Before CORS, which must see the methods that a route does not have: one of them is how browsers ask.
        .method_not_allowed_fallback(async || ApiError::method_not_allowed());
    cors::allow(api, &state)
        .merge(admin::health())
        .merge(page::routes())
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .with_state(state)
}
