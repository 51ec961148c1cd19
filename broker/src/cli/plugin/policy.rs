//! `switchboard plugin grants|limits|policy|consent`.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Map, Value, json};

use super::api::Api;
use super::list::{items, text, who, words};
use super::routes::say;
use crate::cli::output::print_line;
use crate::model::{Kind, PluginName, TenantSlug};

#[derive(Debug, Args)]
pub(super) struct Grants {
    /// Name of the plugin
    name: PluginName,
    /// Only for this tenant [default: for all tenants]
    #[arg(long)]
    tenant: Option<TenantSlug>,
    /// Add these grants, separated by commas: history, members, presence, kv, log
    #[arg(long, value_name = "INTERFACES", value_delimiter = ',')]
    add: Vec<String>,
    /// Remove these grants, separated by commas
    #[arg(long, value_name = "INTERFACES", value_delimiter = ',', conflicts_with = "add")]
    remove: Vec<String>,
    /// Grant exactly these, separated by commas
    #[arg(long, value_name = "INTERFACES", conflicts_with_all = ["add", "remove"])]
    set: Option<String>,
    /// Clear the decision, so that the one for all tenants, or the default, applies
    #[arg(long, conflicts_with_all = ["add", "remove", "set"])]
    clear: bool,
}

#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// Name of the plugin
    name: PluginName,
    /// Only for this tenant [default: for all tenants]
    #[arg(long)]
    tenant: Option<TenantSlug>,
    /// A limit to set (cpu_ms=20) or to reset (cpu_ms=default); without any, show the limits
    #[arg(value_name = "NAME=VALUE")]
    values: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Policy {
    /// The message type; without it, show all policies
    #[arg(requires = "policy")]
    kind: Option<Kind>,
    /// `closed`: the sender gets an error; `open`: the event is dropped; `default`: as the plugin declares the type
    #[arg(value_parser = ["open", "closed", "default"])]
    policy: Option<String>,
    /// Only for this tenant [default: for all tenants]
    #[arg(long)]
    tenant: Option<TenantSlug>,
}

#[derive(Debug, Args)]
pub(super) struct Consent {
    /// Slug of the tenant; without it, show the tenants that consent
    #[arg(requires = "given")]
    tenant: Option<TenantSlug>,
    /// Whether the tenant's events may be recorded
    #[arg(value_parser = ["on", "off"])]
    given: Option<String>,
}

pub(super) async fn grants(verb: &Grants, api: &Api) -> Result<()> {
    let path = format!("/api/plugins/{}/grants/", verb.name);
    let set: Option<Vec<&str>> =
        verb.set.as_ref().map(|set| set.split(',').map(str::trim).filter(|word| !word.is_empty()).collect());
    if verb.add.is_empty() && verb.remove.is_empty() && set.is_none() && !verb.clear {
        let answer = api.get(&path).await?;
        for row in items(&answer["results"]) {
            print_line!("{:<24} {}", who(row), words(&row["grants"], Value::as_str));
        }
        return Ok(());
    }
    let body = json!({
        "tenant": verb.tenant, "add": verb.add, "remove": verb.remove, "set": set, "clear": verb.clear,
    });
    say(&api.put(&path, &body).await?);
    Ok(())
}

pub(super) async fn limits(verb: &LimitArgs, api: &Api) -> Result<()> {
    let path = format!("/api/plugins/{}/limits/", verb.name);
    if verb.values.is_empty() {
        let answer = api.get(&path).await?;
        print_line!("{:<14} {:>10} {:>8} {:>10}", "LIMIT", "DEFAULT", "LEAST", "MOST");
        for limit in items(&answer["limits"]) {
            let number = |name: &str| limit[name].as_u64().unwrap_or_default();
            print_line!(
                "{:<14} {:>10} {:>8} {:>10}  {}",
                text(limit, "name"),
                number("default"),
                number("least"),
                number("most"),
                text(limit, "about")
            );
        }
        for row in items(&answer["results"]) {
            for (name, value) in row["limits"].as_object().into_iter().flatten() {
                print_line!("set for {}: {name}={value}", who(row));
            }
        }
        return Ok(());
    }
    let mut values = Map::new();
    for text in &verb.values {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("`{text}` does not have the form NAME=VALUE, such as cpu_ms=20"))?;
        let value = match value {
            "default" => Value::Null,
            number => number.parse::<u64>().with_context(|| format!("`{number}` is not a whole number"))?.into(),
        };
        values.insert(name.to_owned(), value);
    }
    say(&api.put(&path, &json!({"tenant": verb.tenant, "values": values})).await?);
    Ok(())
}

pub(super) async fn policy(verb: &Policy, api: &Api) -> Result<()> {
    let Some(kind) = &verb.kind else {
        let answer = api.get("/api/policies/").await?;
        for row in items(&answer["results"]) {
            print_line!("{:<32} {:<8} for {}", text(row, "kind"), text(row, "policy"), who(row));
        }
        return Ok(());
    };
    let body = json!({"tenant": verb.tenant, "policy": verb.policy});
    say(&api.put(&format!("/api/policies/{kind}/"), &body).await?);
    Ok(())
}

pub(super) async fn consent(verb: &Consent, api: &Api) -> Result<()> {
    let Some(tenant) = &verb.tenant else {
        let answer = api.get("/api/consents/").await?;
        for tenant in items(&answer["results"]).iter().filter_map(Value::as_str) {
            print_line!("{tenant}");
        }
        return Ok(());
    };
    let body = json!({"recording": verb.given.as_deref() == Some("on")});
    say(&api.put(&format!("/api/consents/{tenant}/"), &body).await?);
    Ok(())
}
