//! `switchboard plugin …`: one file per command, or per group of similar commands.
//!
//! Commands that change the plugins of a running broker use its operators' API, with the operators' token. Nothing here
//! opens the store.

mod api;
mod audit;
mod check;
mod deploy;
mod list;
mod logs;
mod new;
mod policy;
mod record;
mod replay;
mod routes;
mod stage;
mod test;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::config::Config;
use api::Api;

#[derive(Debug, Args)]
pub(super) struct Command {
    /// URL of any node's operators' API, such as http://127.0.0.1:8081 [default: the address of --admin-listen]
    #[arg(long, global = true, env = "SWITCHBOARD_ADMIN_URL", value_name = "URL")]
    admin_url: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a folder with a plugin that builds and passes its tests
    New(new::New),
    /// Describe a component, and say whether this broker accepts it
    Check(check::Check),
    /// Run a plugin on events from a file, and show the effects that it requests
    Test(test::Test),
    /// Record live events of a type, with the host's answers, from a tenant that consents
    Record(record::Record),
    /// Run two versions of a plugin on recorded events, and show where they differ
    Replay(replay::Replay),
    /// Check a component and keep it in the catalogue; it handles nothing yet
    Deploy(deploy::Deploy),
    /// List the plugins and what handles each type
    List,
    /// Show a plugin: its versions, where it is in force, and its grants and limits
    Show(list::Show),
    /// Let a version handle all its types, on all nodes
    Activate(routes::Activate),
    /// Run a version as a canary, which handles a share of the channels
    Canary(routes::Canary),
    /// Run a version as a shadow: it receives every event, and its effects are compared and discarded
    Shadow(routes::Activate),
    /// Put the version on trial (canary or shadow) in force
    Promote(routes::InScope),
    /// End the trial, or if there is none, restore what was in force before
    Rollback(routes::InScope),
    /// Remove the handler of the plugin's types, which are then unknown
    Disable(routes::InScope),
    /// Discard a tenant's own decisions about a plugin, so that those for all tenants apply
    Follow(routes::Follow),
    /// Print the log of a plugin
    Logs(logs::Logs),
    /// Show or change the interfaces that a plugin may use
    Grants(policy::Grants),
    /// Show or change the resources that a call of a plugin may use
    Limits(policy::LimitArgs),
    /// Show or change what happens when the handler of a type fails
    Policy(policy::Policy),
    /// Show, give or withdraw a tenant's consent to the recording of its events
    Consent(policy::Consent),
    /// Show who requested what and the result, latest first
    Audit(audit::AuditArgs),
    /// Show the live nodes, and the revision of the catalogue that each runs
    Nodes,
}

pub(super) async fn run(command: Command, config: &Config) -> Result<()> {
    // A variable that is set and empty counts as not set.
    let admin_url = command.admin_url.as_deref().filter(|url| !url.is_empty());
    let api = || Api::new(admin_url, config);
    match command.verb {
        Verb::New(verb) => new::run(&verb),
        Verb::Check(verb) => check::run(&verb, config).await,
        Verb::Test(verb) => test::run(&verb, config).await,
        Verb::Record(verb) => record::run(&verb, &api()?).await,
        Verb::Replay(verb) => replay::run(&verb, config).await,
        Verb::Deploy(verb) => deploy::run(&verb, &api()?).await,
        Verb::List => list::list(&api()?).await,
        Verb::Show(verb) => list::show(&verb, &api()?).await,
        Verb::Activate(verb) => routes::activate(&verb, "activate", &api()?).await,
        Verb::Canary(verb) => routes::canary(&verb, &api()?).await,
        Verb::Shadow(verb) => routes::activate(&verb, "shadow", &api()?).await,
        Verb::Promote(verb) => routes::in_scope(&verb, "promote", &api()?).await,
        Verb::Rollback(verb) => routes::in_scope(&verb, "rollback", &api()?).await,
        Verb::Disable(verb) => routes::in_scope(&verb, "disable", &api()?).await,
        Verb::Follow(verb) => routes::follow(&verb, &api()?).await,
        Verb::Logs(verb) => logs::run(&verb, &api()?).await,
        Verb::Grants(verb) => policy::grants(&verb, &api()?).await,
        Verb::Limits(verb) => policy::limits(&verb, &api()?).await,
        Verb::Policy(verb) => policy::policy(&verb, &api()?).await,
        Verb::Consent(verb) => policy::consent(&verb, &api()?).await,
        Verb::Audit(verb) => audit::audit(&verb, &api()?).await,
        Verb::Nodes => audit::nodes(&api()?).await,
    }
}
