//! `switchboard serve`.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use super::embedded;
use crate::broker::{Broker, open_store};
use crate::config::{Config, unknown_variables};
use crate::telemetry;

pub(super) async fn run(config: Config) -> Result<()> {
    let logging = telemetry::log(&config.log)?;
    let metrics = telemetry::metrics(&logging)?;
    for variable in unknown_variables() {
        tracing::warn!(%variable, "this variable is not a setting; --help lists them");
    }
    // Install the signal handlers before the start, so that a signal during a long start is not lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!(
                "got SIGHUP and changed nothing: key sets are read when they change, other settings at a start"
            );
        }
    });
    let asked_to_stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(asked_to_stop);

    let (secret, demo) = if config.data.is_embedded() {
        let store = open_store(&config.data).await?;
        (embedded::secret(&config)?, embedded::demo(&config, store.as_ref()).await?)
    } else {
        (embedded::secret(&config)?, None)
    };
    // The banner only says where the token is; the broker gets the token itself.
    let mut settings = config.clone();
    settings.listen.admin_token = embedded::admin_token(&config)?;
    let broker = tokio::select! {
        started = Broker::start(&settings, secret, metrics) => started?,
        () = &mut asked_to_stop => return Ok(()),
    };
    embedded::banner(&config, broker.public_address(), broker.admin_address(), demo.as_ref());
    asked_to_stop.await;
    broker.stop().await;
    Ok(())
}
