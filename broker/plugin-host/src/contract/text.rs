//! Texts of a guest that leave the broker.

/// The longest text of a handler that reaches a client, in bytes.
const CLIENT_TEXT: usize = 512;

/// A handler's text as a client gets it: without control characters, and short.
pub(crate) fn for_client(text: &str) -> String {
    let end = text.floor_char_boundary(CLIENT_TEXT);
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
