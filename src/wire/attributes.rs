//! [`Attributes`]: OTLP attributes, written as they are named. Messages with dozens of owned texts, made only to be
//! encoded, were half of the cost of an added span.

use std::{ops::RangeInclusive, str};

use super::field::{delimited_len, fields, put_delimited_head, put_varint, values, varint_len};

/// `KeyValue`s one after the other, each with its head: a part of the message whose attributes they are.
#[derive(Debug, Clone)]
pub struct Attributes {
    bytes: Vec<u8>,
    /// Number of the field that holds attributes in that message; below 16.
    field: u8,
}

/// Room for those of most spans.
const BYTES: usize = 1024;

/// Of `KeyValue`.
const KEY: u8 = 1;
const VALUE: u8 = 2;
/// Of `AnyValue`.
const STRING: u8 = 1;
const BOOL: u8 = 2;
const INT: u8 = 3;
const ARRAY: u8 = 5;
/// All of its fields are one of several.
const ANY_VALUES: RangeInclusive<u32> = 1..=8;
/// Of `ArrayValue`.
const VALUES: u8 = 1;

impl Attributes {
    /// None yet. `field` is the number of the field they are in, below 16: 9 in a span, 1 in a resource.
    pub fn new(field: u8) -> Self {
        Self { bytes: Vec::with_capacity(BYTES), field }
    }

    /// As they stand in the message.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets them, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a text.
    #[allow(clippy::inline_always, reason = "see `head`")]
    #[inline(always)]
    pub fn text(&mut self, key: &str, value: &str) {
        self.head(key, delimited_len(value.len()));
        put_text(&mut self.bytes, STRING, value);
    }

    /// Adds a text, unless it is empty.
    #[allow(clippy::inline_always, reason = "see `head`")]
    #[inline(always)]
    pub fn some_text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// Adds a whole number.
    #[allow(clippy::inline_always, reason = "see `head`")]
    #[inline(always)]
    pub fn number(&mut self, key: &str, value: i64) {
        let value = usize::from_ne_bytes(value.to_ne_bytes());
        self.head(key, 1 + varint_len(value));
        self.bytes.push(INT << 3);
        put_varint(&mut self.bytes, value);
    }

    /// Adds a truth value.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.head(key, 2);
        self.bytes.extend([BOOL << 3, u8::from(value)]);
    }

    /// Adds a list of texts.
    pub fn texts<T: AsRef<str>>(&mut self, key: &str, values: &[T]) {
        let value_len = |value: &T| delimited_len(value.as_ref().len());
        let len = values.iter().map(|value| delimited_len(value_len(value))).sum();
        self.head(key, delimited_len(len));
        put_delimited_head(&mut self.bytes, ARRAY, len);
        for value in values {
            put_delimited_head(&mut self.bytes, VALUES, value_len(value));
            put_text(&mut self.bytes, STRING, value.as_ref());
        }
    }

    /// All of an attribute but its value's `value_len` bytes.
    #[allow(clippy::inline_always, reason = "a key whose length is known is copied by a few moves")]
    #[allow(clippy::cast_possible_truncation, reason = "what is below 128 fits")]
    #[inline(always)]
    fn head(&mut self, key: &str, value_len: usize) {
        let len = delimited_len(key.len()) + delimited_len(value_len);
        if len < 0x80 {
            // Nearly always a byte has room for each of the lengths.
            let [len, key_len, value_len] = [len as u8, key.len() as u8, value_len as u8];
            self.bytes.extend_from_slice(&[self.field << 3 | 2, len, KEY << 3 | 2, key_len]);
            self.bytes.extend_from_slice(key.as_bytes());
            self.bytes.extend_from_slice(&[VALUE << 3 | 2, value_len]);
            return;
        }
        put_delimited_head(&mut self.bytes, self.field, len);
        put_text(&mut self.bytes, KEY, key);
        put_delimited_head(&mut self.bytes, VALUE, value_len);
    }
}

/// The value of a received attribute, the bytes of a `KeyValue`: `None` if it has another key, `Some(None)` if it is no
/// text. Of what is repeated the last one counts, as in every protobuf decoder.
pub fn text_of<'a>(attribute: &'a [u8], key: &str) -> Option<Option<&'a str>> {
    let own = values(attribute, KEY.into()).last().unwrap_or_default();
    if own != key.as_bytes() {
        return None;
    }
    let values = values(attribute, VALUE.into()).flat_map(fields);
    let value = values.filter(|(number, ..)| ANY_VALUES.contains(number)).last();
    let text = value.filter(|(number, ..)| *number == u32::from(STRING));
    Some(text.and_then(|(.., text)| str::from_utf8(text).ok()))
}

/// Appends a text field with a number below 16.
#[inline]
pub fn put_text(out: &mut Vec<u8>, number: u8, text: &str) {
    put_delimited_head(out, number, text.len());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
        trace::v1::Span,
    };
    use proptest::{collection::vec, prelude::*};
    use prost::Message;

    use super::*;

    fn key_value(key: &str, value: Value) -> KeyValue {
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    }

    proptest! {
        #[test]
        fn they_are_read_as_they_were_added(
            key in ".{1,200}",
            text in ".{0,200}",
            number in any::<i64>(),
            flag in any::<bool>(),
            texts in vec(".{0,150}", 0..4),
        ) {
            let mut attributes = Attributes::new(9);
            attributes.text(&key, &text);
            attributes.number(&key, number);
            attributes.flag(&key, flag);
            attributes.texts(&key, &texts);
            attributes.some_text("none", "");
            let string = |text: String| AnyValue { value: Some(Value::StringValue(text)) };
            let values = texts.into_iter().map(string).collect();
            let expected = Span {
                attributes: vec![
                    key_value(&key, Value::StringValue(text)),
                    key_value(&key, Value::IntValue(number)),
                    key_value(&key, Value::BoolValue(flag)),
                    key_value(&key, Value::ArrayValue(ArrayValue { values })),
                ],
                ..Span::default()
            };
            prop_assert_eq!(attributes.bytes(), expected.encode_to_vec());
        }
    }
}
