//! How a refusal reads over HTTP.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::deploy::ControlError;
use crate::effects::refusal;
use crate::identity::IdentityError;
use crate::protocol::{ErrorCode, Refusal};
use crate::store::StoreError;

/// A refusal with its status: `{"error":{"code","message","retryable","field"?}}`.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    /// What the header `Retry-After` says, in milliseconds.
    retry_after_ms: Option<u32>,
    inner: Inner,
}

/// Why something was not done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct Body {
    error: Inner,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reason)]
struct Inner {
    /// A word for programs.
    #[schema(value_type = String)]
    code: &'static str,
    /// One line for people: what to do or what to correct.
    #[schema(value_type = String)]
    message: Cow<'static, str>,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// What it is about, when it is one member or parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    field: Option<Cow<'static, str>>,
}

impl ApiError {
    /// No valid token, or no valid password: one answer for every reason.
    pub(super) fn unauthorized() -> Self {
        Refusal::new(ErrorCode::Unauthorized, "no valid token or password was given").into()
    }

    /// Malformed, as a whole or in one field.
    pub(super) fn bad(field: Option<&'static str>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::from(Refusal::new(ErrorCode::BadRequest, message)).about(field.map(Cow::Borrowed))
    }

    /// Not for this member.
    pub(super) fn denied(message: &'static str) -> Self {
        Refusal::new(ErrorCode::Denied, message).into()
    }

    /// No such route.
    pub(super) fn not_found() -> Self {
        Self::bad(None, "there is nothing at this path; paths end in a slash").with(StatusCode::NOT_FOUND)
    }

    /// What the path names is not there.
    pub(super) fn missing(message: String) -> Self {
        Self::bad(None, message).with(StatusCode::NOT_FOUND)
    }

    /// The broker's own fault.
    pub(super) fn internal() -> Self {
        Refusal::new(ErrorCode::Internal, "the broker failed to do this; its log says more").into()
    }

    /// No such method on this route.
    pub(super) fn method_not_allowed() -> Self {
        Self::bad(None, "this path does not take this method").with(StatusCode::METHOD_NOT_ALLOWED)
    }

    /// A body that cannot be read, with the status that says why.
    pub(super) fn body(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::TooLarge, "the body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (ErrorCode::BadRequest, "send Content-Type: application/json"),
            _ => (ErrorCode::BadRequest, "the body is not the JSON object that is expected here"),
        };
        let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
        Self::from(Refusal::new(code, message)).with(status)
    }

    /// The same about one member or parameter.
    pub(super) fn about(mut self, field: Option<Cow<'static, str>>) -> Self {
        self.inner.field = field;
        self
    }

    /// The same with another status.
    pub(super) fn with(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (code, retryable) = (refusal.code.name(), refusal.code.retryable());
        let inner = Inner { code, message: refusal.message, retryable, field: None };
        Self { status, retry_after_ms: refusal.retry_after_ms, inner }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        refusal(&error).into()
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused(_) | ControlError::Unfit(_) => {
                Refusal::new(ErrorCode::Rejected, error.to_string()).into()
            }
            ControlError::Busy => Refusal::new(ErrorCode::Overloaded, error.to_string()).into(),
            ControlError::Store(error) => error.into(),
        }
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Refused => Self::unauthorized(),
            IdentityError::Busy(after) => {
                let message = format!("too many log-ins were tried; try again in {} s", seconds(after));
                let after = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
                Refusal { retry_after_ms: Some(after), ..Refusal::new(ErrorCode::RateLimited, message) }.into()
            }
            IdentityError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Body { error: self.inner })).into_response();
        if let Some(after) = self.retry_after_ms {
            let after = seconds(Duration::from_millis(after.into()));
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after));
        }
        response
    }
}

/// Whole seconds, and never too early.
fn seconds(after: Duration) -> u64 {
    after.as_secs() + u64::from(after.subsec_nanos() > 0 || after.is_zero())
}
