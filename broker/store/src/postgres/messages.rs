//! Reading a channel's messages. They are written by commits.

use super::Postgres;
use super::connection::unreadable;
use super::rows::{self, Number, message_columns};
use crate::{MessageStore, Span, StoreError};
use async_trait::async_trait;
use switchboard_model::{ChannelId, Message, MessageId, TenantSlug};

macro_rules! select_messages {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            message_columns!(),
            " FROM {t}.chat_message m JOIN {t}.member s ON s.id = m.sender_id WHERE m.channel_id = $1 ",
            $rest
        )
    };
}

#[async_trait]
impl MessageStore for Postgres {
    async fn messages(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let backwards = select_messages!("AND m.seq < $2 ORDER BY m.seq DESC LIMIT $3");
        let forwards = select_messages!("AND m.seq > $2 ORDER BY m.seq LIMIT $3");
        let (sql, from) = match span {
            Span::Latest => (backwards, u64::MAX),
            Span::Before(seq) => (backwards, seq),
            Span::After(seq) => (forwards, seq),
        };
        let found = self.database.tenant(tenant, sql, &[&channel, &Number(from), &i64::from(limit)]).await?;
        let mut messages = found.iter().map(rows::message).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        if sql == backwards {
            messages.reverse();
        }
        Ok(messages)
    }

    async fn message(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        id: MessageId,
    ) -> Result<Option<Message>, StoreError> {
        let found = self.database.tenant(tenant, select_messages!("AND m.id = $2"), &[&channel, &id]).await?;
        found.first().map(rows::message).transpose().map_err(unreadable)
    }
}
