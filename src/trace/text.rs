//! [`Text`]: a text that is shared rather than copied.

use std::{fmt, ops::Deref, sync::Arc};

/// A text of an answer. Rows repeat each other's words, so a copy is another hold on the same bytes; the empty text,
/// the most common of all, holds nothing.
#[derive(Default, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(
    /// Never an empty one: `None` stands for it.
    Option<Arc<str>>,
);

impl Text {
    /// The text itself.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
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
        Self((!text.is_empty()).then(|| text.into()))
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
        assert_eq!(size_of::<Text>(), 16);
    }
}
