//! The form of errors over HTTP.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::deploy::ControlError;
use crate::identity::IdentityError;
use crate::protocol::{ErrorCode, Refusal};
use crate::store::StoreError;

/// A refusal with its HTTP status: `{"error":{"code","message","retryable","field"?}}`.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    /// The time for the header `Retry-After`, in milliseconds.
    retry_after_ms: Option<u32>,
    inner: Inner,
}

/// Why the broker refused a request, or failed to serve it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct Body {
    error: Inner,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reason)]
struct Inner {
    /// Name of the error, for programs.
    #[schema(value_type = String)]
    code: &'static str,
    /// One line for people that says what to do or to correct.
    #[schema(value_type = String)]
    message: Cow<'static, str>,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// The member or parameter at fault, if it is a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    field: Option<Cow<'static, str>>,
}

impl ApiError {
    /// There is no valid token or password. The answer is the same for every reason.
    pub(super) fn unauthorized() -> Self {
        Refusal::new(ErrorCode::Unauthorized, "no valid token or password was given").into()
    }

    /// The request is malformed, as a whole or in one field.
    pub(super) fn bad(field: Option<&'static str>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::from(Refusal::new(ErrorCode::BadRequest, message)).about(field.map(Cow::Borrowed))
    }

    /// The member may not do this.
    pub(super) fn denied(message: &'static str) -> Self {
        Refusal::new(ErrorCode::Denied, message).into()
    }

    /// There is no such route.
    pub(super) fn not_found() -> Self {
        Self::bad(None, "there is nothing at this path; paths end with a slash").with(StatusCode::NOT_FOUND)
    }

    /// What the path names does not exist.
    pub(super) fn missing(message: String) -> Self {
        Self::bad(None, message).with(StatusCode::NOT_FOUND)
    }

    /// The broker is at fault.
    pub(super) fn internal() -> Self {
        Refusal::new(ErrorCode::Internal, "the broker failed to serve this request; its log says why").into()
    }

    /// The route does not support the method.
    pub(super) fn method_not_allowed() -> Self {
        Self::bad(None, "this path does not support this method").with(StatusCode::METHOD_NOT_ALLOWED)
    }

    /// The body cannot be read; the status says why.
    pub(super) fn body(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::TooLarge, "the body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (ErrorCode::BadRequest, "send Content-Type: application/json"),
            _ => (ErrorCode::BadRequest, "the body must be the JSON object that this route expects"),
        };
        let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
        Self::from(Refusal::new(code, message)).with(status)
    }

    /// The same error, about one member or parameter.
    pub(super) fn about(mut self, field: Option<Cow<'static, str>>) -> Self {
        self.inner.field = field;
        self
    }

    /// The same error, with a different status.
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
        Refusal::from(error).into()
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
                let message = format!("too many log-in attempts; try again in {} s", seconds(after));
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
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after_ms {
            let after = seconds(Duration::from_millis(after.into()));
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after));
        }
        response
    }
}

/// Rounds up to whole seconds, at least one.
fn seconds(after: Duration) -> u64 {
    after.as_secs() + u64::from(after.subsec_nanos() > 0 || after.is_zero())
}
