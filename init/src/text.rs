//! A line of text that is put together while the compiler runs, for its error messages.

/// Up to 200 bytes of UTF-8; what is pushed past them is left out.
pub struct Line {
    bytes: [u8; Line::MOST],
    len: usize,
}

impl Line {
    const MOST: usize = 200;
    /// Nothing yet.
    pub const EMPTY: Line = Line { bytes: [0; Line::MOST], len: 0 };

    /// Goes on with `text`, if all of it fits.
    pub const fn push(&mut self, text: &str) {
        let text = text.as_bytes();
        if self.len + text.len() > Line::MOST {
            return;
        }
        let mut i = 0;
        while i < text.len() {
            self.bytes[self.len] = text[i];
            self.len += 1;
            i += 1;
        }
    }

    /// What there is.
    pub const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "",
        }
    }
}
