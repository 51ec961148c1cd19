//! Write Switchboard message handlers in Rust.
//!
//! A plugin is a WebAssembly component that receives an event of a channel and answers with the effects that it
//! requests. This crate provides the trait that a handler implements ([`Handler`]), the macro that makes a component
//! from it ([`export!`]), and a host made of plain Rust values ([`MockHost`]), so that `cargo test` needs no broker.
//!
//! # A complete plugin
//!
//! ```
//! use serde::Deserialize;
//! use switchboard_plugin_sdk::prelude::*;
//!
//! /// Lets a member wave at the channel, once every ten seconds.
//! #[derive(Default)]
//! struct Wave {
//!     last_ms: u64,
//! }
//!
//! #[derive(Deserialize)]
//! struct Frame {
//!     hand: String,
//! }
//!
//! impl Handler for Wave {
//!     const NAME: &'static str = "wave";
//!     const VERSION: &'static str = "1.0.0";
//!     const KINDS: &'static [Kind] = &[Kind::ephemeral("wave")];
//!
//!     fn handle(&mut self, event: Event, _host: &impl Host) -> Outcome {
//!         let frame: Frame = event.payload()?;
//!         if event.context.now_ms < self.last_ms + 10_000 {
//!             return Err(Failure::denied("one wave in ten seconds is enough"));
//!         }
//!         self.last_ms = event.context.now_ms;
//!         let payload = json!({ "user": event.context.user, "hand": frame.hand });
//!         Ok(vec![Effect::broadcast(Signal::to_channel("wave", &payload)?.except_sender())])
//!     }
//! }
//!
//! export!(Wave);
//!
//! // The rest would be in `#[test]` functions.
//! use switchboard_plugin_sdk::mock::{self, MockHost};
//!
//! let mut wave = Wave::default();
//! let waved = mock::event("wave", json!({ "hand": "left" }));
//! let effects = wave.handle(waved.clone(), &MockHost::new()).expect("the frame is well-formed");
//! let payload = json!({ "user": mock::user("alice"), "hand": "left" });
//! assert_eq!(effects, [Effect::broadcast(Signal::to_channel("wave", &payload)?.except_sender())]);
//!
//! let again = wave.handle(waved, &MockHost::new());
//! assert_eq!(again, Err(Failure::denied("one wave in ten seconds is enough")));
//!
//! let empty = wave.handle(mock::event("wave", json!({})), &MockHost::new());
//! assert_eq!(empty, Err(Failure::invalid("missing field `hand`")));
//! # Ok::<(), Failure>(())
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` builds the component of a crate whose `crate-type` includes `cdylib`.
//!
//! What a plugin keeps in `self` is a cache: the broker runs several instances of it side by side and may end any of
//! them at any time. In the example, a member may therefore wave more often than the text says. Data that must be exact
//! belongs in a message of the channel or under one of the plugin's own keys ([`Host::kv_get`], [`Effect::kv_put`]).
//!
//! Nothing here does I/O or reads a clock: both come from the broker, with the event and through [`Host`].

mod effect;
mod event;
mod export;
mod failure;
mod handler;
mod host;
pub mod mock;
mod payload;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;

pub use effect::{Amendment, Audience, Draft, Effect, KvWrite, ReadMark, Signal};
pub use event::{Context, Event, KvEntry, Message, User};
#[doc(hidden)]
pub use export::check;
pub use failure::Failure;
pub use handler::{Handler, Kind, Outcome, Want};
pub use host::{Host, HostError, Level};
#[doc(no_inline)]
pub use mock::MockHost;
pub use serde_json::json;

/// Everything that a handler's source needs.
pub mod prelude {
    pub use crate::{
        Amendment, Audience, Context, Draft, Effect, Event, Failure, Handler, Host, HostError, Kind, KvEntry, KvWrite,
        Level, Message, Outcome, ReadMark, Signal, User, Want, export, json,
    };
}
