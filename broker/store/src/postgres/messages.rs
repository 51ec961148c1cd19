//! Reading a channel's messages. Writing them is a commit's.

use super::connection::{Database, unreadable};
use super::rows::{self, Number, message_columns};
use crate::{Span, StoreError};
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

pub(super) async fn span(
    database: &Database,
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
    let found = database.tenant(tenant, sql, &[&channel, &Number(from), &i64::from(limit)]).await?;
    let mut messages = found.iter().map(rows::message).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if sql == backwards {
        messages.reverse();
    }
    Ok(messages)
}

pub(super) async fn find(
    database: &Database,
    tenant: &TenantSlug,
    channel: ChannelId,
    id: MessageId,
) -> Result<Option<Message>, StoreError> {
    let found = database.tenant(tenant, select_messages!("AND m.id = $2"), &[&channel, &id]).await?;
    found.first().map(rows::message).transpose().map_err(unreadable)
}
