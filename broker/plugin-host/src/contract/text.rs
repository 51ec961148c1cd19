//! Cleans text from a guest before it leaves the broker.

/// Longest text of a handler that reaches a client, in bytes.
const CLIENT_TEXT: usize = 512;

/// Cuts a text to [`CLIENT_TEXT`] bytes and replaces control characters.
pub(crate) fn for_client(text: &str) -> String {
    let end = text.floor_char_boundary(CLIENT_TEXT);
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
