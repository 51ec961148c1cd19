//! Reading a channel's messages. They are written by commits.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Result, params};

use super::Sqlite;
use super::rows::{self, Number, message_columns};
use crate::{MessageStore, Span, StoreError};
use switchboard_model::{ChannelId, Message, MessageId, TenantSlug};

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

#[async_trait]
impl MessageStore for Sqlite {
    async fn messages(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        self.read(tenant, move |db| {
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
        })
        .await
    }

    async fn message(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        id: MessageId,
    ) -> Result<Option<Message>, StoreError> {
        self.read(tenant, move |db| {
            db.prepare_cached(select_messages!("AND m.id = ?2"))?
                .query_row(params![channel, id], rows::message)
                .optional()
        })
        .await
    }
}
