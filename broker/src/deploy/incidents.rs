//! Makes commands of what nodes notice about plugins: back to what worked, by the same desk and with the same audit.

use std::sync::Arc;

use super::command::Command;
use super::desk::{Desk, DeskError};
use crate::plugin::{Incident, Incidents};

/// Who the audit says it was.
const ACTOR: &str = "broker";

/// Acts on incidents, one at a time, until there can be no more.
pub async fn act_on(mut incidents: Incidents, desk: Arc<Desk>) {
    while let Some(incident) = incidents.recv().await {
        let Some(command) = command(incident) else { continue };
        match desk.run(ACTOR, &command).await {
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
            Err(DeskError::Refused(line)) => tracing::info!(%line, "a plugin is not taken back"),
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
