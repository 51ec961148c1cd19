//! What clients and the broker say to each other over a socket: frames, error codes, close codes.
//!
//! Only forms and numbers stand here. Nothing is sent, nothing is looked up, and no message type but the broker's own
//! (`auth`, `subscribe`, `ping` …) is known.

mod client;
mod code;
mod server;
mod wire;

pub use client::{BadFrame, ClientFrame, EventFrame, Since, parse};
pub use code::{Close, ErrorCode, Refusal};
pub use server::{
    Ack, ChannelInfo, ChannelState, ErrorFrame, MemberInfo, MessageFrame, Notice, Pong, Reading, Subscribed,
    Unsubscribed, Welcome, with_client_id,
};
pub use wire::WireFrame;

/// The largest text message a client may send, in bytes. A longer one is answered with `too_large`.
pub const MAX_FRAME: usize = 64 * 1024;

/// The largest message that is read at all, in bytes; beyond it the socket closes with 1009. The room between this
/// and [`MAX_FRAME`] is what lets an oversized message be answered instead of costing the connection.
pub const MAX_READ: usize = 256 * 1024;

/// How many messages `channel.state` carries at most.
pub const STATE_MESSAGES: u32 = 50;

/// How many bytes of messages `channel.state` carries at most, so that joining never fills the outbound queue.
pub const STATE_BYTES: usize = 256 * 1024;

/// How many members `channel.state` lists at most; `member_count` tells the rest.
pub const STATE_MEMBERS: u32 = 200;

/// How many messages a client may have missed and still be sent them one by one.
pub const MAX_RECOVERED: u64 = 1_000;

/// The subprotocol that the broker speaks.
pub const SUBPROTOCOL: &str = "switchboard.v1";
