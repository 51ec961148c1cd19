//! The description of the operators' API, made of the routes themselves.

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
    info(title = "Switchboard for operators", description = "Plugins: deploy, activate, try out, roll back, watch. \
        Show the token as `Authorization: Bearer`; say who asks in `Switchboard-Actor`, for the audit."),
    paths(
        super::plugins::list,
        super::plugins::show,
        super::deploy::deploy,
        super::routes::activate,
        super::routes::canary,
        super::routes::shadow,
        super::routes::promote,
        super::routes::rollback,
        super::routes::disable,
        super::routes::follow,
        super::logs::logs,
        super::policy::grants,
        super::policy::grant,
        super::policy::limits,
        super::policy::limit,
        super::policy::policies,
        super::policy::policy,
        super::policy::consents,
        super::policy::consent,
        super::recordings::record,
        super::audit::audit,
        super::audit::nodes,
    ),
    components(schemas(ApiErrorBody)),
    modifiers(&Common),
    security(("token" = []))
)]
struct Api;

struct Common;

impl Modify for Common {
    /// All routes want the token, and refuse in one form.
    fn modify(&self, description: &mut Description) {
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        for item in description.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.put, &mut item.post].into_iter().flatten() {
                let mut refused = Response::new("It was not done, and why.");
                let body = Content::new(Some(Ref::from_schema_name("Error")));
                refused.content.insert("application/json".to_owned(), body.into());
                operation.responses.responses.insert("default".to_owned(), refused.into());
            }
        }
    }
}

/// The description needs no token: it is the same for every broker of a version, and says nothing of this one.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/api/openapi.json", get(async || Json(Api::openapi())))
}

/// The paths that are described.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = String> {
    Api::openapi().paths.paths.into_keys()
}
