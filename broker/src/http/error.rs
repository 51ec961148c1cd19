//! How a refusal reads over HTTP.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::deploy::DeskError;
use crate::effects::refusal;
use crate::identity::IdentityError;
use crate::protocol::{ErrorCode, Refusal};
use crate::store::StoreError;

/// A refusal with its status: `{"error":{"code","message","retryable","field"?}}`.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    refusal: Refusal,
    field: Option<&'static str>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'static str,
    message: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
}

impl ApiError {
    /// No valid token, or no valid password: one answer for every reason.
    pub(super) fn unauthorized() -> Self {
        Refusal::new(ErrorCode::Unauthorized, "no valid token or password was given").into()
    }

    /// Malformed, as a whole or in one field.
    pub(super) fn bad(field: Option<&'static str>, message: &'static str) -> Self {
        Self { field, ..Refusal::new(ErrorCode::BadRequest, message).into() }
    }

    /// Not for this member.
    pub(super) fn denied(message: &'static str) -> Self {
        Refusal::new(ErrorCode::Denied, message).into()
    }

    /// No such route.
    pub(super) fn not_found() -> Self {
        let refusal = Refusal::new(ErrorCode::BadRequest, "there is nothing at this path; paths end in a slash");
        Self { status: StatusCode::NOT_FOUND, refusal, field: None }
    }

    /// What the path names is not there.
    pub(super) fn missing(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Refusal::new(ErrorCode::BadRequest, message).into() }
    }

    /// The broker's own fault.
    pub(super) fn internal() -> Self {
        Refusal::new(ErrorCode::Internal, "the broker failed to do this; its log says more").into()
    }

    /// No such method on this route.
    pub(super) fn method_not_allowed() -> Self {
        let refusal = Refusal::new(ErrorCode::BadRequest, "this path does not take this method");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, refusal, field: None }
    }

    /// A body that cannot be read, with the status that says why.
    pub(super) fn body(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::TooLarge, "the body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (ErrorCode::BadRequest, "send Content-Type: application/json"),
            _ => (ErrorCode::BadRequest, "the body is not the JSON object that is expected here"),
        };
        let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
        Self { status, refusal: Refusal::new(code, message), field: None }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, refusal, field: None }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        refusal(&error).into()
    }
}

impl From<DeskError> for ApiError {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Refused(_) | DeskError::Unfit(_) => Refusal::new(ErrorCode::Rejected, error.to_string()).into(),
            DeskError::Busy => Refusal::new(ErrorCode::Overloaded, error.to_string()).into(),
            DeskError::Store(error) => error.into(),
        }
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Refused => Self::unauthorized(),
            IdentityError::Busy => Refusal::new(ErrorCode::RateLimited, "too many log-ins; try again").into(),
            IdentityError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let inner = Inner {
            code: self.refusal.code.name(),
            message: &self.refusal.message,
            retryable: self.refusal.code.retryable(),
            field: self.field,
        };
        (self.status, Json(Body { error: inner })).into_response()
    }
}
