//! Recognizes secrets that anyone would try first.
//!
//! It finds placeholders and patterns, not every weak secret: only a random one is strong.

/// Beginnings of the placeholders in examples and templates, in lower case and without separators.
const PLACEHOLDERS: &[&str] =
    &["changeme", "changethis", "replaceme", "secretsecret", "passwordpassword", "yoursecret"];

/// Fewest different characters of a secret. A random hexadecimal secret of 32 characters has 8 or more in all but one of a
/// million cases.
const MIN_DIFFERENT: usize = 6;

/// Longest pattern that is recognized when a secret consists of its repetitions.
const MAX_PATTERN: usize = 8;

/// Why a secret is easily guessed, if it is.
pub(super) fn why_weak(secret: &str) -> Option<&'static str> {
    let plain: String = secret.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    if PLACEHOLDERS.iter().any(|placeholder| plain.starts_with(placeholder)) {
        return Some("it is a placeholder");
    }
    let bytes = secret.as_bytes();
    let repeats = |pattern: usize| bytes.iter().zip(bytes.iter().skip(pattern)).all(|(one, next)| one == next);
    if (1..=MAX_PATTERN.min(bytes.len() / 2)).any(repeats) {
        return Some("it repeats a few characters");
    }
    let mut different = bytes.to_vec();
    different.sort_unstable();
    different.dedup();
    (different.len() < MIN_DIFFERENT).then_some("it has only a few different characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_patterns_are_weak_and_random_text_is_not() {
        for weak in [
            &"x".repeat(32),
            &"ab".repeat(20),
            &"password".repeat(4),
            "changeme-changeme-changeme-changeme",
            "CHANGE_ME_0123456789abcdef0123456789",
            "your-secret-goes-here-0123456789",
            "aaaabbbbccccaaaabbbbccccddddaaaa",
        ] {
            assert!(why_weak(weak).is_some(), "{weak}");
        }
        for good in [
            "8f2c1e0b7a6d594837261504f3e2d1c0",
            "a secret of the tests, which is longer than thirty-two bytes",
            "django-insecure-k#3v$w&8q2!n0z)x5(7c^b1m9@l4p6+",
            "0123456789abcdef",
        ] {
            assert_eq!(why_weak(good), None, "{good}");
        }
    }
}
