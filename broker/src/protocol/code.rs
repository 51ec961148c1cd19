//! The tables of error codes and close codes.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $retryable:literal, $status:literal;)*) => {
        /// Why a frame or a request was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// All of them, in the order of their numbers.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The number that frames carry.
            pub fn number(self) -> u16 {
                match self { $(ErrorCode::$variant => $code,)* }
            }

            /// The name that frames and HTTP answers carry.
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$variant => $name,)* }
            }

            /// Whether the same frame may succeed later.
            pub fn retryable(self) -> bool {
                match self { $(ErrorCode::$variant => $retryable,)* }
            }

            /// The HTTP status of the same refusal.
            pub fn status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status,)* }
            }
        }
    };
}

error_codes! {
    /// The broker's own fault.
    Internal = 100, "internal", true, 500;
    /// No valid token.
    Unauthorized = 101, "unauthorized", false, 401;
    /// The channel is not there, or not for this member: the answer is the same.
    UnknownChannel = 102, "unknown_channel", false, 404;
    /// The member may not do this here.
    Denied = 103, "denied", false, 403;
    /// No handler is active for this type.
    UnknownType = 104, "unknown_type", false, 404;
    /// A documented bound would be passed.
    LimitExceeded = 106, "limit_exceeded", false, 409;
    /// Malformed.
    BadRequest = 107, "bad_request", false, 400;
    /// Something the broker depends on is away.
    Unavailable = 108, "unavailable", true, 503;
    /// The token has ended.
    TokenExpired = 109, "token_expired", false, 401;
    /// Too many requests.
    RateLimited = 111, "rate_limited", true, 429;
    /// The position to resume from cannot be served.
    UnrecoverablePosition = 112, "unrecoverable_position", false, 410;
    /// The handler refused, with its text.
    Rejected = 200, "rejected", false, 422;
    /// The handler did not answer in time.
    HandlerTimeout = 201, "handler_timeout", true, 503;
    /// The handler broke.
    HandlerFailed = 202, "handler_failed", false, 500;
    /// The idempotency key was used for another request.
    IdConflict = 203, "id_conflict", false, 409;
    /// The frame is larger than allowed.
    TooLarge = 204, "too_large", false, 413;
    /// Too much is under way.
    Overloaded = 205, "overloaded", true, 503;
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.number())
    }
}

/// A refusal as a client hears it. Its text helps the client's developer and tells nothing of the broker's insides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which row of the table.
    pub code: ErrorCode,
    /// One sentence: what to do or what to correct.
    pub message: Cow<'static, str>,
    /// For a retryable code: not before this many milliseconds.
    pub retry_after_ms: Option<u32>,
}

impl Refusal {
    /// A refusal with its text.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// The one answer for a channel that is not there, is another tenant's, or that the member is not in.
    pub fn unknown_channel() -> Self {
        Self::new(ErrorCode::UnknownChannel, "there is no such channel, or you are not in it")
    }

    /// The answer while the store is away.
    pub fn unavailable() -> Self {
        Self {
            retry_after_ms: Some(1_000),
            ..Self::new(ErrorCode::Unavailable, "the broker cannot reach its store; try again")
        }
    }
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $reason:literal;)*) => {
        /// Why the broker closes a socket.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Close {
            $($(#[$doc])* $variant,)*
        }

        impl Close {
            /// All of them.
            pub const ALL: &[Close] = &[$(Close::$variant,)*];

            /// The close code.
            pub fn code(self) -> u16 {
                match self { $(Close::$variant => $code,)* }
            }

            /// The close reason, a fixed text.
            pub fn reason(self) -> &'static str {
                match self { $(Close::$variant => $reason,)* }
            }
        }
    };
}

close_codes! {
    /// The client closed first; the broker answers in kind.
    Normal = 1000, "";
    /// The client broke RFC 6455.
    ProtocolError = 1002, "protocol error";
    /// A binary message.
    Unsupported = 1003, "text frames only";
    /// A text message that is not UTF-8.
    InvalidText = 1007, "text is not UTF-8";
    /// A message beyond what is read at all.
    TooBig = 1009, "message too big";
    /// The broker's own fault.
    Internal = 1011, "internal error";
    /// The token is missing, malformed, expired, foreign or of the wrong type: one text for all of them.
    Unauthenticated = 4000, "authentication failed";
    /// The token of a live socket has ended.
    TokenExpired = 4001, "token expired";
    /// The tenant or the member may no longer use the broker.
    Revoked = 4002, "revoked";
    /// The member may not be in the channel of this socket.
    Forbidden = 4003, "forbidden";
    /// No `auth` frame came in time.
    AuthTimeout = 4005, "authentication timed out";
    /// Too many connections.
    ConnectionLimit = 4100, "connection limit";
    /// Too many frames.
    RateLimited = 4101, "rate limited";
    /// The broker is at its limit.
    Overloaded = 4102, "overloaded";
    /// The broker is going away.
    Draining = 4200, "draining";
    /// The client did not answer a ping.
    NoPong = 4201, "no pong";
    /// The client does not read fast enough.
    SlowConsumer = 4202, "slow consumer";
    /// The broker cannot keep this socket's place in the channel.
    PositionLost = 4203, "position lost";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retryable_codes_are_those_of_the_table() {
        let retryable: Vec<u16> = ErrorCode::ALL.iter().filter(|c| c.retryable()).map(|c| c.number()).collect();
        assert_eq!(retryable, [100, 108, 111, 201, 205]);
    }

    #[test]
    fn close_codes_stand_in_the_range_that_says_what_to_do() {
        for close in Close::ALL {
            assert!(matches!(close.code(), 1000..=1011 | 4000..=4099 | 4100..=4199 | 4200..=4299), "{close:?}");
            assert!(close.reason().len() <= 123, "a close frame holds 125 bytes");
        }
    }
}
