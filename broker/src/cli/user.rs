//! `switchboard user create`.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use super::lookup::tenant_in_store;
use crate::auth::Passwords;
use crate::cli::output::print_line;
use crate::config::Config;
use crate::model::{Clock, TenantSlug, User, UserId, Username};

/// Minimum length of a password in characters: NIST SP 800-63B requires 8.
const MIN_PASSWORD: usize = 8;

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
}

pub(super) async fn run(command: Command, config: &Config) -> Result<()> {
    let Command::Create { tenant, username, id, password_stdin } = command;
    let (store, tenant) = tenant_in_store(config, &tenant).await?;
    let id = match id {
        Some(id) => id,
        None => username.as_str().parse().context("the username is too long to be the id; set one with --id")?,
    };
    let clock = Clock::system();
    let hash = match password(password_stdin)? {
        None => None,
        Some(password) if password.chars().count() < MIN_PASSWORD => {
            bail!("a password must have at least {MIN_PASSWORD} characters");
        }
        Some(password) => Some(Passwords::new(clock.clone()).await?.hash(&password).await?),
    };
    let user = User { id, username };
    if !store.create_member(&tenant.slug, &user, hash.as_deref(), clock.now()).await? {
        bail!("tenant `{}` already has a member `{}` or one with the id `{}`", tenant.slug, user.username, user.id);
    }
    print_line!("created member {} of tenant {}", user.username, tenant.slug);
    Ok(())
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
