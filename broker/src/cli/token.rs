//! `switchboard token`.

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use super::embedded;
use super::lookup::{member, tenant_in_store};
use crate::auth::{Keys, Tokens};
use crate::cli::output::print_line;
use crate::config::{Config, duration};
use crate::model::{Clock, MemberState, TenantSlug, TokenId, Username};
use crate::store::Bearer;

#[derive(Debug, Args)]
pub(super) struct Command {
    /// The tenant's slug
    tenant: TenantSlug,
    /// The member's username
    username: Username,
    /// Lifetime of the token, such as 90s, 5m, 1h or 1d [default: the setting --access-ttl]
    #[arg(long)]
    ttl: Option<String>,
}

/// Prints the token and nothing else.
pub(super) async fn run(command: Command, config: &Config) -> Result<()> {
    let ttl = command.ttl.as_deref().map(|text| duration("--ttl", text)).transpose()?;
    let (store, tenant) = tenant_in_store(config, &command.tenant).await?;
    let user = member(store.as_ref(), &tenant.slug, &command.username).await?;
    let bearer = Bearer { user: user.id.clone(), token: TokenId::default() };
    let known = store.bearers(&tenant.slug, &[bearer]).await?.pop().flatten();
    let Some(known) = known.filter(|known| known.state == MemberState::Active && tenant.enabled) else {
        bail!("member `{}` or tenant `{}` is disabled; brokers would refuse the token", user.username, tenant.slug);
    };
    let since = known.tokens_since.max(tenant.tokens_since);
    let keys = Arc::new(Keys::of(embedded::secret(config)?));
    print_line!("{}", Tokens::new(keys, &config.auth, Clock::system()).access(&tenant, &user, ttl, since)?);
    Ok(())
}
