//! The description of the operators' API, made of the routes themselves.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::super::State;

#[derive(OpenApi)]
#[openapi(
    info(title = "Switchboard for operators", description = "Plugins: deploy, activate, try out, roll back, watch."),
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
        super::terms::grants,
        super::terms::grant,
        super::terms::limits,
        super::terms::limit,
        super::terms::policies,
        super::terms::policy,
        super::terms::consents,
        super::terms::consent,
        super::audit::audit,
        super::audit::nodes,
    ),
    modifiers(&Token),
    security(("token" = []))
)]
struct Description;

struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// The description needs no token: it says nothing of this broker.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/api/openapi.json", get(async || Json(Description::openapi())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let described = Description::openapi();
        let source = include_str!("../admin.rs");
        let mut routes = 0;
        for line in source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"/api/")) {
            let Some((path, methods)) = line.split_once("\", ") else { panic!("{line}") };
            if path.contains("{*") {
                continue;
            }
            let path = format!("/api/{path}");
            let item = described.paths.paths.get(&path).unwrap_or_else(|| panic!("{path} is not described"));
            for (method, operation) in [("get(", &item.get), ("post(", &item.post), ("put(", &item.put)] {
                assert_eq!(methods.contains(method), operation.is_some(), "{method} of {path}");
            }
            routes += 1;
        }
        assert_eq!(routes, described.paths.paths.len(), "nothing is described that is not there");
    }
}
