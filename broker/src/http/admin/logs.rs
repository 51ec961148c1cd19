//! The route for the log of a plugin on this node.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Extract;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{broadcast, watch};
use utoipa::IntoParams;

use super::super::error::ApiError;
use super::super::state::State;
use super::request::{Known, Parameters};
use crate::model::PluginName;
use crate::plugin::LogLine;

/// The lines to print.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    /// Whether to continue with new lines.
    #[serde(default)]
    follow: bool,
    /// How many of the latest lines to begin with; the default is 100.
    tail: Option<usize>,
}

/// Streams what a plugin logs on this node, one JSON object per line.
#[utoipa::path(get, path = "/api/plugins/{name}/logs/", tag = "plugins", params(("name" = String, Path), LogsQuery),
    responses((status = 200, content_type = "application/x-ndjson",
        description = "objects with `at`, `level`, `plugin`, `version`, `generation`, `tenant` and `text`")))]
pub(super) async fn logs(
    Extract(state): Extract<Arc<State>>,
    Known(name): Known,
    Parameters(query): Parameters<LogsQuery>,
) -> Result<Response, ApiError> {
    let logs = state.control.logs();
    // Subscribe first, then read the recent lines, so that no line is missed. A line that is in both is sent once.
    let news = logs.follow();
    let recent = logs.recent(&name, query.tail.unwrap_or(100));
    let headers = [(CONTENT_TYPE, "application/x-ndjson")];
    if !query.follow {
        let text: String = recent.iter().map(|line| one(line)).collect();
        return Ok((headers, text).into_response());
    }
    let following =
        Following { first: recent.iter().cloned().collect(), recent, news, name, draining: state.draining.clone() };
    let lines = stream::unfold(following, |mut following| async move {
        let text = following.next().await?;
        Some((Ok::<Bytes, Infallible>(text.into()), following))
    });
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// After this time without output, send an empty line, to notice a client that is gone.
const QUIET: Duration = Duration::from_secs(15);

struct Following {
    /// Recent lines that are not sent yet.
    first: VecDeque<Arc<LogLine>>,
    /// All recent lines.
    recent: Vec<Arc<LogLine>>,
    news: broadcast::Receiver<Arc<LogLine>>,
    name: PluginName,
    draining: watch::Receiver<Option<Duration>>,
}

impl Following {
    /// The next line; none if the broker is stopping.
    async fn next(&mut self) -> Option<String> {
        if let Some(line) = self.first.pop_front() {
            return Some(one(&line));
        }
        loop {
            let heard = tokio::select! {
                heard = self.news.recv() => heard,
                _ = self.draining.wait_for(Option::is_some) => return None,
                () = tokio::time::sleep(QUIET) => return Some("\n".to_owned()),
            };
            match heard {
                Ok(line) if line.plugin != self.name || self.recent.iter().any(|known| Arc::ptr_eq(known, &line)) => {}
                Ok(line) => return Some(one(&line)),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    return Some(format!(
                        "{}\n",
                        json!({"level": "warn", "text": format!("{missed} lines were missed")})
                    ));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

fn one(line: &LogLine) -> String {
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}
