//! Turns incidents into commands: back to what worked, through the same control plane and with the same audit.

use std::sync::Arc;
use std::time::Duration;

use super::command::Command;
use super::control::{ControlError, ControlPlane};
use crate::plugin::{Incident, Incidents};

/// The actor in the audit log.
const ACTOR: &str = "broker";

/// The pause before another attempt if the store was unavailable; doubled each time.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

const LONGEST: Duration = Duration::from_secs(15);

/// Acts on incidents one at a time until the channel closes. While the store is away the first incident is retried and
/// the others wait, because none of them could be handled.
pub async fn act_on(mut incidents: Incidents, control: Arc<ControlPlane>) {
    while let Some(incident) = incidents.recv().await {
        let Some(command) = command(incident) else { continue };
        let mut wait = AGAIN_AFTER;
        let result = loop {
            match control.run(ACTOR, &command).await {
                Err(error) if error.is_passing() => {
                    tracing::warn!(%error, ?wait, "failed to revert a plugin; trying again");
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
                "reverted a plugin"
            ),
            // Another node was faster, or there is nothing to go back to.
            Err(ControlError::Refused(line)) => tracing::info!(%line, "did not revert a plugin"),
            Err(error) => tracing::error!(%error, "failed to revert a plugin"),
        }
    }
}

/// `None` for a built-in plugin, which has no earlier version to go back to.
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
