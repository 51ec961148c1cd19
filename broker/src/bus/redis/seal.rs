//! Proves that a message on Redis comes from a node of this cluster.
//!
//! Redis is shared: whoever can publish there could speak as anyone. So each message carries a code over its content, its
//! channel, its sender and its time, under a key derived from the secret that all nodes share. A message without a valid
//! code is dropped before it is parsed. Nothing here is secret from readers of Redis; only writing is protected.
//!
//! The layout, in bytes: node 16, version 1, milliseconds since 1970 8, code 16, content. A message that was recorded and
//! is played again is refused after [`FRESH_FOR`]; before that, durable frames are told apart by their `seq`, and what a
//! revocation says is looked up in the store.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::model::Timestamp;

/// Identifies the node that sent a message.
pub type NodeId = [u8; 16];

/// The layout of a message. A node of another version drops it, and reads durable messages from the store.
const VERSION: u8 = 1;

/// What the key is derived for, so that no other use of the secret can produce a code.
const PURPOSE: &[u8] = b"switchboard: messages between nodes, version 1";

/// Half of an HMAC-SHA256: the shortest that RFC 2104 recommends, and beyond guessing.
const CODE: usize = 16;

const TIME: usize = size_of::<i64>();
const HEAD: usize = size_of::<NodeId>() + 1 + TIME + CODE;

/// How old a message may be. It covers queues, and clocks that differ.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(60);

/// The key that seals this node's messages, and those that open the messages of other nodes.
#[derive(Clone)]
pub struct BusKeys {
    current: Key,
    previous: Option<Key>,
}

impl std::fmt::Debug for BusKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BusKeys").finish_non_exhaustive()
    }
}

/// Why a message is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unopened {
    /// It has no valid code.
    Forged,
    /// Its code is valid, but it is too old, or from the future.
    Stale,
}

impl BusKeys {
    /// Derives the keys from the shared secret, and from the one that it replaces during a rotation. Messages are sealed
    /// with the first and opened with both.
    pub fn new(secret: &[u8], previous: Option<&[u8]>) -> Self {
        Self { current: Key::derive(secret), previous: previous.map(Key::derive) }
    }

    /// A message as it travels.
    pub fn seal(&self, node: &NodeId, channel: &str, at: Timestamp, content: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEAD + content.len());
        message.extend_from_slice(node);
        message.push(VERSION);
        message.extend_from_slice(&at.0.to_be_bytes());
        message.extend_from_slice(&self.current.code(&message, channel, content));
        message.extend_from_slice(content);
        message
    }

    /// Where the content of a message begins, if it comes from a node of this cluster.
    pub fn open(&self, channel: &str, now: Timestamp, message: &[u8]) -> Result<usize, Unopened> {
        let (head, content) = message.split_at_checked(HEAD).ok_or(Unopened::Forged)?;
        let (signed, code) = head.split_at(HEAD - CODE);
        let is_ours = |key: &Key| bool::from(key.code(signed, channel, content).ct_eq(code));
        if !is_ours(&self.current) && !self.previous.as_ref().is_some_and(is_ours) {
            return Err(Unopened::Forged);
        }
        let (version, time) = signed[size_of::<NodeId>()..].split_first().ok_or(Unopened::Forged)?;
        let at = i64::from_be_bytes(time.try_into().map_err(|_| Unopened::Forged)?);
        let is_fresh = Duration::from_millis(now.0.abs_diff(at)) <= FRESH_FOR;
        if *version == VERSION && is_fresh { Ok(HEAD) } else { Err(Unopened::Stale) }
    }
}

/// An HMAC with its key absorbed: computing a code clones it.
#[derive(Clone)]
struct Key(Hmac<Sha256>);

impl Key {
    fn derive(secret: &[u8]) -> Self {
        let mut derivation = hmac(secret);
        derivation.update(PURPOSE);
        Self(hmac(&derivation.finalize().into_bytes()))
    }

    fn code(&self, signed: &[u8], channel: &str, content: &[u8]) -> [u8; CODE] {
        let mut mac = self.0.clone();
        mac.update(signed);
        // With its length, so that no channel and content can pass for another pair.
        mac.update(&(channel.len() as u64).to_be_bytes());
        mac.update(channel.as_bytes());
        mac.update(content);
        let code: [u8; 32] = mac.finalize().into_bytes().into();
        code[..CODE].try_into().expect("it is longer")
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("an HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = [7; 16];
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn opened<'m>(keys: &BusKeys, channel: &str, message: &'m [u8]) -> Result<&'m [u8], Unopened> {
        keys.open(channel, NOW, message).map(|at| &message[at..])
    }

    #[test]
    fn a_message_is_opened_as_it_was_sealed_and_with_no_byte_changed() {
        let keys = BusKeys::new(b"secret", None);
        let sealed = keys.seal(&NODE, "acme/lobby", NOW, b"hello");
        assert_eq!(opened(&keys, "acme/lobby", &sealed), Ok(&b"hello"[..]));
        assert_eq!(opened(&keys, "acme/other", &sealed), Err(Unopened::Forged), "another channel");
        assert_eq!(opened(&BusKeys::new(b"guess", None), "acme/lobby", &sealed), Err(Unopened::Forged));
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(opened(&keys, "acme/lobby", &forged), Err(Unopened::Forged), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert_eq!(opened(&keys, "acme/lobby", &sealed[..length]), Err(Unopened::Forged), "torn at {length}");
        }
    }

    #[test]
    fn the_channel_cannot_reach_into_the_content() {
        let keys = BusKeys::new(b"secret", None);
        let mut sealed = keys.seal(&NODE, "acme/ab", NOW, b"c");
        sealed.insert(HEAD, b'b');
        assert_eq!(opened(&keys, "acme/a", &sealed), Err(Unopened::Forged));
    }

    #[test]
    fn a_message_that_is_played_again_later_is_refused() {
        let keys = BusKeys::new(b"secret", None);
        let sealed = keys.seal(&NODE, "c", NOW, b"hello");
        assert!(keys.open("c", NOW.plus(FRESH_FOR), &sealed).is_ok());
        assert_eq!(keys.open("c", NOW.plus(FRESH_FOR + Duration::from_millis(1)), &sealed), Err(Unopened::Stale));
        let early = keys.seal(&NODE, "c", NOW.plus(FRESH_FOR + Duration::from_millis(1)), b"hello");
        assert_eq!(keys.open("c", NOW, &early), Err(Unopened::Stale));
    }

    #[test]
    fn during_a_rotation_messages_of_both_secrets_are_opened() {
        let (old, new) = (BusKeys::new(b"old", None), BusKeys::new(b"new", None));
        let prepared = BusKeys::new(b"old", Some(b"new"));
        let turned = BusKeys::new(b"new", Some(b"old"));
        for (from, to, arrives) in [
            (&old, &prepared, true),
            (&prepared, &old, true),
            (&turned, &prepared, true),
            (&prepared, &turned, true),
            (&old, &turned, true),
            (&new, &turned, true),
            (&turned, &old, false),
        ] {
            let sealed = from.seal(&NODE, "c", NOW, b"hello");
            assert_eq!(opened(to, "c", &sealed).is_ok(), arrives);
        }
    }
}
