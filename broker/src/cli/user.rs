//! `switchboard user create|disable|enable|rename|password|delete`.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use sha2::{Digest as _, Sha256};

use super::lookup::{member, tenant_in_store};
use crate::auth::Passwords;
use crate::cli::output::print_line;
use crate::config::Config;
use crate::model::{Clock, TenantSlug, User, UserId, Username};
use crate::store::Renamed;

/// Minimum length of a password in characters: NIST SP 800-63B requires 8.
const MIN_PASSWORD: usize = 8;

/// What follows for a dismissed member.
const CLOSES: &str = "brokers refuse the tokens issued so far, and close the open sockets within 5 seconds";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a member; without a password, it can only use tokens
    Create {
        /// The tenant's slug
        tenant: TenantSlug,
        /// The member's name, unique in the tenant
        username: Username,
        /// The member's id, which tokens carry as user_id [default: the username]
        #[arg(long)]
        id: Option<UserId>,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Refuse every token of a member until it is enabled again, and close its sockets
    Disable(Named),
    /// Accept new tokens of a disabled member
    Enable(Named),
    /// Give a member another name, and end its tokens, which carry the old one
    Rename {
        #[command(flatten)]
        member: Named,
        /// The new name, unique in the tenant
        to: Username,
    },
    /// Set or remove a member's password, and end its tokens
    Password {
        #[command(flatten)]
        member: Named,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
        /// Remove the password: the member can only use tokens of another issuer
        #[arg(long, conflicts_with = "password_stdin")]
        remove: bool,
    },
    /// Remove a member from every channel for good; its messages stay, under another name
    Delete {
        #[command(flatten)]
        member: Named,
        /// Do it; without this flag, nothing is changed
        #[arg(long)]
        yes: bool,
    },
}

/// A member, by name.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The tenant's slug
    tenant: TenantSlug,
    /// The member's name
    username: Username,
}

pub(super) async fn run(command: Command, config: &Config) -> Result<()> {
    let clock = Clock::system();
    match command {
        Command::Create { tenant, username, id, password_stdin } => {
            create(config, &tenant, username, id, password_stdin, &clock).await
        }
        Command::Disable(named) => set_enabled(config, &named, false, &clock).await,
        Command::Enable(named) => set_enabled(config, &named, true, &clock).await,
        Command::Rename { member: named, to } => rename(config, &named, &to, &clock).await,
        Command::Password { member: named, password_stdin, remove } => {
            let (store, tenant) = tenant_in_store(config, &named.tenant).await?;
            let user = member(store.as_ref(), &tenant.slug, &named.username).await?;
            let hash = if remove { None } else { hashed(password(password_stdin)?, &clock).await? };
            if hash.is_none() && !remove {
                bail!("give the password on standard input with --password-stdin, or take it away with --remove");
            }
            if !store.set_password(&tenant.slug, &user.id, hash.as_deref(), clock.now()).await? {
                bail!("member `{}` has just been deleted", named.username);
            }
            print_line!("changed the password of {} of tenant {}; {CLOSES}", named.username, tenant.slug);
            Ok(())
        }
        Command::Delete { member: named, yes } => delete(config, &named, yes, &clock).await,
    }
}

async fn create(
    config: &Config,
    tenant: &TenantSlug,
    username: Username,
    id: Option<UserId>,
    password_stdin: bool,
    clock: &Clock,
) -> Result<()> {
    let (store, tenant) = tenant_in_store(config, tenant).await?;
    let id = match id {
        Some(id) => id,
        None => username.as_str().parse().context("the username is too long to be the id; set one with --id")?,
    };
    let hash = hashed(password(password_stdin)?, clock).await?;
    let user = User { id, username };
    if !store.create_member(&tenant.slug, &user, hash.as_deref(), clock.now()).await? {
        bail!(
            "tenant `{}` already has a member `{}` or one with the id `{}`, or had one with this id that was deleted",
            tenant.slug,
            user.username,
            user.id
        );
    }
    print_line!("created member {} of tenant {}", user.username, tenant.slug);
    Ok(())
}

async fn set_enabled(config: &Config, named: &Named, enabled: bool, clock: &Clock) -> Result<()> {
    let (store, tenant) = tenant_in_store(config, &named.tenant).await?;
    let user = member(store.as_ref(), &tenant.slug, &named.username).await?;
    if !store.set_member_enabled(&tenant.slug, &user.id, enabled, clock.now()).await? {
        let state = if enabled { "enabled" } else { "disabled" };
        bail!("member `{}` of tenant `{}` is {state} already", named.username, tenant.slug);
    }
    if enabled {
        print_line!("enabled member {} of tenant {}; tokens from before stay invalid", named.username, tenant.slug);
    } else {
        print_line!("disabled member {} of tenant {}; {CLOSES}", named.username, tenant.slug);
    }
    Ok(())
}

async fn rename(config: &Config, named: &Named, to: &Username, clock: &Clock) -> Result<()> {
    let (store, tenant) = tenant_in_store(config, &named.tenant).await?;
    let user = member(store.as_ref(), &tenant.slug, &named.username).await?;
    match store.rename_member(&tenant.slug, &user.id, to, clock.now(), true).await? {
        Renamed::Yes => print_line!("renamed member {} of tenant {} to {to}; {CLOSES}", named.username, tenant.slug),
        Renamed::Taken => bail!("tenant `{}` has another member `{to}`", tenant.slug),
        Renamed::Unknown => bail!("member `{}` has just been deleted", named.username),
    }
    Ok(())
}

async fn delete(config: &Config, named: &Named, yes: bool, clock: &Clock) -> Result<()> {
    let (store, tenant) = tenant_in_store(config, &named.tenant).await?;
    let user = member(store.as_ref(), &tenant.slug, &named.username).await?;
    if !yes {
        bail!("this cannot be undone: add --yes to delete member `{}` of tenant `{}`", named.username, tenant.slug);
    }
    // Unique, because the id is; it reveals neither the id nor the name.
    let digest = hex::encode(Sha256::digest(user.id.as_str()));
    let left = format!("deleted-{}", &digest[..16]).parse().context("a valid name")?;
    if !store.delete_member(&tenant.slug, &user.id, &left, clock.now()).await? {
        bail!("member `{}` has just been deleted", named.username);
    }
    print_line!(
        "deleted member {} of tenant {}, whose messages are now by {left}; {CLOSES}",
        named.username,
        tenant.slug
    );
    Ok(())
}

async fn hashed(password: Option<String>, clock: &Clock) -> Result<Option<String>> {
    match password {
        None => Ok(None),
        Some(password) if password.chars().count() < MIN_PASSWORD => {
            bail!("a password must have at least {MIN_PASSWORD} characters");
        }
        Some(password) => Ok(Some(Passwords::new(clock.clone()).await?.hash(&password).await?)),
    }
}

/// The password from standard input or from a terminal; none otherwise, or if nothing was typed.
fn password(from_stdin: bool) -> Result<Option<String>> {
    if from_stdin {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).context("failed to read the password")?;
        let password = line.trim_end_matches(['\r', '\n']).to_owned();
        if password.is_empty() {
            bail!("there is no password on standard input");
        }
        return Ok(Some(password));
    }
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let password = rpassword::prompt_password("Password (empty for none): ").context("failed to read the password")?;
    Ok((!password.is_empty()).then_some(password))
}
