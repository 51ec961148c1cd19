//! Records events of a tenant that consents, for authors to try other versions of a plugin on.

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

/// How many events a recording has at most, and how many seconds it takes.
const MOST: (u32, u64) = (1_000, 600);

/// How often it is looked whether the tenant still consents; a line without a text then shows whether anyone reads on.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What to record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordBody {
    /// Whose events.
    #[schema(value_type = String)]
    tenant: TenantSlug,
    /// Of which type.
    #[schema(value_type = String)]
    kind: Kind,
    /// A plugin that watches: what it is told, in place of what the type's handler is given.
    #[schema(value_type = Option<String>)]
    watcher: Option<PluginName>,
    /// How many at most, 1 to 1,000; 100 when it is not said.
    events: Option<u32>,
    /// For how long at most, 1 to 600; 60 when it is not said.
    seconds: Option<u64>,
    /// Whether texts and ids are replaced by others of the same form.
    #[serde(default)]
    redact: bool,
}

/// Events as this node handles them, a JSON object a line, until there are enough of them, the time is over or the tenant
/// consents no more.
#[utoipa::path(post, path = "/api/recordings/", tag = "plugins", request_body = RecordBody,
    responses((status = 200, content_type = "application/x-ndjson",
        description = "what `switchboard plugin test` and `replay` read; lines that begin with # are remarks")))]
pub(super) async fn record(
    Extract(state): Extract<Arc<State>>,
    Actor(actor): Actor,
    Fields(body): Fields<RecordBody>,
) -> Result<Response, ApiError> {
    let (events, seconds) = (body.events.unwrap_or(100), body.seconds.unwrap_or(60));
    if !(1..=MOST.0).contains(&events) {
        return Err(ApiError::bad(Some("events"), "a recording has 1 to 1000 events"));
    }
    if !(1..=MOST.1).contains(&seconds) {
        return Err(ApiError::bad(Some("seconds"), "a recording takes 1 to 600 seconds"));
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
        draining: state.services.draining.clone(),
    };
    let lines = stream::unfold(running, |mut running| async move {
        let text = running.next().await?;
        Some((Ok::<Bytes, Infallible>(text.into()), running))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

struct Running {
    /// None when it has ended.
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
            None if draining => self.end("the broker goes away; "),
            Some(recorded) => {
                self.left -= 1;
                Some(self.line(recorded))
            }
            None if Instant::now() >= self.until => self.end("the time is over; "),
            // A store that is away has not said that the consent was withdrawn.
            None if !self.control.consents(&self.tenant).await.unwrap_or(true) => {
                self.end("the tenant consents no more; ")
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

    /// The last line, which says why it is the last one.
    fn end(&mut self, why: &str) -> Option<String> {
        let missed = self.recording.take()?.missed();
        Some(format!("# {why}{missed} events were left out for want of room\n"))
    }
}
