//! The subset of JSON that every client can read.
//!
//! serde_json passes on what it does not look into, and the broker would too: values nested deeper than other readers
//! go, numbers they cannot represent, half surrogate pairs, duplicate names. Once stored, such a value would make the
//! channel's history unreadable. So everything from a client or plugin is checked here once before it is used. What
//! passes stays exactly as it was written.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Maximum nesting depth. Readers in other languages give up between 64 and 1,000.
pub const MAX_DEPTH: usize = 64;

/// Maximum digits of an integer, which may be longer than a double holds exactly.
pub const MAX_DIGITS: usize = 20;

/// Why a text is not acceptable. Displayed after `a frame` or the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Deeper than [`MAX_DEPTH`].
    #[error("must not be nested deeper than 64")]
    Deep,
    /// Not a finite double, or an integer longer than [`MAX_DIGITS`].
    #[error("must hold numbers that a double holds, and integers of at most 20 digits")]
    Number,
    /// An escape of half a surrogate pair.
    #[error("must not hold half of a surrogate pair")]
    Surrogate,
    /// An object with a duplicate name.
    #[error("must give each name of an object once")]
    Twice,
    #[error("must be JSON")]
    Syntax,
}

/// Checks a JSON text.
pub fn check(text: &str) -> Result<(), Unfit> {
    Tree::read(text).map(drop)
}

