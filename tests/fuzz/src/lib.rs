//! Takes the bytes of a fuzzer apart into what a target needs.
//!
//! A text ends at a byte that no UTF-8 has, so a seed can be read in an editor, and a mutation of one text leaves the others
//! where they are.

/// Ends a text.
const END: u8 = 0xff;

/// What is left of the fuzzer's bytes.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// The next bytes, as many as there are.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next bytes up to the end of a text.
    pub fn part(&mut self) -> &'a [u8] {
        let length = self.0.iter().position(|byte| *byte == END).unwrap_or(self.0.len());
        let part = self.take(length);
        self.take(1);
        part
    }

    /// The next text. What is no UTF-8 is replaced.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.part()).into_owned()
    }

    /// The next text, or none.
    pub fn optional(&mut self) -> Option<String> {
        (self.byte() & 1 == 1).then(|| self.text())
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(self.0.len())
    }
}
