//! Plans a command: from the catalogue to a change, or to the reason why not. No I/O.

use super::command::{Choice, Command, Refused, Step};
use super::planner::Planner;
use super::{automatic, policy, routes};
use crate::model::catalogue::{Change, Version};
use crate::plugin::Descriptor;

pub fn plan(planner: &Planner<'_>, command: &Command) -> Result<Step, Refused> {
    match command {
        Command::Deploy(deployed) => deploy(planner, deployed),
        Command::Activate(choice) => routes::activate(planner, choice),
        Command::Try(choice, trial) => routes::try_out(planner, choice, *trial),
        Command::Promote(plugin, scope) => routes::promote(planner, plugin, scope),
        Command::Rollback(plugin, scope) => routes::rollback(planner, plugin, scope),
        Command::Disable(plugin, scope) => routes::disable(planner, plugin, scope),
        Command::Follow(plugin, tenant) => routes::follow(planner, plugin, tenant),
        Command::Grants(plugin, scope, edit) => policy::grants(planner, plugin, scope, edit),
        Command::Limits(plugin, scope, values) => policy::limits(planner, plugin, scope, values),
        Command::Policy(kind, scope, decided) => Ok(policy::failure(planner, kind, scope, *decided)),
        Command::Consent(tenant, given) => Ok(policy::consent(planner, tenant, *given)),
        Command::Break { plugin, tenant, generation, reason } => {
            automatic::break_circuit(planner, plugin, tenant, *generation, reason)
        }
        Command::Abandon { plugin, generation, reason } => automatic::abandon(planner, plugin, *generation, reason),
    }
}

/// A version never changes its bytes, so a rollback runs exactly what ran before.
fn deploy(planner: &Planner<'_>, deployed: &Descriptor) -> Result<Step, Refused> {
    let Descriptor { plugin, version, digest, .. } = deployed;
    let to = format!("{plugin} {version}");
    let other_bytes = |where_it_is: &str| {
        Refused::new(format!("{plugin} {version} is already {where_it_is} with different bytes; raise the version"))
    };
    if version == Choice::BUILT_IN {
        return Err(Refused::new(format!("`{version}` is not a valid version; use one such as 1.0.0")));
    }
    if let Some(known) = planner.view.version(plugin, version) {
        return match known.digest == *digest {
            true => Ok(Step { change: None, from: to.clone(), to, notes: Vec::new() }),
            false => Err(other_bytes("deployed")),
        };
    }
    let built_in = planner.view.built_in_named(plugin);
    if built_in.is_some_and(|known| known.version == *version && known.digest != digest.as_str()) {
        return Err(other_bytes("built in"));
    }
    let from = planner.view.latest(plugin).map_or("nothing".to_owned(), |known| format!("{plugin} {}", known.version));
    let version = Version {
        plugin: plugin.clone(),
        version: version.clone(),
        digest: digest.clone(),
        size: deployed.size,
        kinds: deployed.kinds.clone(),
        watches: deployed.watches.clone(),
        wants: deployed.wants.clone(),
        deployed_at: planner.now,
        deployed_by: planner.actor.to_owned(),
    };
    Ok(Step { change: Some(Change { versions: vec![version], ..Change::default() }), from, to, notes: Vec::new() })
}
