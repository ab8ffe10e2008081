//! [`Json`]: JSON read value by value, by somebody who knows what comes next.
//!
//! The rows of an answer have the same keys in the same order and mostly plain values, a thousand of them for a small
//! trace. Those are looked at here, where they lie. Whatever is not plain is serde_json's: escapes, floats, what nests.

use std::{borrow::Cow, ops::Range, str};

use serde::{
    Deserialize,
    de::{Error as _, IgnoredAny},
};
use serde_json::{Deserializer, Error, Result, StreamDeserializer, de::Read};

use super::{
    lenient::{Number, Whole, Words, whole_from_text},
    plain::{common_len, digits, starts_with, text_len, without_spaces},
};

/// Up to this number (2^53) every whole one has a float of its own.
const EXACT_FLOAT_MAX: u64 = 1 << 53;

/// What is left to read of a text.
#[derive(Debug)]
pub(super) struct Json<'a> {
    bytes: &'a [u8],
    /// The same, unless some of it is no UTF-8.
    text: Option<&'a str>,
    at: usize,
    /// Nothing was read yet of the object or list that was entered last.
    is_first: bool,
}

/// See [`Json::place`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    at: usize,
    is_first: bool,
}

/// A key of an object, with all that is between the value before it and its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    bytes: &'a [u8],
    /// The object begins with it.
    is_first: bool,
}

