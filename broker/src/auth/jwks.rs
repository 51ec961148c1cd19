//! Keeps the key sets of external issuers up to date: a file that changes, and an address that is asked again and again.
//!
//! A key set that cannot be read or fetched leaves the one before in force. What was fetched last is kept in the data folder,
//! so that a broker that starts while the issuer is away still knows its keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::keys::{parse_set, read_file};
use super::{KeyError, Keys};
use crate::config::KeySetUrl;

/// How often the file's time of change is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often the key set is fetched.
const FETCH_EVERY: Duration = Duration::from_secs(600);

/// Shortest time between two fetches, also when tokens name keys that are not there.
const FETCH_PAUSE: Duration = Duration::from_secs(30);

/// The shortest pause after a failed fetch. It doubles up to [`FETCH_EVERY`].
const BACK_OFF: Duration = Duration::from_secs(2);

/// How long a fetch may take.
const WITHIN: Duration = Duration::from_secs(10);

/// More bytes than any key set has.
const MAX_BYTES: usize = 256 * 1024;

/// Reads the file again whenever it has changed. Runs until it is dropped.
pub async fn follow_file(keys: Arc<Keys>, path: PathBuf) {
    let mut seen = changed_at(&path).await;
    loop {
        sleep(LOOK_EVERY).await;
        let now = changed_at(&path).await;
        if now == seen {
            continue;
        }
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || read_file(&file)).await;
        match read {
            Ok(Ok(found)) => {
                seen = now;
                tracing::info!(path = %path.display(), keys = found.len(), "read the key set again");
                keys.replace_file(found);
            }
            // Perhaps it is being written. It is read again until it is good; the log says so once.
            Ok(Err(error)) => {
                if seen.is_some() {
                    tracing::warn!(%error, "the key set has changed and cannot be used; the one before stays in force");
                }
                seen = None;
            }
            Err(error) => tracing::error!(%error, "failed to read the key set"),
        }
    }
}

async fn changed_at(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = tokio::fs::metadata(path).await.ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// Fetches the key set, and again regularly and when a token names a key that is not there. Runs until it is dropped.
#[derive(Debug)]
pub struct KeySetFollower {
    keys: Arc<Keys>,
    url: KeySetUrl,
    cache: PathBuf,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl KeySetFollower {
    /// `folder` is where the last good key set is kept.
    pub fn new(keys: Arc<Keys>, url: KeySetUrl, folder: &Path) -> std::io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { keys, url, cache: folder.join("jwks-cache.json"), client })
    }

    /// The first fetch, before anybody is served. If it fails, the last good key set applies.
    pub async fn first(&self) {
        let Err(error) = self.fetch().await else { return };
        let kept = tokio::fs::read(&self.cache).await.ok().and_then(|text| parse_set(self.url.as_str(), &text).ok());
        match kept {
            Some(kept) => {
                tracing::warn!(error, "failed to fetch the key set; the one that was fetched last applies");
                self.keys.replace_fetched(kept);
            }
            None => tracing::error!(error, "failed to fetch the key set; its tokens are refused until that succeeds"),
        }
    }

    pub async fn run(self) {
        let (mut wait, mut failing) = (FETCH_EVERY, false);
        loop {
            let due = Instant::now() + wait;
            sleep(wait.min(FETCH_PAUSE)).await;
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.keys.is_missing_one() => {}
            }
            match self.fetch().await {
                Ok(()) => {
                    if failing {
                        tracing::info!(url = self.url.as_str(), "the key set can be fetched again");
                    }
                    (wait, failing) = (FETCH_EVERY, false);
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(error, "failed to fetch the key set; the one before stays in force");
                    }
                    wait = if failing { (wait * 2).min(FETCH_EVERY) } else { BACK_OFF };
                    failing = true;
                }
            }
        }
    }

    async fn fetch(&self) -> Result<(), String> {
        let fetched = timeout(WITHIN, self.get()).await.unwrap_or_else(|_| Err("it took too long".to_owned()));
        let text = fetched.map_err(|reason| format!("{}: {reason}", self.url.as_str()))?;
        let found = parse_set(self.url.as_str(), &text).map_err(|error: KeyError| error.to_string())?;
        self.keys.replace_fetched(found);
        if let Err(error) = self.keep(&text).await {
            tracing::warn!(%error, path = %self.cache.display(), "failed to keep the key set for the next start");
        }
        Ok(())
    }

    async fn get(&self) -> Result<Bytes, String> {
        let uri = self.url.as_str().parse().map_err(|_| "it is not a URL".to_owned())?;
        let answer = self.client.get(uri).await.map_err(|error| in_one_line(&error))?;
        if !answer.status().is_success() {
            return Err(format!("the answer is {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await.map_err(|error| error.to_string())?;
        Ok(body.to_bytes())
    }

    /// Written aside and renamed, so that a crash leaves the one before.
    async fn keep(&self, text: &[u8]) -> std::io::Result<()> {
        let aside = self.cache.with_extension("part");
        tokio::fs::write(&aside, text).await?;
        tokio::fs::rename(&aside, &self.cache).await
    }
}

fn in_one_line(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
