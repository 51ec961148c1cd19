//! The end of a socket.

use std::time::Duration;

use tokio::time::timeout;

use super::socket::{End, Reader};
use crate::hub::Outbox;

/// How long a closing socket has to take what is queued, and to close from its side.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Sends what is queued and the close, if there is one, and waits for the client to close as well.
pub(super) async fn close(outbox: &Outbox, reader: &mut Reader, end: End) {
    match end {
        End::Gone => {}
        End::Close(close) => outbox.close(close),
        End::Answer(close) => {
            // Both sides have closed, and RFC 6455 wants the server to hang up first.
            outbox.close(close);
            let _ = timeout(CLOSE_WITHIN, outbox.run()).await;
            return;
        }
    }
    if outbox.is_closing() {
        let _ = timeout(CLOSE_WITHIN, async {
            outbox.run().await;
            reader.until_closed().await;
        })
        .await;
    }
}