impl<'a> Json<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        // Checked as a whole it is cheaper than text by text. Texts that nobody reads may hold anything.
        Self { bytes, text: str::from_utf8(bytes).ok(), at: 0, is_first: false }
    }

    /// Goes into an object, whose [`Self::key`]s are next; false if there is none.
    pub(super) fn enters_object(&mut self) -> bool {
        self.enters(b'{')
    }

    /// Goes into a list, whose [`Self::has_item`] is next; false if there is none.
    pub(super) fn enters_list(&mut self) -> bool {
        self.enters(b'[')
    }

    /// Reads an object, member by member: what is called has to read the value. Anything else is passed.
    pub(super) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        if !self.enters_object() {
            return self.skip();
        }
        while let Some(key) = self.key()? {
            member(self, &key)?;
        }
        Ok(())
    }

    /// The next key of the object; `None` at its end. Its value is next.
    pub(super) fn key(&mut self) -> Result<Option<Cow<'a, str>>> {
        if !self.has_more(b'}')? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(Error::custom("a key is expected"));
        }
        let key = self.text()?;
        if self.peek() != Some(b':') {
            return Err(Error::custom("a colon is expected"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// The same, and the key as it stands there, for objects with the same keys.
    pub(super) fn standing_key(&mut self) -> Result<Option<(Cow<'a, str>, Key<'a>)>> {
        let (start, is_first) = (self.at, self.is_first);
        let key = self.key()?;
        let bytes = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(key.map(|key| (key, Key { bytes, is_first })))
    }

    /// Passes the next key of the object, if it stands there as this one does.
    #[inline]
    pub(super) fn passes(&mut self, key: Key<'_>) -> bool {
        let is_next = key.is_first == self.is_first && starts_with(self.rest(), key.bytes);
        if is_next {
            self.at += key.bytes.len();
            self.is_first = false;
        }
        is_next
    }

    /// Where the next thing begins.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The same, to [`Self::go_back`] to.
    pub(super) fn place(&self) -> Place {
        Place { at: self.at, is_first: self.is_first }
    }

    /// Reads again from there on.
    pub(super) fn go_back(&mut self, place: Place) {
        (self.at, self.is_first) = (place.at, place.is_first);
    }

    /// Goes on behind what is known from elsewhere to be whole members of an object.
    #[inline]
    pub(super) fn pass_to(&mut self, at: usize) {
        self.is_first &= at == self.at;
        self.at = at;
    }

    /// How many bytes stand here as they stand in another place.
    #[inline]
    pub(super) fn same_as(&self, other: Range<usize>) -> usize {
        common_len(self.rest(), self.bytes.get(other).unwrap_or_default())
    }

    /// The list goes on, with a value.
    pub(super) fn has_item(&mut self) -> Result<bool> {
        self.has_more(b']')
    }

    /// The next value as a whole number.
    pub(super) fn number<N: Whole>(&mut self) -> Result<Option<N>> {
        match self.peek() {
            Some(b'"') => match self.plain_number_in_text() {
                Some(number) => Ok(N::try_from(number).ok()),
                None => self.text().map(|text| whole_from_text(&text)),
            },
            Some(b'n') if self.passes_null() => Ok(None),
            _ => match self.plain_number() {
                Some(number) => Ok(N::try_from(number).ok()),
                None => self.any::<Number<N>>().map(|number| number.0),
            },
        }
    }

    /// The next value as a text.
    pub(super) fn words(&mut self) -> Result<Cow<'a, str>> {
        match self.peek() {
            Some(b'"') => self.text(),
            Some(b'n') if self.passes_null() => Ok(Cow::default()),
            _ => self.any::<Words<'a>>().map(|words| words.0),
        }
    }

    /// Passes a value.
    pub(super) fn skip(&mut self) -> Result<()> {
        let is_passed = match self.peek() {
            Some(b'"') => self.plain_text().is_some(),
            Some(b'n') => self.passes_null(),
            Some(b'[') => self.passes_texts(),
            _ => self.plain_number().is_some(),
        };
        if is_passed { Ok(()) } else { self.any::<IgnoredAny>().map(drop) }
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Error::custom("something follows")),
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let rest = without_spaces(self.rest());
        self.at = self.bytes.len() - rest.len();
        rest.first().copied()
    }

    fn enters(&mut self, bracket: u8) -> bool {
        self.is_first = self.peek() == Some(bracket);
        self.at += usize::from(self.is_first);
        self.is_first
    }

    fn has_more(&mut self, bracket: u8) -> Result<bool> {
        let is_first = std::mem::take(&mut self.is_first);
        match self.peek() {
            Some(byte) if byte == bracket => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if is_first => Ok(true),
            _ => Err(Error::custom("a comma or an end is expected")),
        }
    }

    fn passes_null(&mut self) -> bool {
        let is_null = self.rest().starts_with(b"null");
        self.at += if is_null { 4 } else { 0 };
        is_null
    }

    /// Passes a list of plain texts without spaces between them.
    fn passes_texts(&mut self) -> bool {
        let start = self.at;
        while let [b'[' | b',', b'"', ..] = self.rest() {
            self.at += 1;
            if self.plain_text().is_none() {
                break;
            }
            if self.rest().first() == Some(&b']') {
                self.at += 1;
                return true;
            }
        }
        self.at = start;
        false
    }

    /// Passes a number of digits alone that surely fits, or of those and a fraction of 0.
    fn plain_number(&mut self) -> Option<u64> {
        let (number, rest) = digits(self.rest())?;
        let rest = match rest {
            [b'.', b'0', rest @ ..] if number <= EXACT_FLOAT_MAX => rest,
            rest => rest,
        };
        if let [b'.' | b'e' | b'E' | b'0'..=b'9', ..] = rest {
            return None;
        }
        self.at = self.bytes.len() - rest.len();
        Some(number)
    }

    /// Passes a text of digits alone that surely fit.
    fn plain_number_in_text(&mut self) -> Option<u64> {
        let (number, rest) = digits(self.rest().get(1..)?)?;
        let [b'"', rest @ ..] = rest else { return None };
        self.at = self.bytes.len() - rest.len();
        Some(number)
    }

    fn text(&mut self) -> Result<Cow<'a, str>> {
        let start = self.at + 1;
        let Some(end) = self.plain_text() else {
            return self.any::<Words<'a>>().map(|text| text.0);
        };
        let text = match self.text {
            Some(text) => text.get(start..end),
            None => str::from_utf8(self.bytes.get(start..end).unwrap_or_default()).ok(),
        };
        text.map(Cow::Borrowed).ok_or_else(|| Error::custom("no UTF-8"))
    }

    /// Passes a text without escapes; where it ends.
    fn plain_text(&mut self) -> Option<usize> {
        let rest = self.rest().get(1..)?;
        let len = text_len(rest)?;
        let end = self.at + 1 + len;
        self.at = end + 1;
        Some(end)
    }

    /// Any value, read by serde_json.
    pub(super) fn any<T: Deserialize<'a>>(&mut self) -> Result<T> {
        let (value, len) = match self.text.and_then(|text| text.get(self.at..)) {
            Some(rest) => first(Deserializer::from_str(rest).into_iter())?,
            None => first(Deserializer::from_slice(self.rest()).into_iter())?,
        };
        self.at += len;
        Ok(value)
    }
}

/// A value, and how many bytes it takes.
fn first<'a, R: Read<'a>, T: Deserialize<'a>>(
    mut values: StreamDeserializer<'a, R, T>,
) -> Result<(T, usize)> {
    let value = values.next().unwrap_or_else(|| Err(Error::custom("a value is expected")))?;
    Ok((value, values.byte_offset()))
}

#[cfg(test)]
mod tests;
