//! `switchboard plugin …`: a verb or a few of a kind in each file.
//!
//! What changes plugins of a running broker goes through its API for operators, with the token of operators. Nothing here
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
    /// The operators' API of any node, as http://host:port [default: the address of --admin-listen]
    #[arg(long, global = true, env = "SWITCHBOARD_ADMIN_URL", value_name = "URL")]
    admin_url: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a folder with a plugin that builds and passes its tests
    New(new::New),
    /// Say what a component is, and whether this broker takes it
    Check(check::Check),
    /// Run a plugin on events of a file, and show what it asks for
    Test(test::Test),
    /// Write down live events of a type, with what the host answered, of a tenant that consents
    Record(record::Record),
    /// Run two versions of a plugin on recorded events, and show where they differ
    Replay(replay::Replay),
    /// Check a component and keep it in the catalogue; it handles nothing yet
    Deploy(deploy::Deploy),
    /// List the plugins and what handles each type
    List,
    /// Show a plugin: its versions, where it is in force, its grants and limits
    Show(list::Show),
    /// Let a version handle all its types, on all nodes at once
    Activate(routes::Activate),
    /// Let a version handle a part of the channels
    Canary(routes::Canary),
    /// Give a version every event beside the one in force, and compare what it would do
    Shadow(routes::Activate),
    /// Put what is tried out in force
    Promote(routes::InScope),
    /// Stop what is tried out; when nothing is, go back to what was in force before
    Rollback(routes::InScope),
    /// Let nobody handle the types of a plugin: they are unknown then
    Disable(routes::InScope),
    /// Give up what a tenant decided about a plugin: it follows what is decided for all
    Follow(routes::Follow),
    /// Print what a plugin logs
    Logs(logs::Logs),
    /// Show or change which interfaces a plugin may use
    Grants(policy::Grants),
    /// Show or change how much a call of a plugin may use
    Limits(policy::LimitArgs),
    /// Show the policies, or decide what follows when the handler of a type fails
    Policy(policy::Policy),
    /// Show, give or withdraw a tenant's consent to recording its events
    Consent(policy::Consent),
    /// Show who changed what, latest first
    Audit(audit::AuditArgs),
    /// Show which revision of the catalogue each node runs
    Nodes,
}

pub(super) async fn run(command: Command, config: &Config) -> Result<()> {
    let api = || Api::new(command.admin_url.as_deref(), config);
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
