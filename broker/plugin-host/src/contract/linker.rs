//! Which imports a component finds: from the contract exactly what is granted; from WASI what standard libraries need
//! to start, and no socket, file or environment variable.

use std::collections::BTreeSet;

use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};

use crate::contract::host::HostState;
use crate::contract::v0_1::bindings::switchboard::plugin::{history, kv, log, members, presence, types};
use switchboard_model::catalogue::Import;

/// Links the granted interfaces of the contract, and the permitted part of WASI.
pub(crate) fn linker(engine: &wasmtime::Engine, granted: &BTreeSet<Import>) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    types::add_to_linker::<_, Own>(l, |state| state)?;
    for import in granted {
        match import {
            Import::History => history::add_to_linker::<_, Own>(l, |state| state)?,
            Import::Members => members::add_to_linker::<_, Own>(l, |state| state)?,
            Import::Presence => presence::add_to_linker::<_, Own>(l, |state| state)?,
            Import::Kv => kv::add_to_linker::<_, Own>(l, |state| state)?,
            Import::Log => log::add_to_linker::<_, Own>(l, |state| state)?,
        }
    }
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(l)?;
    cli::environment::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::exit::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_input::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_output::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_stdin::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_stdout::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    cli::terminal_stderr::add_to_linker::<HostState, WasiCli>(l, HostState::cli)?;
    filesystem::types::add_to_linker::<HostState, WasiFilesystem>(l, HostState::filesystem)?;
    filesystem::preopens::add_to_linker::<HostState, WasiFilesystem>(l, HostState::filesystem)?;
    random::insecure::add_to_linker::<HostState, WasiRandom>(l, HostState::random)?;
    random::insecure_seed::add_to_linker::<HostState, WasiRandom>(l, HostState::random)?;
    Ok(linker)
}

type Own = HasSelf<HostState>;
