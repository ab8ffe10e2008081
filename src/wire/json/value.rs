//! One JSON value on its way into protobuf: what the field's kind says, appended to the message around it.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::fields::{Field, Fields, Kind, Occurs, REQUEST};
use crate::wire::{
    field::{DEPTH_MAX, WireType, put_varint},
    hex::unhex,
    schema::enter,
};

/// The whole request, appended to these bytes.
pub(super) struct Root<'a>(pub(super) &'a mut Vec<u8>);

impl<'de> Root<'_> {
    pub(super) fn read<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with resourceSpans")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        message(&REQUEST, self.0, DEPTH_MAX, map)
    }
}

/// Appends a message's fields; `depth` is how many levels may still be entered.
fn message<'de, A: MapAccess<'de>>(
    fields: &'static Fields,
    out: &mut Vec<u8>,
    depth: u32,
    mut map: A,
) -> Result<(), A::Error> {
    while let Some(field) = map.next_key_seed(Name(fields))? {
        match field {
            Some(field) => {
                map.next_value_seed(Place { field, in_list: false, depth, out: &mut *out })?;
            }
            None => drop(map.next_value::<IgnoredAny>()?),
        }
    }
    Ok(())
}

/// A field's name; `None` for one that OTLP does not know.
struct Name(&'static Fields);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.of(name))
    }
}

