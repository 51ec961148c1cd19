//! Reads the body of a request, with limits on its size and time: a client that sends only a length, or one byte a second,
//! must not occupy a connection for as long as it likes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::error::ApiError;
use crate::protocol::{ErrorCode, Refusal};

/// Time within which a JSON body must arrive.
pub(super) const WITHIN: Duration = Duration::from_secs(20);

/// The whole body. A body that is too long is refused as soon as its length is known.
pub(super) async fn read(request: Request, most: usize, within: Duration) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        let message = format!("the body has more than {most} bytes, the maximum here");
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
    timeout(within, reading).await.unwrap_or_else(|_| {
        crate::metrics::REQUESTS_LATE.handle().increment(1);
        let message = format!("the body did not arrive within {} seconds", within.as_secs());
        Err(ApiError::bad(None, message).with(StatusCode::REQUEST_TIMEOUT))
    })
}
