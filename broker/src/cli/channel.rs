//! `switchboard channel create`.

use anyhow::{Result, bail};
use clap::Subcommand;

use super::lookup::{member, tenant_in_store};
use crate::cli::output::print_line;
use crate::config::Config;
use crate::model::{ChannelId, Clock, Role, TenantSlug, Username};
use crate::store::NewChannel;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a channel; its id is the last word of the output
    Create {
        /// The tenant's slug
        tenant: TenantSlug,
        /// The channel's name
        name: String,
        /// A member's username; may be repeated; the first one owns the channel
        #[arg(long = "member", value_name = "USERNAME")]
        members: Vec<Username>,
    },
}

pub(super) async fn run(command: Command, config: &Config) -> Result<()> {
    let Command::Create { tenant, name, members } = command;
    if name.trim().parse::<Username>().is_err() {
        bail!("a channel's name must have 1 to 150 characters and no control characters");
    }
    let (store, tenant) = tenant_in_store(config, &tenant).await?;
    let mut first = Vec::new();
    for username in &members {
        let user = member(store.as_ref(), &tenant.slug, username).await?;
        let role = if first.is_empty() { Role::Owner } else { Role::Member };
        first.push((user.id, role));
    }
    first.dedup_by(|a, b| a.0 == b.0);
    let clock = Clock::system();
    let id = ChannelId(clock.uuid());
    let name = name.trim().to_owned();
    let new = NewChannel { id, name: name.clone(), epoch: clock.epoch(), members: first, at: clock.now() };
    if !store.create_channel(&tenant.slug, &new).await? {
        bail!("one of the members is no longer in tenant `{}`", tenant.slug);
    }
    print_line!("created channel {name} of tenant {}: {id}", tenant.slug);
    Ok(())
}
