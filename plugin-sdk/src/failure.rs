//! Why a handler refuses an event.

use std::fmt;
use std::time::Duration;

/// Why a handler refuses an event. The broker then stores and sends nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The event is malformed; the text tells the sender what to correct. Error 107.
    Invalid(String),
    /// The event is well-formed but not wanted; the text tells the sender why. Error 200.
    Denied(String),
    /// Not now: the sender may retry after this time. Error 205.
    Retry(Duration),
    /// The plugin is at fault. The text goes to the plugin's log, never to a client. Error 202.
    Internal(String),
}

impl Failure {
    /// The event is malformed; the text tells the sender what to correct.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// The event is well-formed but not wanted; the text tells the sender why.
    pub fn denied(text: impl Into<String>) -> Self {
        Self::Denied(text.into())
    }

    /// Not now: the sender may retry after this time, rounded down to whole milliseconds.
    pub fn retry(after: Duration) -> Self {
        Self::Retry(after)
    }

    /// The plugin is at fault. The text goes to the plugin's log, never to a client.
    pub fn internal(text: impl Into<String>) -> Self {
        Self::Internal(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "invalid: {text}"),
            Self::Denied(text) => write!(f, "denied: {text}"),
            Self::Retry(after) => write!(f, "retry after {} ms", after.as_millis()),
            Self::Internal(text) => write!(f, "internal: {text}"),
        }
    }
}

impl std::error::Error for Failure {}
