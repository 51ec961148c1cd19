//! `/api/channels/{channel}/messages/`: history by `seq`, and posting through the handlers that sockets use.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::super::error::ApiError;
use super::super::paging::{Page, link};
use super::super::query::{self, Limit};
use super::super::state::State;
use super::extract::{Body, InChannel};
use crate::model::json;
use crate::model::{ChannelId, ChannelKey, Epoch, Message, MessageId, Timestamp};
use crate::protocol::{ClientFrame, parse};
use crate::router::Routed;
use crate::store::Span;

/// The type of a posted frame without a `type`.
const DEFAULT_TYPE: &str = "chat.message";

/// The type of the frame that `/read/` sends.
const READ_TYPE: &str = "message.read";

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    limit: Limit,
    before: Option<u64>,
    after: Option<u64>,
}

/// Lists messages in ascending `seq`: the newest, those before a `seq`, or those after one. `previous` leads to older
/// messages, `next` to newer ones.
pub(super) async fn list(
    Extract(state): Extract<Arc<State>>,
    member: InChannel,
    uri: Uri,
) -> Result<Json<Page<Message>>, ApiError> {
    let query: ListQuery = query::read(&uri, "`limit` must be a number; `before` and `after` numbers, 0 or more")?;
    let span = match (query.before, query.after) {
        (Some(_), Some(_)) => return Err(ApiError::bad(None, "give `before` or `after`, not both")),
        (Some(before), None) => Span::Before(before),
        (None, Some(after)) => Span::After(after),
        (None, None) => Span::Latest,
    };
    let Limit(limit) = query.limit;
    let results = state.store.messages(&member.principal.tenant, member.channel, span, limit).await?;
    let full = results.len() == limit as usize;
    let older = results.first().map(|first| first.seq).filter(|seq| *seq > 1);
    let newer = results.last().map(|last| last.seq).filter(|_| full || !matches!(span, Span::After(_)));
    let previous = older.map(|seq| link(&uri, limit, "before", &seq.to_string()));
    let next = match span {
        Span::Latest => None,
        _ => newer.map(|seq| link(&uri, limit, "after", &seq.to_string())),
    };
    Ok(Json(Page { next, previous, results }))
}

/// The answer to a post, with the content of an ack.
#[derive(Serialize)]
pub(super) struct Posted {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    channel: ChannelId,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    created_at: Timestamp,
    duplicate: bool,
}

/// Handles a frame as if a socket had sent it; `id` makes it idempotent. Answers 201 if something was stored, and 200 if
/// the same request was answered before or there was nothing to store.
pub(super) async fn post(
    Extract(state): Extract<Arc<State>>,
    member: InChannel,
    Body(body): Body<Box<RawValue>>,
) -> Result<(StatusCode, Json<Posted>), ApiError> {
    let mut frame = members(&body)?;
    frame.entry("type".to_owned()).or_insert_with(|| word(DEFAULT_TYPE));
    dispatch(&state, member, frame).await
}

/// Marks everything up to a message as read, with the handler of `message.read`.
pub(super) async fn read(
    Extract(state): Extract<Arc<State>>,
    member: InChannel,
    Body(body): Body<Box<RawValue>>,
) -> Result<(StatusCode, Json<Posted>), ApiError> {
    let mut frame = members(&body)?;
    frame.insert("type".to_owned(), word(READ_TYPE));
    dispatch(&state, member, frame).await
}

/// A frame as a map from names to values, each exactly as sent.
type Frame = BTreeMap<String, Box<RawValue>>;

fn members(body: &RawValue) -> Result<Frame, ApiError> {
    json::check(body.get()).map_err(|unfit| ApiError::bad(None, format!("the body {unfit}")))?;
    serde_json::from_str(body.get()).map_err(|_| ApiError::body(StatusCode::BAD_REQUEST))
}

fn word(text: &str) -> Box<RawValue> {
    to_raw_value(text).expect("a text is always JSON")
}

async fn dispatch(state: &State, member: InChannel, mut frame: Frame) -> Result<(StatusCode, Json<Posted>), ApiError> {
    // The path names the channel.
    frame.remove("channel");
    let text = serde_json::to_string(&frame).expect("names and JSON are always JSON");
    let event = match parse(text).map_err(|bad| bad.refusal)? {
        ClientFrame::Event(event) => event,
        _ => return Err(ApiError::bad(Some("type"), "only a socket can send this type")),
    };
    let key = ChannelKey { tenant: member.principal.tenant, channel: member.channel };
    match state.router.dispatch(&key, &member.principal.user, None, event, None).await.routed().await {
        Routed::Refused(refusal) | Routed::Dropped(refusal) => Err(refusal.into()),
        Routed::Applied(applied) => {
            let duplicate = applied.duplicate;
            let stored = applied.receipt.as_ref().is_some_and(|receipt| receipt.message.is_some()) && !duplicate;
            let status = if stored { StatusCode::CREATED } else { StatusCode::OK };
            let posted = match applied.receipt {
                Some(receipt) => Posted {
                    message_id: receipt.message,
                    channel: member.channel,
                    epoch: Some(receipt.epoch),
                    seq: Some(receipt.seq),
                    created_at: receipt.created_at,
                    duplicate,
                },
                None => Posted {
                    message_id: None,
                    channel: member.channel,
                    epoch: None,
                    seq: None,
                    created_at: state.clock.now(),
                    duplicate,
                },
            };
            Ok((status, Json(posted)))
        }
    }
}
