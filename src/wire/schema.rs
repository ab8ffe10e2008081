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
    /// A nested message.
    Message(&'static Schema),
}

/// A message's fields, by number.
pub struct Schema(&'static [Shape]);

use Shape::{Bytes, Fixed32, Fixed64, Message, Text, Unknown, Varint};

/// ResourceSpans.resource
pub static RESOURCE: Schema = Schema(&[Unknown, Message(&KEY_VALUE), Varint, Message(&ENTITY_REF)]);
/// ScopeSpans.scope
pub static SCOPE: Schema = Schema(&[Unknown, Text, Text, Message(&KEY_VALUE), Varint]);
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
    Message(&KEY_VALUE),
    Varint,
    Message(&EVENT),
    Varint,
    Message(&LINK),
    Varint,
    Message(&STATUS),
    Fixed32,
]);
static ENTITY_REF: Schema = Schema(&[Unknown, Text, Text, Text, Text]);
static EVENT: Schema = Schema(&[Unknown, Fixed64, Text, Message(&KEY_VALUE), Varint]);
static LINK: Schema = Schema(&[Unknown, Bytes, Bytes, Text, Message(&KEY_VALUE), Varint, Fixed32]);
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
static KEY_VALUE_LIST: Schema = Schema(&[Unknown, Message(&KEY_VALUE)]);

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

/// Checks that a string is UTF-8.
#[inline]
pub fn check_text(bytes: &[u8]) -> Result<(), Malformed> {
    std::str::from_utf8(bytes).map(drop).map_err(|_| Malformed::Utf8)
}
