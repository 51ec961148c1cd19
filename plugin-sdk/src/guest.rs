//! The boundary between a handler and the broker: the bindings of the WIT, and conversions in both directions.
//!
//! This is the only module that knows the bindings. It makes no decisions: each value has one counterpart.

use std::time::Duration;

use crate::{Host, HostError, Level};

/// What wit-bindgen generates from the contract.
#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    reason = "generated code, which lays out values in memory"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        world: "plugin",
        pub_export_macro: true,
        default_bindings_module: "switchboard_plugin_sdk::guest::bindings",
    });
}

use bindings::exports::switchboard::plugin::handler as wit_handler;
use bindings::switchboard::plugin::{history, kv, log, members, presence, types as wit};

pub use bindings::switchboard::plugin::types::{Context, Event, Message};
pub use wit_handler::{Descriptor, Guest};

/// The answer of the exported function.
pub type Outcome = Result<Vec<wit::Effect>, wit::Failure>;

/// The plugin's description of itself.
pub fn describe<H: crate::Handler>() -> Descriptor {
    Descriptor {
        name: H::NAME.to_owned(),
        version: H::VERSION.to_owned(),
        kinds: H::KINDS.iter().map(Into::into).collect(),
        watches: H::WATCHES.iter().map(|&kind| kind.to_owned()).collect(),
        wants: H::WANTS.iter().map(|want| interface(*want).to_owned()).collect(),
    }
}

/// Starts the instance.
///
/// # Errors
///
/// What is wrong with the configuration, according to the handler.
pub fn init<H: crate::Handler>(handler: &mut H, config: &str) -> Result<(), String> {
    *handler = H::default();
    handler.init(config)
}

/// Passes an event to the handler.
///
/// # Errors
///
/// Why the handler refuses it.
pub fn handle<H: crate::Handler>(handler: &mut H, event: Event) -> Outcome {
    answer(handler.handle(event.into(), &Broker))
}

/// Passes a stored message to the handler.
///
/// # Errors
///
/// Why the handler refuses it.
pub fn stored<H: crate::Handler>(handler: &mut H, message: Message, context: Context) -> Outcome {
    answer(handler.stored(message.into(), context.into(), &Broker))
}

fn answer(outcome: crate::Outcome) -> Outcome {
    match outcome {
        Ok(effects) => Ok(effects.into_iter().map(Into::into).collect()),
        Err(failure) => Err(failure.into()),
    }
}

/// The broker, on the other side of the boundary.
struct Broker;

impl Host for Broker {
    fn recent(&self, before: Option<u64>, limit: u32) -> Result<Vec<crate::Message>, HostError> {
        Ok(history::recent(before, limit).map_err(HostError)?.into_iter().map(Into::into).collect())
    }

    fn message(&self, id: &str) -> Result<Option<crate::Message>, HostError> {
        Ok(history::get(id).map_err(HostError)?.map(Into::into))
    }

    fn members(&self, after: Option<&str>, limit: u32) -> Result<Vec<crate::User>, HostError> {
        Ok(members::page(after, limit).map_err(HostError)?.into_iter().map(Into::into).collect())
    }

    fn is_member(&self, user_id: &str) -> Result<bool, HostError> {
        members::contains(user_id).map_err(HostError)
    }

    fn online(&self) -> Result<Vec<crate::User>, HostError> {
        Ok(presence::online().map_err(HostError)?.into_iter().map(Into::into).collect())
    }

    fn kv_get(&self, key: &str) -> Result<Option<crate::KvEntry>, HostError> {
        Ok(kv::get(key).map_err(HostError)?.map(Into::into))
    }

    fn kv_page(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<crate::KvEntry>, HostError> {
        Ok(kv::page(prefix, after, limit).map_err(HostError)?.into_iter().map(Into::into).collect())
    }

    fn log(&self, level: Level, line: &str) {
        let level = match level {
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        };
        log::write(level, line);
    }
}

fn interface(want: crate::Want) -> &'static str {
    match want {
        crate::Want::History => "history",
        crate::Want::Members => "members",
        crate::Want::Presence => "presence",
        crate::Want::Kv => "kv",
        crate::Want::Log => "log",
    }
}

impl From<&crate::Kind> for wit_handler::KindSpec {
    fn from(kind: &crate::Kind) -> Self {
        Self {
            name: kind.name.to_owned(),
            origin: if kind.from_broker { wit_handler::Origin::Broker } else { wit_handler::Origin::Client },
            durability: if kind.durable {
                wit_handler::Durability::Durable
            } else {
                wit_handler::Durability::Ephemeral
            },
        }
    }
}

impl From<wit::Event> for crate::Event {
    fn from(event: wit::Event) -> Self {
        Self { kind: event.kind, json: event.payload, context: event.context.into() }
    }
}

impl From<wit::Context> for crate::Context {
    fn from(context: wit::Context) -> Self {
        let wit::Context { tenant, channel, user, session, event_id, now_ms } = context;
        Self { tenant, channel, user: user.into(), session, event_id, now_ms }
    }
}

impl From<wit::User> for crate::User {
    fn from(user: wit::User) -> Self {
        Self { id: user.id, username: user.username }
    }
}

impl From<wit::Message> for crate::Message {
    fn from(message: wit::Message) -> Self {
        let wit::Message {
            id,
            seq,
            kind,
            sender,
            content,
            reply_to,
            attachments,
            created_at_ms,
            edited_at_ms,
            deleted_at_ms,
        } = message;
        let sender = sender.into();
        Self { id, seq, kind, sender, content, reply_to, attachments, created_at_ms, edited_at_ms, deleted_at_ms }
    }
}

impl From<kv::Entry> for crate::KvEntry {
    fn from(entry: kv::Entry) -> Self {
        let kv::Entry { key, value, version } = entry;
        Self { key, value, version }
    }
}

impl From<crate::Effect> for wit::Effect {
    fn from(effect: crate::Effect) -> Self {
        match effect {
            crate::Effect::Store(crate::Draft { kind, content, reply_to, attachments }) => {
                Self::Store(wit::Draft { kind, content, reply_to, attachments })
            }
            crate::Effect::Amend(crate::Amendment { message_id, content }) => {
                Self::Amend(wit::Amendment { message_id, content })
            }
            crate::Effect::KvPut(crate::KvWrite { key, value, ttl_ms, expected }) => {
                Self::KvPut(wit::KvWrite { key, value, ttl_ms, expected })
            }
            crate::Effect::MarkRead(crate::ReadMark { kind, message_id }) => {
                Self::MarkRead(wit::ReadMark { kind, message_id })
            }
            crate::Effect::Broadcast(crate::Signal { audience, kind, payload }) => {
                Self::Broadcast(wit::Signal { audience: audience.into(), kind, payload })
            }
        }
    }
}

impl From<crate::Audience> for wit::Audience {
    fn from(audience: crate::Audience) -> Self {
        match audience {
            crate::Audience::Channel => Self::Channel,
            crate::Audience::ChannelExceptSender => Self::ChannelExceptSender,
            crate::Audience::Users(ids) => Self::Users(ids),
            crate::Audience::Sender => Self::Sender,
        }
    }
}

impl From<crate::Failure> for wit::Failure {
    fn from(failure: crate::Failure) -> Self {
        match failure {
            crate::Failure::Invalid(text) => Self::Invalid(text),
            crate::Failure::Denied(text) => Self::Denied(text),
            crate::Failure::Retry(after) => Self::Retry(milliseconds(after)),
            crate::Failure::Internal(text) => Self::Internal(text),
        }
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