/// Where a value goes.
struct Place<'a> {
    field: &'static Field,
    /// It is one of a list.
    in_list: bool,
    depth: u32,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    /// Only for what no visit takes; the others say it by [`Place::wrong`].
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.kind.words())
    }

    /// In a list null is an empty element, or what follows would be another one.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.in_list {
            self.put_bytes(&[]);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.scalar() {
            Some(Kind::Bool) => self.put_number(WireType::Varint, u64::from(value)),
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match self.scalar() {
            #[allow(clippy::cast_precision_loss, reason = "JSON has one kind of numbers")]
            Some(Kind::Double) => self.put_number(WireType::Fixed64, (value as f64).to_bits()),
            _ => return self.integer(value.into()),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match self.scalar() {
            #[allow(clippy::cast_precision_loss, reason = "JSON has one kind of numbers")]
            Some(Kind::Double) => self.put_number(WireType::Fixed64, (value as f64).to_bits()),
            _ => return self.integer(value.into()),
        }
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.scalar() {
            Some(Kind::Double) => self.put_number(WireType::Fixed64, value.to_bits()),
            _ => match integral(value) {
                Some(value) => return self.integer(value),
                None => return Err(self.wrong()),
            },
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let bytes = match self.scalar() {
            Some(Kind::Text) => {
                self.put_bytes(text.as_bytes());
                return Ok(());
            }
            Some(Kind::Hex) => unhex(text),
            Some(Kind::Base64) => base64(text),
            Some(Kind::Double) => return self.double(text),
            Some(Kind::Enum | Kind::Bool | Kind::Message(_)) | None => None,
            Some(_) => {
                return match whole(text) {
                    Some(number) => self.integer(number),
                    None => Err(self.wrong()),
                };
            }
        };
        match bytes {
            Some(bytes) => self.put_bytes(&bytes),
            None => return Err(self.wrong()),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { field, in_list, depth, out } = self;
        if in_list || field.occurs != Occurs::Listed {
            return Err(Self { field, in_list, depth, out }.wrong());
        }
        while items
            .next_element_seed(Place { field, in_list: true, depth, out: &mut *out })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Some(Kind::Message(fields)) = self.scalar() else { return Err(self.wrong()) };
        let depth = enter(self.depth)
            .map_err(|error| A::Error::custom(format_args!("{}: {error}", self.field.name)))?;
        put_key(self.out, self.field.number, WireType::Delimited);
        let start = self.out.len();
        // Most messages are shorter than 128 bytes: then this is the length's only byte.
        self.out.push(0);
        message(fields, &mut *self.out, depth, map)?;
        close(self.out, start);
        Ok(())
    }
}

impl Place<'_> {
    /// What a single value must be here; `None` where a list is wanted.
    fn scalar(&self) -> Option<Kind> {
        let wants_list = self.field.occurs == Occurs::Listed && !self.in_list;
        (!wants_list).then_some(self.field.kind)
    }

    fn wrong<E: Error>(&self) -> E {
        let Field { name, kind, .. } = self.field;
        match self.scalar() {
            Some(kind) => E::custom(format_args!("{name}: expected {}", kind.words())),
            None if matches!(kind, Kind::Message(_)) => {
                E::custom(format_args!("{name}: expected a list of objects"))
            }
            None => E::custom(format_args!("{name}: expected a list of texts")),
        }
    }

    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let (wire, number) = match self.scalar() {
            Some(Kind::Int64) => {
                (WireType::Varint, i64::try_from(value).ok().map(i64::cast_unsigned))
            }
            Some(Kind::Int32 | Kind::Enum) => {
                let number = i32::try_from(value).ok().map(i64::from);
                (WireType::Varint, number.map(i64::cast_unsigned))
            }
            Some(Kind::Uint32) => (WireType::Varint, u32::try_from(value).ok().map(u64::from)),
            Some(Kind::Fixed32) => (WireType::Fixed32, u32::try_from(value).ok().map(u64::from)),
            Some(Kind::Fixed64) => (WireType::Fixed64, u64::try_from(value).ok()),
            _ => (WireType::Varint, None),
        };
        match number {
            Some(number) => self.put_number(wire, number),
            None => return Err(self.wrong()),
        }
        Ok(())
    }

    fn double<E: Error>(self, text: &str) -> Result<(), E> {
        let value = match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            // Rust's own words for them are not OTLP's.
            _ => text.parse::<f64>().ok().filter(|value| value.is_finite()),
        };
        match value {
            Some(value) => self.put_number(WireType::Fixed64, value.to_bits()),
            None => return Err(self.wrong()),
        }
        Ok(())
    }

    fn put_number(self, wire: WireType, number: u64) {
        if number == 0 && self.field.occurs == Occurs::Once {
            return;
        }
        put_key(self.out, self.field.number, wire);
        match wire {
            WireType::Fixed32 => self.out.extend(number.to_le_bytes().iter().take(4)),
            WireType::Fixed64 => self.out.extend(number.to_le_bytes()),
            _ => put_varint(self.out, usize::from_ne_bytes(number.to_ne_bytes())),
        }
    }

    fn put_bytes(self, bytes: &[u8]) {
        if bytes.is_empty() && self.field.occurs == Occurs::Once {
            return;
        }
        put_key(self.out, self.field.number, WireType::Delimited);
        put_varint(self.out, bytes.len());
        self.out.extend_from_slice(bytes);
    }
}

fn put_key(out: &mut Vec<u8>, number: u8, wire: WireType) {
    put_varint(out, usize::from(number) << 3 | wire.bits());
}

/// Puts the length of what follows where one byte was left for it.
fn close(out: &mut Vec<u8>, start: usize) {
    let len = out.len() - start - 1;
    if let (Ok(short @ ..0x80), Some(place)) = (u8::try_from(len), out.get_mut(start)) {
        *place = short;
        return;
    }
    let mut long = Vec::with_capacity(5);
    put_varint(&mut long, len);
    out.splice(start..=start, long);
}

/// 2^64: from here on no whole number is in range.
const BEYOND: f64 = 18_446_744_073_709_551_616.0;

#[allow(clippy::cast_possible_truncation, reason = "whole and in range")]
fn integral(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() < BEYOND).then_some(value as i128)
}

fn whole(text: &str) -> Option<i128> {
    text.parse().ok().or_else(|| integral(text.parse().ok()?))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const FOR_URLS: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let engine = if text.contains(['-', '_']) { FOR_URLS } else { STANDARD };
    engine.decode(text).ok()
}
