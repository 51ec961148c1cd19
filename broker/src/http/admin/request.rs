//! The parts of operators' requests, parsed strictly: an unknown name is refused and quoted.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::super::body;
use super::super::error::ApiError;
use super::super::state::State;
use crate::model::PluginName;

/// Maximum size of a JSON body in bytes: a configuration of 64 KiB with every byte escaped, and room for the rest.
const MAX_JSON: usize = 448 << 10;

/// The header in which a tool names its user.
const ACTOR: &str = "switchboard-actor";

/// Maximum length of the name in characters.
const MAX_ACTOR: usize = 100;

/// The name of the caller for the audit, if the tool sends one, or else `operator`.
pub(super) struct Actor(pub(super) String);

/// The plugin in the path, which need not exist: some decisions are possible in advance.
pub(super) struct Named(pub(super) PluginName);

/// The plugin in the path, which exists.
pub(super) struct Known(pub(super) PluginName);

/// A JSON body. An empty body counts as an empty object.
pub(super) struct Fields<T>(pub(super) T);

/// The parameters of the query.
pub(super) struct Parameters<T>(pub(super) T);

impl FromRequestParts<Arc<State>> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<State>) -> Result<Self, ApiError> {
        let Some(said) = parts.headers.get(ACTOR) else { return Ok(Self("operator".to_owned())) };
        let said = std::str::from_utf8(said.as_bytes()).unwrap_or_default();
        if said.is_empty() || said.chars().count() > MAX_ACTOR || said.chars().any(char::is_control) {
            return Err(ApiError::bad(
                Some("Switchboard-Actor"),
                "the name of the caller must have 1 to 100 printable characters",
            ));
        }
        // This name is for the broker's own changes.
        if said == "broker" {
            return Err(ApiError::bad(Some("Switchboard-Actor"), "`broker` is reserved for the broker itself"));
        }
        Ok(Self(said.to_owned()))
    }
}

impl FromRequestParts<Arc<State>> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let name = path.map(|Path(name)| name).unwrap_or_default();
        name.parse().map(Self).map_err(|_| unknown(&name))
    }
}

impl FromRequestParts<Arc<State>> for Known {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let Named(name) = Named::from_request_parts(parts, state).await?;
        if state.control.knows(&name).await? { Ok(Self(name)) } else { Err(unknown(name.as_str())) }
    }
}

impl<T: DeserializeOwned> FromRequestParts<Arc<State>> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(malformed("the query", &innermost(&rejection))),
        }
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<State>> for Fields<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Arc<State>) -> Result<Self, ApiError> {
        let body = body::read(request, MAX_JSON, body::WITHIN).await?;
        let text: &[u8] = if body.trim_ascii().is_empty() { b"{}" } else { &body };
        serde_json::from_slice(text).map(Self).map_err(|error| malformed("the body", &error.to_string()))
    }
}

/// No plugin of this name is built in, was given at the start, or was deployed.
fn unknown(name: &str) -> ApiError {
    let said: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    ApiError::missing(format!("there is no plugin `{said}`; `switchboard plugin list` lists the plugins"))
}

/// The error of a parser, with the name that it mentions as the field.
fn malformed(what: &str, found: &str) -> ApiError {
    // Without the position, which refers to a document that the sender does not see.
    let found = found.split(" at line ").next().unwrap_or(found);
    let field = found.contains(" field `").then(|| found.split('`').nth(1)).flatten();
    ApiError::bad(None, format!("{what} does not have the expected form: {found}"))
        .about(field.map(|field| field.to_owned().into()))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
