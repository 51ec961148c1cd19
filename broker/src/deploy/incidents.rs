//! Makes commands of what nodes notice about plugins: back to what worked, by the same control and with the same audit.

use std::sync::Arc;
use std::time::Duration;

use super::command::Command;
use super::control::{ControlError, ControlPlane};
use crate::plugin::{Incident, Incidents};

/// Who the audit says it was.
const ACTOR: &str = "broker";

/// How long to wait before it is tried again, when the store could not do it; then twice as long each time.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(15);

/// Acts on incidents, one at a time, until there can be no more. While the store is away the first one is tried again, and the
/// others wait for it: none could be done.
pub async fn act_on(mut incidents: Incidents, control: Arc<ControlPlane>) {
    while let Some(incident) = incidents.recv().await {
        let Some(command) = command(incident) else { continue };
        let mut wait = AGAIN_AFTER;
        let result = loop {
            match control.run(ACTOR, &command).await {
                Err(error) if error.is_passing() => {
                    tracing::warn!(%error, ?wait, "a plugin is not taken back yet; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST);
                }
                result => break result,
            }
        };
        match result {
            Ok(outcome) => tracing::warn!(
                action = outcome.action,
                plugin = outcome.subject,
                scope = %outcome.scope,
                from = outcome.from,
                to = outcome.to,
                reach = %outcome.reach,
                "the broker took a plugin back"
            ),
            // Another node was first, or there is nothing to go back to.
            Err(ControlError::Refused(line)) => tracing::info!(%line, "a plugin is not taken back"),
            Err(error) => tracing::error!(%error, "failed to take a plugin back"),
        }
    }
}

/// A built-in plugin has nothing before it to go back to.
fn command(incident: Incident) -> Option<Command> {
    Some(match incident {
        Incident::Circuit { tenant, plugin, generation, reason, .. } => {
            Command::Break { plugin, tenant, generation: generation?, reason }
        }
        Incident::Canary { plugin, generation, reason, .. } => {
            Command::Abandon { plugin, generation: generation?, reason }
        }
    })
}
