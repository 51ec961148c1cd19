//! The OpenAPI description of the operators' API, generated from the routes.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Description, Ref, Response};
use utoipa::{Modify, OpenApi};

use super::super::error::Body as ApiErrorBody;
use super::super::state::State;

#[derive(OpenApi)]
#[openapi(
    info(title = "Switchboard for operators", description = "Deploy, activate, try out, roll back and monitor plugins. \
        Send the token as `Authorization: Bearer TOKEN`. Name the caller for the audit in `Switchboard-Actor`."),
    components(schemas(ApiErrorBody)),
    security(("token" = []))
)]
struct Api;

struct Common;

impl Modify for Common {
    /// All routes require the token, and their errors have the same form.
    fn modify(&self, description: &mut Description) {
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        for item in description.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.put, &mut item.post].into_iter().flatten() {
                let mut refused = Response::new("The request was refused or failed; the message says why.");
                let body = Content::new(Some(Ref::from_schema_name("Error")));
                refused.content.insert("application/json".to_owned(), body.into());
                operation.responses.responses.insert("default".to_owned(), refused.into());
            }
        }
    }
}

/// The part that is common to all routes. The routes are added where they are declared.
pub(super) fn without_routes() -> Description {
    Api::openapi()
}

/// The description needs no token: it is the same for every broker of a version, and reveals nothing about this one.
pub(super) fn routes(mut description: Description) -> Router<Arc<State>> {
    Common.modify(&mut description);
    Router::new().route("/api/openapi.json", get(async || Json(description)))
}
