//! Which texts may name a person.
//!
//! A name is shown beside other people's. So it must be visible, must not change how what follows is shown, and must not
//! differ from another name only by its encoding. It may still look like another one: which letters resemble each other
//! depends on the reader.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The text in normal form C.
pub(crate) fn normalized(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

/// Whether a text of at most so many characters may be a name.
pub(crate) fn is_name(text: &str, max_chars: usize) -> bool {
    text.chars().count() <= max_chars
        && !text.chars().any(|c| c.is_control() || governs_others(c))
        && !text.chars().all(is_blank)
}

/// Whether a character changes the direction or the line of the characters around it.
fn governs_others(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character shows nothing by itself.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_visible_and_leaves_others_as_they_are() {
        for good in ["alice", "Zoë", "山田 太郎", "👩\u{200d}🚀", "a b", "علي"] {
            assert!(is_name(good, 64), "{good}");
        }
        for bad in
            ["", " ", "\u{3164}", "\u{200b}\u{200d}", "a\nb", "a\u{7f}", "\u{202e}eve", "eve\u{2066}", "a\u{2028}b"]
        {
            assert!(!is_name(bad, 64), "{bad:?}");
        }
        assert!(!is_name(&"x".repeat(65), 64));
        assert_eq!(normalized("e\u{301}"), "é");
        assert!(matches!(normalized("alice"), Cow::Borrowed(_)));
    }
}