/// A value as written, except for whitespace, the order of names, and escapes.
#[derive(Debug, PartialEq, Eq)]
pub enum Tree<'a> {
    Object(BTreeMap<Cow<'a, str>, Tree<'a>>),
    Array(Vec<Tree<'a>>),
    Text(Cow<'a, str>),
    /// As written: never rounded, and never turned into another number.
    Number(&'a str),
    /// `true`, `false` or `null`.
    Word(&'a str),
}

impl<'a> Tree<'a> {
    /// Parses a JSON text.
    pub fn read(text: &'a str) -> Result<Self, Unfit> {
        let mut reader = Reader { text, at: 0 };
        let tree = reader.value(MAX_DEPTH)?;
        reader.blanks();
        if reader.at == text.len() { Ok(tree) } else { Err(Unfit::Syntax) }
    }

    /// Writes a canonical form, equal for all spellings of the same value.
    pub fn write(&self, to: &mut impl FnMut(&[u8])) {
        match self {
            Self::Object(members) => {
                to(b"{");
                for (name, value) in members {
                    text(name, to);
                    value.write(to);
                }
                to(b"}");
            }
            Self::Array(elements) => {
                to(b"[");
                elements.iter().for_each(|element| element.write(to));
                to(b"]");
            }
            Self::Text(said) => text(said, to),
            Self::Number(word) | Self::Word(word) => {
                to(word.as_bytes());
                to(b",");
            }
        }
    }
}

/// Prefixed with its length, so that no text can be mistaken for two.
fn text(said: &str, to: &mut impl FnMut(&[u8])) {
    to(b"\"");
    to(&(said.len() as u64).to_le_bytes());
    to(said.as_bytes());
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, deeper: usize) -> Result<Tree<'a>, Unfit> {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(deeper.checked_sub(1).ok_or(Unfit::Deep)?),
            Some(b'[') => self.array(deeper.checked_sub(1).ok_or(Unfit::Deep)?),
            Some(b'"') => self.string().map(Tree::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'a'..=b'z') => Ok(Tree::Word(self.take(|byte| byte.is_ascii_lowercase()))),
            _ => Err(Unfit::Syntax),
        }
    }

    fn object(&mut self, deeper: usize) -> Result<Tree<'a>, Unfit> {
        let mut members = BTreeMap::new();
        self.at += 1;
        while !self.ends(b'}')? {
            let name = self.string()?;
            self.blanks();
            self.expect(b':')?;
            if members.insert(name, self.value(deeper)?).is_some() {
                return Err(Unfit::Twice);
            }
        }
        Ok(Tree::Object(members))
    }

    fn array(&mut self, deeper: usize) -> Result<Tree<'a>, Unfit> {
        let mut elements = Vec::new();
        self.at += 1;
        while !self.ends(b']')? {
            elements.push(self.value(deeper)?);
        }
        Ok(Tree::Array(elements))
    }

    /// Whether an object or array ends here. Skips a comma before the next element.
    fn ends(&mut self, close: u8) -> Result<bool, Unfit> {
        self.blanks();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                return Ok(true);
            }
            Some(b',') => {
                self.at += 1;
                self.blanks();
            }
            Some(_) => {}
            None => return Err(Unfit::Syntax),
        }
        Ok(false)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Unfit> {
        let begin = self.at;
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => self.at += 1,
                None => return Err(Unfit::Syntax),
            }
        }
        self.at += 1;
        let quoted = &self.text[begin..self.at];
        if escaped {
            return serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| Unfit::Syntax);
        }
        Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
    }

    fn escape(&mut self) -> Result<(), Unfit> {
        match self.unit() {
            None => self.at += 2,
            Some(0xD800..=0xDBFF) => {
                self.at += 6;
                if !matches!(self.unit(), Some(0xDC00..=0xDFFF)) {
                    return Err(Unfit::Surrogate);
                }
                self.at += 6;
            }
            Some(0xDC00..=0xDFFF) => return Err(Unfit::Surrogate),
            Some(_) => self.at += 6,
        }
        Ok(())
    }

    /// The code unit escaped here as `\u` and four digits.
    fn unit(&self) -> Option<u16> {
        let digits = self.text.as_bytes().get(self.at..self.at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    fn number(&mut self) -> Result<Tree<'a>, Unfit> {
        let word = self.take(|byte| matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        let fits = if word.contains(['.', 'e', 'E']) {
            word.parse::<f64>().is_ok_and(f64::is_finite)
        } else {
            word.trim_start_matches('-').len() <= MAX_DIGITS
        };
        if fits { Ok(Tree::Number(word)) } else { Err(Unfit::Number) }
    }

    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let begin = self.at;
        while self.peek().is_some_and(&belongs) {
            self.at += 1;
        }
        &self.text[begin..self.at]
    }

    fn blanks(&mut self) {
        self.take(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unfit> {
        if self.peek() != Some(byte) {
            return Err(Unfit::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_reader_reads_is_fit() {
        for text in [
            "{}",
            "[]",
            " [ 1 , -2.5e3 , \"a\" , null , true , { \"a\" : [ ] } ] ",
            r#"{"a":"\ud83d\ude00","b":"\"\\\/\b\n","\u0061b":1}"#,
            "12345678901234567890",
            "-99999999999999999999",
            "1e308",
            "0.00000000000000000000000000000000000001",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
            serde_json::from_str::<serde_json::Value>(text).expect(text);
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(&deep(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&deep(MAX_DEPTH + 1)), Err(Unfit::Deep));
    }

    #[test]
    fn what_some_reader_cannot_read_is_not() {
        let nested = r#"{"a":"#.repeat(9_000) + "1" + &"}".repeat(9_000);
        let digits = "7".repeat(5_000);
        for (text, why) in [
            (nested.as_str(), Unfit::Deep),
            (digits.as_str(), Unfit::Number),
            ("123456789012345678901", Unfit::Number),
            ("1e400", Unfit::Number),
            ("[-1E999]", Unfit::Number),
            (r#""\ud800""#, Unfit::Surrogate),
            (r#"{"\udc00":1}"#, Unfit::Surrogate),
            (r#"["\ud83d\u0041"]"#, Unfit::Surrogate),
            (r#"["\ud83dx"]"#, Unfit::Surrogate),
            (r#"["\ude00\ud83d"]"#, Unfit::Surrogate),
            (r#"{"a":{"b":1,"b":1}}"#, Unfit::Twice),
            (r#"{"b":1,"\u0062":2}"#, Unfit::Twice),
        ] {
            assert_eq!(check(text), Err(why), "{:.80}", text);
        }
    }

    /// Callers parse with serde_json first, but other input must be harmless as well.
    #[test]
    fn what_is_no_json_is_refused_or_read_and_never_worse() {
        let whole = r#"{"a":[1,"\ud83d\ude00",null],"b":{"c":"\n"}}"#;
        for end in 0..whole.len() {
            assert!(check(&whole[..end]).is_err(), "{}", &whole[..end]);
        }
        for text in ["", " ", "{1:2}", "[1}", "\"", "\"\\", "\"\\u12", "\"\\u+123\"", "{\"a\" 1}", "1 2"] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_has_one_form_and_another_value_another() {
        let form = |text: &str| {
            let mut form = Vec::new();
            Tree::read(text).unwrap().write(&mut |bytes| form.extend_from_slice(bytes));
            form
        };
        assert_eq!(form(r#"{"a":1,"b":["x",true]}"#), form(r#" { "b" : ["\u0078", true ], "a":1} "#));
        let others =
            ["[1,2]", "[12]", "[[1],2]", "[1,[2]]", "[\"1\",2]", "[]", "{}", "[{}]", r#"["a","b"]"#, r#"["ab"]"#];
        let numbers = ["12345678901234567890", "12345678901234567891", "1", "1.0", "1e0", "-1"];
        let all: Vec<Vec<u8>> = others.into_iter().chain(numbers).map(form).collect();
        let distinct: std::collections::BTreeSet<&Vec<u8>> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
