//! What requests of operators consist of, read strictly: a name that is not known is refused and said.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::super::State;
use super::super::error::ApiError;
use crate::model::PluginName;
use crate::protocol::{ErrorCode, Refusal};

/// The largest JSON body in bytes: a configuration of 64 KiB with everything in it escaped, and room for what is around it.
const MAX_JSON: usize = 448 << 10;

/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// The header in which an operator's tool says who uses it.
const ACTOR: &str = "switchboard-actor";

/// Characters that it may have.
const MAX_ACTOR: usize = 100;

/// Who asks, for the audit, as far as the tool says; else `operator`.
pub(super) struct Actor(pub(super) String);

/// A plugin of the path. Some things can be decided about one that is not there yet.
pub(super) struct Named(pub(super) PluginName);

/// A plugin of the path that is there.
pub(super) struct Known(pub(super) PluginName);

/// A JSON body. None at all is an empty object.
pub(super) struct Fields<T>(pub(super) T);

/// The parameters of the query.
pub(super) struct Parameters<T>(pub(super) T);

impl FromRequestParts<Arc<State>> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<State>) -> Result<Self, ApiError> {
        let Some(said) = parts.headers.get(ACTOR) else { return Ok(Self("operator".to_owned())) };
        let said = std::str::from_utf8(said.as_bytes()).unwrap_or_default();
        if said.is_empty() || said.chars().count() > MAX_ACTOR || said.chars().any(char::is_control) {
            return Err(ApiError::bad(Some("Switchboard-Actor"), "who asks has 1 to 100 printable characters"));
        }
        // What the broker does by itself is its own.
        if said == "broker" {
            return Err(ApiError::bad(Some("Switchboard-Actor"), "nobody but the broker is called that"));
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
        if state.desk.knows(&name).await? { Ok(Self(name)) } else { Err(unknown(name.as_str())) }
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
        let body = read(request, MAX_JSON).await?;
        let text: &[u8] = if body.trim_ascii().is_empty() { b"{}" } else { &body };
        serde_json::from_slice(text).map(Self).map_err(|error| malformed("the body", &error.to_string()))
    }
}

/// The whole body, refused by its length as soon as that is known.
pub(super) async fn read(request: Request, most: usize) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        let message = format!("the body has more than {most} bytes, which is the most here");
        ApiError::from(Refusal::new(ErrorCode::TooLarge, message))
    };
    let claimed = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if claimed.is_some_and(|claimed| claimed > most as u64) {
        return Err(too_large());
    }
    let reading = async {
        let mut body: Vec<u8> = Vec::new();
        let mut stream = Body::into_data_stream(request.into_body());
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|_| ApiError::bad(None, "the body ended early"))?;
            if piece.len() > most - body.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    };
    let late = ApiError::bad(None, "the body did not arrive within a minute").with(StatusCode::REQUEST_TIMEOUT);
    tokio::time::timeout(BODY_WITHIN, reading).await.unwrap_or(Err(late))
}

/// No plugin of this name came with the broker or was deployed.
fn unknown(name: &str) -> ApiError {
    let said: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    ApiError::missing(format!("there is no plugin `{said}`; `switchboard plugin list` says which there are"))
}

/// What a parser found, with the name that it complains about as the field.
fn malformed(what: &str, found: &str) -> ApiError {
    // The place counts in a document that the sender does not see.
    let found = found.split(" at line ").next().unwrap_or(found);
    let field = found.contains(" field `").then(|| found.split('`').nth(1)).flatten();
    ApiError::bad(None, format!("{what} is not what is expected here: {found}"))
        .about(field.map(|field| field.to_owned().into()))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
