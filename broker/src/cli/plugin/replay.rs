//! `switchboard plugin replay`: runs two versions of a plugin on recorded events and shows where they differ.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::{stage, test};
use crate::cli::output::print_line;
use crate::config::Config;
use crate::plugin::Shown;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The old version of the component
    old: PathBuf,
    /// The new version, to compare with it
    new: PathBuf,
    /// The events, as written by `switchboard plugin record`
    recording: PathBuf,
    #[command(flatten)]
    init: stage::Init,
    /// File with the configuration of the new version, if it differs
    #[arg(long, value_name = "FILE")]
    new_init_file: Option<PathBuf>,
    #[command(flatten)]
    terms: stage::Given,
}

/// Gives each event to both versions, with the recorded answers of the host. The error counts the events at which they
/// differ.
pub(super) async fn run(verb: &Replay, config: &Config) -> Result<()> {
    let events = test::events(&verb.recording)?;
    let text = verb.init.text()?;
    let new_text = verb.new_init_file.as_deref().map(stage::read).transpose()?;
    let mut old = test::open(&verb.old, &text, &verb.terms, config).await?;
    let mut new = test::open(&verb.new, new_text.as_ref().unwrap_or(&text), &verb.terms, config).await?;
    let (mut differ, mut spent) = (0, [(Duration::ZERO, 0); 2]);
    for (number, event) in events.iter().enumerate() {
        let played = [old.play(event).await, new.play(event).await];
        for (spent, played) in spent.iter_mut().zip(&played) {
            *spent = (spent.0 + played.time, spent.1 + played.fuel);
        }
        let differences = Shown::of(&played[0]).differences(&Shown::of(&played[1]));
        if !differences.is_empty() {
            differ += 1;
            print_line!("{} {}", number + 1, event.kind);
            for line in differences {
                print_line!("    {line}");
            }
        }
    }
    for ((name, version), (time, fuel)) in [&old, &new]
        .map(|rehearsal| (rehearsal.descriptor().plugin.clone(), rehearsal.descriptor().version.clone()))
        .iter()
        .zip(spent)
    {
        print_line!("{name} {version}: {} µs and {fuel} units of fuel in total", time.as_micros());
    }
    print_line!("{} events, {differ} differ", events.len());
    if differ > 0 {
        bail!("the versions differ at {differ} of {} events", events.len());
    }
    Ok(())
}
