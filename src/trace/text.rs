//! [`Text`]: a text that costs little to copy.

use std::{fmt, ops::Deref};

use smol_str::SmolStr;

/// A text of an answer. Most are short, and stay where they are named; a copy of a longer one is another hold on the same
/// bytes, for rows repeat each other's words.
#[derive(Default, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(SmolStr);

impl Text {
    /// So many bytes stay where the text is named, as smol_str promises.
    pub const SHORT_BYTES: usize = 23;

    /// The text itself.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(SmolStr::new(text))
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_text_is_one_however_it_was_made() {
        assert_eq!(Text::default(), Text::from(""));
        assert_eq!(Text::from("").as_str(), "");
        assert_eq!(Text::from("a"), *"a");
        assert_eq!(size_of::<Text>(), 24);
    }
}
