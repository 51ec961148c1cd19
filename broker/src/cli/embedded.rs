//! What embedded mode does for a newcomer: it generates secrets and a demo tenant, and its banner says what to do next.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

use crate::auth::Passwords;
use crate::config::{Config, Secret};
use crate::model::{ChannelId, Clock, Role, TenantSlug, User, Username};
use crate::plugin;
use crate::store::{NewChannel, Store, StoreError};

const TENANT: &str = "demo";
const MEMBERS: [&str; 2] = ["alice", "bob"];
const CHANNEL: &str = "lobby";

/// What the banner shows of the demo tenant.
pub(super) struct Demo {
    password: String,
    lobby: Option<ChannelId>,
}

/// The secret that signs tokens: the one that is set, or else the one in the data folder, generated if there is none.
pub(super) fn secret(config: &Config) -> Result<Secret> {
    config.require_secret()?;
    match &config.auth.jwt_secret {
        Some(secret) => Ok(secret.clone()),
        None => kept(&config.data.folder.join("jwt-secret"), || hex::encode(Clock::system().random::<32>()))
            .map(Secret::new),
    }
}

/// Name of the file with the operators' token, if none is set.
pub(super) const ADMIN_TOKEN: &str = "admin-token";

/// The operators' token: the one that is set, or else the one in the data folder, generated if there is none. Outside
/// embedded mode, where others may reach the listener, the operator must set one.
pub(super) fn admin_token(config: &Config) -> Result<Option<Secret>> {
    if config.listen.admin_token.is_some() || !config.data.is_embedded() {
        return Ok(config.listen.admin_token.clone());
    }
    let token = kept(&config.data.folder.join(ADMIN_TOKEN), || hex::encode(Clock::system().random::<32>()))?;
    Ok(Some(Secret::new(token)))
}

/// Creates the demo tenant in an empty store. `None` if the operator has other tenants and no demo.
pub(super) async fn demo(config: &Config, store: &dyn Store) -> Result<Option<Demo>> {
    let clock = Clock::system();
    let tenant: TenantSlug = TENANT.parse()?;
    let password_file = config.data.folder.join("demo-password");
    if store.tenants().await?.is_empty() {
        let password = kept(&password_file, || hex::encode(clock.random::<6>()))?;
        let hash = Passwords::new(clock.clone()).await?.hash(&password).await?;
        store.create_tenant(&tenant, None, clock.now()).await?;
        let mut members = Vec::new();
        for (name, role) in MEMBERS.into_iter().zip([Role::Owner, Role::Member]) {
            let user = User { id: name.parse()?, username: name.parse()? };
            store.create_member(&tenant, &user, Some(&hash), clock.now()).await?;
            members.push((user.id, role));
        }
        let id = ChannelId(clock.uuid());
        let lobby = NewChannel { id, name: CHANNEL.to_owned(), epoch: clock.epoch(), members, at: clock.now() };
        store.create_channel(&tenant, &lobby).await?;
    }
    let Ok(password) = fs::read_to_string(&password_file) else { return Ok(None) };
    let first: Username = MEMBERS[0].parse()?;
    let found = async {
        let Some(first) = store.credentials(&tenant, &first).await? else { return Ok(None) };
        let channels = store.channel_summaries(&tenant, &first.user.id, None, 1).await?;
        let lobby = channels.first().map(|summary| summary.channel.id);
        Ok(Some(Demo { password: password.trim().to_owned(), lobby }))
    };
    // A problem with one tenant is no reason not to serve the others.
    found.await.or_else(|error: StoreError| {
        tracing::error!(%error, "the demo tenant cannot be used");
        Ok(None)
    })
}

/// Shows a person at a terminal where everything is. It goes to standard output; the log is on standard error.
pub(super) fn banner(config: &Config, public: SocketAddr, admin: SocketAddr, demo: Option<&Demo>) {
    let mut out = io::stdout().lock();
    // A closed standard output is no reason to stop serving.
    let _ = write_banner(&mut out, config, public, admin, demo);
}

fn write_banner(
    out: &mut impl Write,
    config: &Config,
    public: SocketAddr,
    admin: SocketAddr,
    demo: Option<&Demo>,
) -> io::Result<()> {
    let mode = match (config.data.is_embedded(), &config.data.redis_url) {
        (true, _) => format!("embedded, data in {}", config.data.folder.display()),
        (false, None) => "one node on Postgres".to_owned(),
        (false, Some(_)) => "a node of a cluster on Postgres and Redis".to_owned(),
    };
    writeln!(out, "Switchboard {} is listening ({mode})", env!("CARGO_PKG_VERSION"))?;
    writeln!(out)?;
    writeln!(out, "  chat page   http://{public}/")?;
    writeln!(out, "  metrics     http://{admin}/metrics")?;
    let token = match (&config.listen.admin_token, config.data.is_embedded()) {
        (Some(_), _) => "the token that you set".to_owned(),
        (None, true) => format!("token in {}", config.data.folder.join(ADMIN_TOKEN).display()),
        (None, false) => "set SWITCHBOARD_ADMIN_TOKEN to use it".to_owned(),
    };
    writeln!(out, "  plugins     http://{admin}/api/plugins/ ({token})")?;
    if let Some(demo) = demo {
        writeln!(out)?;
        writeln!(out, "Open both links to chat as two people. Both have the password {}", demo.password)?;
        writeln!(out)?;
        for user in MEMBERS {
            writeln!(out, "  http://{public}/#tenant={TENANT}&user={user}")?;
        }
        if let Some(lobby) = demo.lobby {
            let program = std::env::args().next().unwrap_or_else(|| "switchboard".to_owned());
            let folder = config.data.folder.display();
            writeln!(out)?;
            writeln!(out, "Or run this in a shell, then type {{\"type\":\"chat.message\",\"message\":\"hi\"}}:")?;
            writeln!(out)?;
            writeln!(
                out,
                "  npx -y wscat -c \"ws://{public}/ws/chat/{lobby}/?token=$({program} token {TENANT} {} --ttl 1h \
                 --data-dir {folder})\"",
                MEMBERS[0]
            )?;
        }
    }
    writeln!(out)?;
    writeln!(out, "Press Ctrl-C to stop. `--help` lists the commands and settings.")?;
    out.flush()
}

/// The text in a private file, generated at the first call.
fn kept(path: &Path, make: impl FnOnce() -> String) -> Result<String> {
    let failed = || format!("failed to read or create the secret in {}", path.display());
    let bytes = plugin::kept(path, || format!("{}\n", make()).into_bytes()).with_context(failed)?;
    Ok(String::from_utf8(bytes).with_context(failed)?.trim().to_owned())
}
