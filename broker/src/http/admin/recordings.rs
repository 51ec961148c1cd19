//! The route that records events of a tenant that consents, so that authors can test other versions of a plugin on them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Extract;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::state::State;
use super::request::{Actor, Fields};
use crate::deploy::ControlPlane;
use crate::model::{Kind, PluginName, TenantSlug};
use crate::plugin::{Recorded, Recording, Redaction, Wanted};

/// Maximum number of events of a recording, and of seconds that it takes.
const MOST: (u32, u64) = (1_000, 600);

/// How often to check that the tenant still consents. An empty line is sent then, to notice a client that is gone.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The events to record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordBody {
    /// The tenant whose events are recorded; it must consent.
    #[schema(value_type = String)]
    tenant: TenantSlug,
    /// The message type.
    #[schema(value_type = String)]
    kind: Kind,
    /// A watching plugin: records what it receives, instead of what the type's handler receives.
    #[schema(value_type = Option<String>)]
    watcher: Option<PluginName>,
    /// Maximum number of events, 1 to 1,000; the default is 100.
    events: Option<u32>,
    /// Maximum time in seconds, 1 to 600; the default is 60.
    seconds: Option<u64>,
    /// Whether to replace texts and ids with others of the same form.
    #[serde(default)]
    redact: bool,
}

/// Streams events as this node handles them, one JSON object per line, until there are enough of them, the time is up, or
/// the tenant no longer consents.
#[utoipa::path(post, path = "/api/recordings/", tag = "plugins", request_body = RecordBody,
    responses((status = 200, content_type = "application/x-ndjson",
        description = "events for `switchboard plugin test` and `replay`; lines that begin with # are comments")))]
pub(super) async fn record(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Fields(body): Fields<RecordBody>,
) -> Result<Response, ApiError> {
    let (events, seconds) = (body.events.unwrap_or(100), body.seconds.unwrap_or(60));
    if !(1..=MOST.0).contains(&events) {
        return Err(ApiError::bad(Some("events"), "a recording must have 1 to 1000 events"));
    }
    if !(1..=MOST.1).contains(&seconds) {
        return Err(ApiError::bad(Some("seconds"), "a recording must take 1 to 600 seconds"));
    }
    let wanted = Wanted { tenant: body.tenant.clone(), kind: body.kind, watcher: body.watcher };
    let recording = state.control.record(&actor, wanted).await?;
    let running = Running {
        recording: Some(recording),
        control: Arc::clone(&state.control),
        tenant: body.tenant,
        redaction: body.redact.then(Redaction::default),
        left: events,
        until: Instant::now() + Duration::from_secs(seconds),
        draining: state.draining.clone(),
    };
    let lines = stream::unfold(running, |mut running| async move {
        let text = running.next().await?;
        Some((Ok::<Bytes, Infallible>(text.into()), running))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

struct Running {
    /// None if it has ended.
    recording: Option<Recording>,
    control: Arc<ControlPlane>,
    tenant: TenantSlug,
    redaction: Option<Redaction>,
    left: u32,
    until: Instant,
    draining: watch::Receiver<Option<Duration>>,
}

impl Running {
    /// The next line; none after the last one.
    async fn next(&mut self) -> Option<String> {
        let recording = self.recording.as_mut()?;
        if self.left == 0 {
            return self.end("");
        }
        let look = (Instant::now() + LOOK_EVERY).min(self.until);
        let (recorded, draining) = tokio::select! {
            recorded = recording.next() => (recorded, false),
            _ = self.draining.wait_for(Option::is_some) => (None, true),
            () = tokio::time::sleep_until(look) => (None, false),
        };
        match recorded {
            None if draining => self.end("the broker is stopping; "),
            Some(recorded) => {
                self.left -= 1;
                Some(self.line(recorded))
            }
            None if Instant::now() >= self.until => self.end("the time is up; "),
            // If the store is down, the consent counts as unchanged.
            None if !self.control.consents(&self.tenant).await.unwrap_or(true) => {
                self.end("the tenant no longer consents; ")
            }
            None => Some("\n".to_owned()),
        }
    }

    fn line(&mut self, recorded: Recorded) -> String {
        let recorded = match &mut self.redaction {
            Some(redaction) => redaction.apply(&recorded),
            None => recorded,
        };
        let mut line = serde_json::to_string(&recorded).unwrap_or_default();
        line.push('\n');
        line
    }

    /// The last line, which says why the recording ends.
    fn end(&mut self, why: &str) -> Option<String> {
        let missed = self.recording.take()?.missed();
        Some(format!("# {why}{missed} events were left out for lack of room\n"))
    }
}
