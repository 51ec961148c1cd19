//! Reading a channel's messages. Writing them is a commit's.

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::rows::{self, Number, message_columns};
use crate::Span;
use switchboard_model::{ChannelId, Message, MessageId};

macro_rules! select_messages {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            message_columns!(),
            " FROM chat_message m JOIN member s ON s.id = m.sender_id WHERE m.channel_id = ?1 ",
            $rest
        )
    };
}

pub(super) fn span(db: &Connection, channel: ChannelId, span: Span, limit: u32) -> Result<Vec<Message>> {
    let backwards = select_messages!("AND m.seq < ?2 ORDER BY m.seq DESC LIMIT ?3");
    let forwards = select_messages!("AND m.seq > ?2 ORDER BY m.seq LIMIT ?3");
    let (sql, from) = match span {
        Span::Latest => (backwards, u64::MAX),
        Span::Before(seq) => (backwards, seq),
        Span::After(seq) => (forwards, seq),
    };
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map(params![channel, Number(from), limit], rows::message)?;
    let mut messages = found.collect::<Result<Vec<_>>>()?;
    if sql == backwards {
        messages.reverse();
    }
    Ok(messages)
}

pub(super) fn find(db: &Connection, channel: ChannelId, id: MessageId) -> Result<Option<Message>> {
    db.prepare_cached(select_messages!("AND m.id = ?2"))?.query_row(params![channel, id], rows::message).optional()
}
