//! `switchboard plugin test`: runs a plugin on events from a file, and shows the effects that it requests and their cost.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::json;

use super::stage;
use crate::cli::output::print_line;
use crate::config::Config;
use crate::plugin::{Played, Recorded, Replay, Shown};

#[derive(Debug, Args)]
pub(super) struct Test {
    /// The component: a .wasm file
    file: PathBuf,
    /// The events, one JSON object per line, such as {"kind":"poke","payload":{…},"user":"alice"}
    events: PathBuf,
    #[command(flatten)]
    init: stage::Init,
    #[command(flatten)]
    terms: stage::Given,
    /// Print one JSON object per event
    #[arg(long)]
    json: bool,
}

/// Runs all events, one after the other. The error counts those at which the plugin failed.
pub(super) async fn run(verb: &Test, config: &Config) -> Result<()> {
    let events = events(&verb.events)?;
    let text = verb.init.text()?;
    let mut rehearsal = open(&verb.file, &text, &verb.terms, config).await?;
    let (mut failed, mut times, mut fuel) = (0, Vec::with_capacity(events.len()), 0);
    for (number, event) in events.iter().enumerate() {
        let played = rehearsal.play(event).await;
        failed += usize::from(played.is_failure());
        times.push(played.time);
        fuel += played.fuel;
        if verb.json {
            print_line!("{}", as_json(number + 1, event, &played));
        } else {
            print(number + 1, event, &played);
        }
    }
    if !verb.json {
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let slowest = times.last().copied().unwrap_or_default();
        print_line!(
            "{} events, {failed} failed; median {} µs, slowest {} µs, {fuel} units of fuel",
            events.len(),
            median.as_micros(),
            slowest.as_micros()
        );
    }
    if failed > 0 {
        bail!("the plugin failed at {failed} of {} events", events.len());
    }
    Ok(())
}

/// Reads a file of events.
pub(super) fn events(path: &PathBuf) -> Result<Vec<Recorded>> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    Recorded::read_lines(&text).map_err(|error| anyhow!("failed to parse {}: {error}", path.display()))
}

/// Prepares a component for a test or a replay.
pub(super) async fn open(file: &PathBuf, text: &str, given: &stage::Given, config: &Config) -> Result<Replay> {
    let name = file.display().to_string();
    let component = fs::read(file).with_context(|| format!("failed to read {name}"))?;
    let folder = config.data.folder.join("compiled");
    Ok(Replay::open(folder, &name, &component, text, given.allowance()?).await?)
}

fn print(number: usize, event: &Recorded, played: &Played) {
    let unrecorded = match played.unrecorded {
        0 => String::new(),
        some => format!(", {some} without a recorded answer"),
    };
    print_line!(
        "{number} {}{}  {} µs, {} units of fuel, {} KiB of memory, {} reads{unrecorded}",
        event.kind,
        if event.message.is_some() { " (stored)" } else { "" },
        played.time.as_micros(),
        played.fuel,
        played.memory >> 10,
        played.reads,
    );
    for line in Shown::of(played).to_string().lines() {
        print_line!("    {line}");
    }
    // The log shows a trap with its place in the component.
    for line in played.log.iter().flat_map(|line| line.text.lines()) {
        print_line!("    log {line}");
    }
}

fn as_json(number: usize, event: &Recorded, played: &Played) -> serde_json::Value {
    let log: Vec<&str> = played.log.iter().map(|line| line.text.as_str()).collect();
    json!({
        "event": number,
        "kind": event.kind,
        "answer": Shown::of(played).to_json(),
        "failed": played.is_failure(),
        "microseconds": u64::try_from(played.time.as_micros()).unwrap_or(u64::MAX),
        "fuel": played.fuel,
        "memory_bytes": played.memory,
        "reads": played.reads,
        "unrecorded_reads": played.unrecorded,
        "started": played.started,
        "log": log,
    })
}
