//! `switchboard tenant create|list|disable|enable|delete`.

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::broker::open_store;
use crate::cli::output::print_line;
use crate::config::Config;
use crate::model::{Clock, TenantSlug};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a tenant with its own schema
    Create {
        /// 1 to 63 characters from A-Z, a-z, 0-9, _, . and -; tokens carry it as schema_name
        slug: TenantSlug,
        /// The id that your tokens carry as tenant_id; the broker then refuses tokens with a different one
        #[arg(long)]
        id: Option<String>,
    },
    /// List the tenants
    List,
    /// Refuse every token of a tenant, and close its sockets
    Disable {
        /// The tenant's slug
        slug: TenantSlug,
    },
    /// Accept new tokens of a disabled tenant
    Enable {
        /// The tenant's slug
        slug: TenantSlug,
    },
    /// Delete a tenant with all its members, channels and messages
    Delete {
        /// The tenant's slug
        slug: TenantSlug,
        /// Do it; without this flag, nothing is changed
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(command: Command, config: &Config) -> Result<()> {
    let store = open_store(&config.data).await?;
    match command {
        Command::Create { id: Some(id), .. } if store.tenant_by_external_id(&id).await?.is_some() => {
            bail!("another tenant has the id `{id}` already");
        }
        Command::Create { slug, id } => match store.create_tenant(&slug, id.as_deref(), Clock::system().now()).await? {
            Some(tenant) => print_line!("created tenant {}", tenant.slug),
            None => bail!("tenant `{slug}` already exists"),
        },
        Command::List => {
            for tenant in store.tenants().await? {
                let state = if tenant.enabled { "enabled" } else { "disabled" };
                let id = tenant.external_id.as_deref().unwrap_or("-");
                print_line!("{:<48} {state:<9} {id:<24} {}", tenant.slug.as_str(), tenant.created_at);
            }
        }
        Command::Disable { slug } => {
            if !store.set_tenant_enabled(&slug, false, Clock::system().now()).await? {
                bail!("there is no tenant `{slug}`");
            }
            print_line!("disabled tenant {slug}; brokers refuse its tokens, and close its sockets within 5 seconds");
        }
        Command::Enable { slug } => {
            if !store.set_tenant_enabled(&slug, true, Clock::system().now()).await? {
                bail!("there is no tenant `{slug}`");
            }
            print_line!("enabled tenant {slug}; tokens from before stay invalid");
        }
        Command::Delete { slug, yes } => {
            if store.tenant(&slug).await?.is_none() {
                bail!("there is no tenant `{slug}`");
            }
            if !yes {
                bail!("this cannot be undone: add --yes to delete tenant `{slug}` with all its data");
            }
            store.delete_tenant(&slug).await?;
            print_line!("deleted tenant {slug}; brokers close its sockets within 5 seconds");
        }
    }
    Ok(())
}
