//! `switchboard plugin check`: whether this broker would accept a component, and with which grants and limits.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::stage;
use crate::cli::output::print_line;
use crate::config::Config;
use crate::model::Clock;
use crate::model::catalogue::{Durability, Import, Origin, Scope};
use crate::plugin::{Allowance, Bounds, Compiler, Descriptor, Engine, Generation, Limits, NoHostData, Options, Order};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The component: a .wasm file
    file: PathBuf,
    #[command(flatten)]
    init: stage::Init,
}

/// Describes the component. The error says in one line why a broker would refuse it.
pub(super) async fn run(verb: &Check, config: &Config) -> Result<()> {
    let file = verb.file.display().to_string();
    let component = fs::read(&verb.file).with_context(|| format!("failed to read {file}"))?;
    let text = verb.init.text()?;
    // Compiles it like a broker, with the same limits.
    let options = Options {
        folder: config.data.folder.join("compiled"),
        compiler: Compiler::Child,
        bounds: Bounds::default(),
        clock: Clock::system(),
    };
    let (engine, _) = Engine::new(options, Arc::new(NoHostData))?;
    let (generation, limit) = least_memory(&engine, &file, &component, &text).await?;
    let described = generation.descriptor();
    print(described);
    print_line!("  memory    {} KiB after its start", generation.memory_at_start() >> 10);
    let name = &described.plugin;
    print_line!("a broker accepts it: switchboard plugin deploy {file}");
    // Every plugin has the grant `log`.
    let grants: Vec<&str> =
        described.wants.iter().filter(|import| **import != Import::Log).map(|import| import.as_str()).collect();
    if !grants.is_empty() {
        print_line!("it needs grants: switchboard plugin grants {name} --add {}", grants.join(" --add "));
    }
    if limit > Limits::default().memory >> 20 {
        print_line!("it needs a limit: switchboard plugin limits {name} memory_mib={limit}");
    }
    Ok(())
}

/// Starts it with increasing memory limits, and returns the first one, in MiB, with which it starts. Any other error ends
/// the search.
async fn least_memory(engine: &Engine, name: &str, component: &[u8], config: &str) -> Result<(Arc<Generation>, usize)> {
    let default = Limits::default().memory >> 20;
    let mut mebibytes = default;
    loop {
        let allowance = stage::allowance(&[], &[("memory_mib".to_owned(), u64::try_from(mebibytes)?)])?;
        let allowance = Arc::new(Allowance { grants: Import::ALL.into_iter().collect(), ..allowance });
        let order = Order { name, component, id: None, config, allowance, scope: &Scope::All };
        match engine.prepare(order).await {
            Ok(generation) => return Ok((generation, mebibytes)),
            Err(error) if mebibytes >= 512 => return Err(error.into()),
            // How a start fails for lack of memory depends on the language.
            Err(error) => {
                let next = mebibytes * 2;
                if !may_be_memory(&error.to_string()) {
                    bail!(error);
                }
                mebibytes = next;
            }
        }
    }
}

fn may_be_memory(error: &str) -> bool {
    error.contains("failed to run the handler") && !error.contains("its init failed")
}

fn print(described: &Descriptor) {
    let list = |texts: Vec<String>| if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
    print_line!("{} {}", described.plugin, described.version);
    print_line!("  digest    {}", described.digest);
    print_line!("  size      {} bytes", described.size);
    for spec in &described.kinds {
        let durability = match spec.durability {
            Durability::Durable => "durable",
            Durability::Ephemeral => "ephemeral",
        };
        let origin = match spec.origin {
            Origin::Client => "from clients",
            Origin::Broker => "from the broker",
        };
        print_line!("  handles   {} ({durability}, {origin})", spec.kind);
    }
    print_line!("  watches   {}", list(described.watches.iter().map(ToString::to_string).collect()));
    print_line!("  uses      {}", list(described.wants.iter().map(ToString::to_string).collect()));
}
