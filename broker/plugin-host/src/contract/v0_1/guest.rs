//! A component that speaks version 0.1: linked, instantiated, called.

use switchboard_model::catalogue::{Durability, Origin};
use switchboard_model::{ChannelKey, Effect, Event, Message};
use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::bindings::exports::switchboard::plugin::handler::{
    Durability as GuestDurability, Event as GuestEvent, Origin as GuestOrigin,
};
use super::bindings::switchboard::plugin::types::{
    Context, Effect as GuestEffect, Failure, Message as GuestMessage, User as GuestUser,
};
use super::bindings::{Plugin, PluginPre};
use super::convert::milliseconds;
use super::effects;
use super::effects::SentBy;
use crate::contract::descriptor::{DescribedKind, Description};
use crate::contract::host::HostState;
use crate::contract::text::for_client;
use crate::error::CallError;
use crate::limits::{Allowance, Limits};

/// A component linked to its imports, with the contract's exports verified.
#[derive(Clone)]
pub(crate) struct Linked(PluginPre<HostState>);

pub(crate) struct Guest(Plugin);

pub(crate) struct Input {
    call: Call,
    sent: SentBy,
}

enum Call {
    Event(GuestEvent),
    /// A stored message, with the context of the event it is passed on in.
    Stored(GuestMessage, Context),
}

/// A guest's answer, not validated yet.
pub(crate) struct Answer(Result<Vec<GuestEffect>, Failure>);

impl Linked {
    pub(crate) fn new(linked: InstancePre<HostState>) -> wasmtime::Result<Self> {
        PluginPre::new(linked).map(Self)
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.0.engine()
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<Guest> {
        self.0.instantiate_async(store).await.map(Guest)
    }
}

impl Guest {
    pub(crate) async fn describe(&self, store: &mut Store<HostState>) -> wasmtime::Result<Description> {
        let said = self.0.switchboard_plugin_handler().call_describe(store).await?;
        let kinds = said.kinds.into_iter().map(|kind| DescribedKind {
            name: kind.name,
            origin: match kind.origin {
                GuestOrigin::Client => Origin::Client,
                GuestOrigin::Broker => Origin::Broker,
            },
            durability: match kind.durability {
                GuestDurability::Durable => Durability::Durable,
                GuestDurability::Ephemeral => Durability::Ephemeral,
            },
        });
        Ok(Description {
            name: said.name,
            version: said.version,
            kinds: kinds.collect(),
            watches: said.watches,
            wants: said.wants,
        })
    }

    /// Passes the operator's configuration. The inner error is the guest's own.
    pub(crate) async fn init(
        &self,
        store: &mut Store<HostState>,
        config: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        self.0.switchboard_plugin_handler().call_init(store, config).await
    }

    pub(crate) async fn call(&self, store: &mut Store<HostState>, input: &Input) -> wasmtime::Result<Answer> {
        let handler = self.0.switchboard_plugin_handler();
        let answer = match &input.call {
            Call::Event(event) => handler.call_handle(store, event).await?,
            Call::Stored(message, context) => handler.call_stored(store, message, context).await?,
        };
        Ok(Answer(answer))
    }
}

impl Input {
    /// Wraps an event, or a stored message in the context of one.
    pub(crate) fn new(channel: &ChannelKey, event: &Event, message: Option<&Message>) -> Self {
        let context = context(channel, event);
        let call = match message {
            Some(message) => Call::Stored(message.clone().into(), context),
            None => Call::Event(GuestEvent { kind: event.kind.to_string(), payload: event.payload.clone(), context }),
        };
        Self { call, sent: SentBy { user: event.user.id.clone(), at: event.at } }
    }
}

impl Answer {
    /// Bytes of text in the effects.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |asked| effects::bytes(asked))
    }

    /// Validates the answer and converts its effects.
    pub(crate) fn read(self, input: &Input, allowance: &Allowance) -> Result<Vec<Effect>, CallError> {
        match self.0 {
            Ok(asked) => {
                effects::check_granted(&asked, &allowance.grants)?;
                effects::read(asked, &input.sent, &allowance.limits)
            }
            Err(Failure::Invalid(text)) => Err(CallError::Invalid(for_client(&text))),
            Err(Failure::Denied(text)) => Err(CallError::Denied(for_client(&text))),
            Err(Failure::Retry(after)) => Err(CallError::Retry(after)),
            Err(Failure::Internal(text)) => Err(CallError::Failed(text)),
        }
    }
}

/// Bytes that a guest's effects may occupy in its memory: their text, the same again for encodings, and the fixed part
/// of each.
pub(crate) fn effect_bytes(limits: &Limits) -> usize {
    2 * limits.effect_bytes + limits.effects * size_of::<GuestEffect>()
}

fn context(channel: &ChannelKey, event: &Event) -> Context {
    Context {
        tenant: channel.tenant.to_string(),
        channel: channel.channel.to_string(),
        user: GuestUser { id: event.user.id.to_string(), username: event.user.username.to_string() },
        session: event.session.map(|session| session.to_string()),
        event_id: event.id.to_string(),
        now_ms: milliseconds(event.at),
    }
}
