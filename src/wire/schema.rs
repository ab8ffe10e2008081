//! What OTLP messages look like (proto/opentelemetry/proto/{trace,resource,common}/v1), and a check that a message is
//! one a strict decoder takes: backends refuse a whole export for one invalid string, so the door refuses it first.

use super::{
    Malformed,
    field::{self, WireType},
};

/// The type of a field's value.
#[derive(Clone, Copy)]
pub enum Shape {
    /// No field of the definition: skipped and kept.
    Unknown,
    /// Any integer, bool or enum.
    Varint,
    /// fixed64, double.
    Fixed64,
    /// fixed32.
    Fixed32,
    /// bytes.
    Bytes,
    /// string, UTF-8.
    Text,
    /// A KeyValue: a message, but most of what a request is made of.
    Attribute,
    /// Any other nested message.
    Message(&'static Schema),
}

/// A message's fields, by number.
pub struct Schema(&'static [Shape]);

use Shape::{Attribute, Bytes, Fixed32, Fixed64, Message, Text, Unknown, Varint};

/// ResourceSpans.resource
pub static RESOURCE: Schema = Schema(&[Unknown, Attribute, Varint, Message(&ENTITY_REF)]);
/// ScopeSpans.scope
pub static SCOPE: Schema = Schema(&[Unknown, Text, Text, Attribute, Varint]);
/// ScopeSpans.spans
pub static SPAN: Schema = Schema(&[
    Unknown,
    Bytes,
    Bytes,
    Text,
    Bytes,
    Text,
    Varint,
    Fixed64,
    Fixed64,
    Attribute,
    Varint,
    Message(&EVENT),
    Varint,
    Message(&LINK),
    Varint,
    Message(&STATUS),
    Fixed32,
]);
static ENTITY_REF: Schema = Schema(&[Unknown, Text, Text, Text, Text]);
static EVENT: Schema = Schema(&[Unknown, Fixed64, Text, Attribute, Varint]);
/// Span.links
pub static LINK: Schema = Schema(&[Unknown, Bytes, Bytes, Text, Attribute, Varint, Fixed32]);
static STATUS: Schema = Schema(&[Unknown, Unknown, Text, Varint]);
static KEY_VALUE: Schema = Schema(&[Unknown, Text, Message(&ANY_VALUE), Varint]);
static ANY_VALUE: Schema = Schema(&[
    Unknown,
    Text,
    Varint,
    Varint,
    Fixed64,
    Message(&ARRAY_VALUE),
    Message(&KEY_VALUE_LIST),
    Bytes,
    Varint,
]);
static ARRAY_VALUE: Schema = Schema(&[Unknown, Message(&ANY_VALUE)]);
static KEY_VALUE_LIST: Schema = Schema(&[Unknown, Attribute]);

impl Schema {
    #[inline]
    fn shape(&self, number: u32) -> Shape {
        usize::try_from(number).ok().and_then(|n| self.0.get(n)).copied().unwrap_or(Unknown)
    }

    /// Checks a whole message. `depth` is how many levels may still be entered.
    pub fn check(&self, bytes: &[u8], depth: u32) -> Result<(), Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            let (number, wire) = field::key(bytes, &mut at)?;
            self.check_value(bytes, &mut at, number, wire, depth)?;
        }
        Ok(())
    }

    /// Checks the value of a field whose key was just read.
    #[inline]
    pub fn check_value(
        &self,
        bytes: &[u8],
        at: &mut usize,
        number: u32,
        wire: WireType,
        depth: u32,
    ) -> Result<(), Malformed> {
        match (self.shape(number), wire) {
            (Unknown, wire) => field::skip(bytes, at, number, wire, depth),
            (Varint, WireType::Varint) => field::varint(bytes, at).map(drop),
            (Fixed64, WireType::Fixed64) => field::fixed64(bytes, at).map(drop),
            (Fixed32, WireType::Fixed32) => field::fixed32(bytes, at).map(drop),
            (Bytes, WireType::Delimited) => field::delimited(bytes, at).map(drop),
            (Text, WireType::Delimited) => {
                let range = field::delimited(bytes, at)?;
                check_text(bytes.get(range).unwrap_or_default())
            }
            (Attribute, WireType::Delimited) => {
                let range = field::delimited(bytes, at)?;
                check_attribute(bytes.get(range).unwrap_or_default(), enter(depth)?)
            }
            (Message(inner), WireType::Delimited) => {
                let range = field::delimited(bytes, at)?;
                inner.check(bytes.get(range).unwrap_or_default(), enter(depth)?)
            }
            _ => Err(Malformed::WireType),
        }
    }
}

/// One level deeper.
#[inline]
pub fn enter(depth: u32) -> Result<u32, Malformed> {
    depth.checked_sub(1).ok_or(Malformed::Recursion)
}

/// Checks a whole KeyValue. `depth` is how many levels may still be entered.
#[inline]
pub fn check_attribute(bytes: &[u8], depth: u32) -> Result<(), Malformed> {
    // Only the value is one level deeper.
    if depth > 0 && is_plain(bytes) { Ok(()) } else { KEY_VALUE.check(bytes, depth) }
}

/// The form of nearly all attributes, which is valid at a glance: an ASCII key, then a number or a short ASCII string.
/// Anything else is not refused but looked at field by field.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let Some((key, rest)) = short(1, bytes) else { return false };
    let Some((value, [])) = short(2, rest) else { return false };
    let is_value = match value {
        [0x0a, ..] => short(1, value).is_some_and(|(text, rest)| rest.is_empty() && is_ascii(text)),
        [0x10 | 0x18, number @ ..] => {
            let mut at = 0;
            field::varint(number, &mut at).is_ok() && at == number.len()
        }
        [0x21, number @ ..] => number.len() == 8,
        _ => false,
    };
    is_value && is_ascii(key)
}

/// The value of a delimited field that comes first and is shorter than 128 bytes, and what follows it.
#[inline]
fn short(number: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes {
        [key, len @ ..0x80, rest @ ..] if *key == number << 3 | 2 => {
            rest.split_at_checked(usize::from(*len))
        }
        _ => None,
    }
}

/// Checks that a string is UTF-8.
#[inline]
pub fn check_text(bytes: &[u8]) -> Result<(), Malformed> {
    if is_ascii(bytes) {
        return Ok(());
    }
    std::str::from_utf8(bytes).map(drop).map_err(|_| Malformed::Utf8)
}

/// Looks at whole words, the last of which overlaps the one before it: most strings are short, and the standard
/// library's checks go byte by byte there.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; 16]);
    if let Some(last) = bytes.last_chunk::<16>() {
        let (words, _) = bytes.as_chunks::<16>();
        let or = |all: u128, word: &[u8; 16]| all | u128::from_ne_bytes(*word);
        return words.iter().fold(u128::from_ne_bytes(*last), or) & HIGH_BITS == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        let all = u64::from_ne_bytes(*first) | u64::from_ne_bytes(*last);
        return u128::from(all) & HIGH_BITS == 0;
    }
    bytes.iter().fold(0, |all, byte| all | byte) < 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_string_is_looked_at() {
        for len in 0..70 {
            let text = vec![b'a'; len];
            assert_eq!(check_text(&text), Ok(()), "{len}");
            for at in 0..len {
                let mut text = text.clone();
                text[at] = 0x80;
                assert_eq!(check_text(&text), Err(Malformed::Utf8), "{at} of {len}");
            }
        }
        assert_eq!(check_text("a string that is not ASCII: grüße €".as_bytes()), Ok(()));
    }
}
