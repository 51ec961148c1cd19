//! Deserializes a client's JSON; an error says what the client must correct.
//!
//! An error text must not repeat a value that the client wrote, because the text also goes to logs.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::Failure;

/// Deserializes JSON into a type.
///
/// # Errors
///
/// [`Failure::Invalid`] with the name of the field and what was expected.
pub(crate) fn read<T: DeserializeOwned>(json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| Failure::Invalid(explain(json, &error)))
}

fn explain(json: &str, error: &serde_json::Error) -> String {
    if error.classify() != Category::Data {
        return "the payload is not valid JSON".to_owned();
    }
    let text = error.to_string();
    let text = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    let path = path(&json[..offset(json, error)]);

    if text.starts_with("missing field ") {
        if path.is_empty() { text.to_owned() } else { format!("{text} in `{path}`") }
    } else if text.starts_with("duplicate field ") {
        text.to_owned()
    } else {
        let subject = if path.is_empty() { "the payload".to_owned() } else { format!("`{path}`") };
        match text.rfind(EXPECTED) {
            // Serde first says what it found, which the client wrote, and last what it expected.
            Some(at) => format!("{subject} must be {}", in_words_of_json(&text[at + EXPECTED.len()..])),
            None if text.starts_with("unknown field ") => format!("{subject} has an unknown field"),
            None => format!("{subject}: {text}"),
        }
    }
}

const EXPECTED: &str = ", expected ";

/// Replaces the names of Rust types, which mean nothing to a client.
fn in_words_of_json(expected: &str) -> &str {
    match expected {
        "a map" => "an object",
        "a sequence" => "a list",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

/// The byte offset at which serde_json stopped.
fn offset(json: &str, error: &serde_json::Error) -> usize {
    let line_start: usize = json.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    json.floor_char_boundary(line_start + error.column())
}

/// The names that lead to the last value of a truncated JSON text, such as `message.content`. The path ends before a
/// name that no author would give a field, because such a name is the client's own.
fn path(cut: &str) -> String {
    let mut names: Vec<Option<&str>> = Vec::new();
    let mut objects: Vec<bool> = Vec::new();
    let mut at_name = false;
    let mut bytes = cut.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                names.push(None);
                objects.push(byte == b'{');
                at_name = byte == b'{';
            }
            b'}' | b']' => {
                names.pop();
                objects.pop();
                at_name = false;
            }
            b',' => at_name = objects.last() == Some(&true),
            b':' => at_name = false,
            b'"' => {
                let mut end = cut.len();
                while let Some((at, byte)) = bytes.next() {
                    match byte {
                        b'"' => {
                            end = at;
                            break;
                        }
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
                if let (true, Some(name)) = (at_name, names.last_mut()) {
                    *name = Some(&cut[at + 1..end]);
                }
            }
            _ => {}
        }
    }
    let names: Vec<&str> = names.into_iter().flatten().take_while(|name| is_field(name)).collect();
    names.join(".")
}

fn is_field(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only what cannot be read is of interest")]
    struct Frame {
        flag: bool,
        inner: Option<Inner>,
        colour: Option<Colour>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only what cannot be read is of interest")]
    struct Inner {
        name: String,
        sizes: Option<Vec<u8>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Green,
    }

    fn refusal(json: &str) -> String {
        match read::<Frame>(json) {
            Err(Failure::Invalid(text)) => text,
            other => panic!("{json} gave {other:?}"),
        }
    }

    #[test]
    fn the_text_names_the_field_and_what_it_must_be() {
        for (json, text) in [
            ("{}", "missing field `flag`"),
            (r#"{"flag":true,"inner":{"sizes":[]}}"#, "missing field `name` in `inner`"),
            (r#"{"flag":"yes"}"#, "`flag` must be a boolean"),
            (r#"{"id":"c1","flag":7}"#, "`flag` must be a boolean"),
            (r#"{"flag":null}"#, "`flag` must be a boolean"),
            (r#"{"flag":{"a":1}}"#, "`flag` must be a boolean"),
            (r#"{"flag":true,"inner":"x"}"#, "`inner` must be an object"),
            (r#"{"flag":true,"inner":{"name":4}}"#, "`inner.name` must be a string"),
            (r#"{"flag":true,"inner":{"name":"n","sizes":{}}}"#, "`inner.sizes` must be a list"),
            (r#"{"flag":true,"inner":{"name":"n","sizes":[1,"2"]}}"#, "`inner.sizes` must be u8"),
            (r#"{"flag":true,"colour":"blue"}"#, "`colour` must be `red` or `green`"),
            (r#"{"flag":true,"flag":true}"#, "duplicate field `flag`"),
            ("[]", "the payload must be an object"),
            ("5", "the payload must be an object"),
            ("{", "the payload is not valid JSON"),
            ("", "the payload is not valid JSON"),
        ] {
            assert_eq!(refusal(json), text, "{json}");
        }
        assert_eq!(refusal("{\n  \"x\": \"a\\\"{\",\n  \"flag\":\n  \"ü\"}"), "`flag` must be a boolean");
    }

    #[test]
    fn the_text_repeats_nothing_that_the_client_wrote() {
        for json in [
            r#"{"flag":"secret"}"#,
            r#"{"flag":", expected secret at line 1"}"#,
            r#"{"flag":true,"colour":"secret, expected secret"}"#,
            r#"{"a secret name":{"flag":1},"flag":"secret"}"#,
            r#"{"flag":true,"inner":{"name":["secret"]}}"#,
        ] {
            assert!(!refusal(json).contains("secret"), "{}", refusal(json));
        }
    }
}
