//! `switchboard plugin list` and `show`.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::api::Api;
use crate::cli::output::print_line;
use crate::model::PluginName;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Name of the plugin
    name: PluginName,
}

pub(super) async fn list(api: &Api) -> Result<()> {
    let answer = api.get("/api/plugins/").await?;
    print_line!("{:<24} {:<16} {:<16} IN FORCE", "PLUGIN", "LATEST", "BUILT IN");
    for plugin in items(&answer["results"]) {
        let latest = items(&plugin["versions"]).last().map_or("-", |version| text(version, "version"));
        let built_in = plugin["built_in"].as_str().unwrap_or("-");
        let mut places: Vec<String> = items(&plugin["routes"]).iter().map(place).collect();
        places.dedup();
        let places = if places.is_empty() { "-".to_owned() } else { places.join("; ") };
        print_line!("{:<24} {latest:<16} {built_in:<16} {places}", text(plugin, "name"));
    }
    Ok(())
}

/// A route of a plugin in words, without its subject, so that a plugin with many types is listed once.
fn place(route: &Value) -> String {
    let trial = route["candidate"].as_str().map(|candidate| format!(", on trial: {candidate}"));
    format!("{} for {}{}", text(route, "stable"), who(route), trial.unwrap_or_default())
}

pub(super) async fn show(verb: &Show, api: &Api) -> Result<()> {
    let plugin = api.get(&format!("/api/plugins/{}/", verb.name)).await?;
    print_line!("{}", text(&plugin, "name"));
    print_line!("  built in  {}", plugin["built_in"].as_str().unwrap_or("no"));
    for version in items(&plugin["versions"]) {
        print_line!(
            "  version   {}, deployed {} by {}",
            text(version, "version"),
            text(version, "deployed_at"),
            text(version, "deployed_by")
        );
        print_line!("            digest {}, {} bytes", text(version, "digest"), version["size"]);
        print_line!("            kinds {}", words(&version["kinds"], |kind| kind["kind"].as_str()));
        print_line!(
            "            watches {}; wants {}",
            words(&version["watches"], Value::as_str),
            words(&version["wants"], Value::as_str)
        );
    }
    let routes = items(&plugin["routes"]);
    for alike in routes.chunk_by(|a, b| ["tenant", "stable", "candidate"].iter().all(|part| a[part] == b[part])) {
        let [route, ..] = alike else { continue };
        let subjects: Vec<&str> = alike.iter().map(|route| text(route, "subject")).collect();
        print_line!("  route     for {}: {}", who(route), text(route, "stable"));
        print_line!("            {}", subjects.join(", "));
        if let Some(candidate) = route["candidate"].as_str() {
            print_line!("            on trial: {candidate}");
        }
        let mut before: Vec<&str> = alike.iter().filter_map(|route| route["previous"][0].as_str()).collect();
        before.sort_unstable();
        before.dedup();
        if !before.is_empty() {
            print_line!("            before: {}", before.join(", "));
        }
    }
    for terms in items(&plugin["terms"]) {
        let who = who(terms);
        if terms["grants"].is_array() {
            print_line!("  grants    for {who}: {}", words(&terms["grants"], Value::as_str));
        }
        for (name, value) in terms["limits"].as_object().into_iter().flatten() {
            print_line!("  limit     for {who}: {name}={value}");
        }
    }
    Ok(())
}

/// The scope of a decision in words.
pub(super) fn who(value: &Value) -> String {
    value["tenant"].as_str().map_or("all tenants".to_owned(), |tenant| format!("tenant {tenant}"))
}

/// A text, or a dash if there is none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("-")
}

pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The elements of a list, separated by commas, or a dash if there are none.
pub(super) fn words<'a>(value: &'a Value, word: impl Fn(&'a Value) -> Option<&'a str>) -> String {
    let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(word).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}
