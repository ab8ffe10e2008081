//! Protobuf as OTLP/JSON, by the same table that reads it.

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::fields::{Field, Fields, Kind, Occurs};
use crate::wire::{Malformed, field, hex::hex, schema::enter};

/// Appends a message that prost encoded: the elements of a list are neighbours, other fields are there once. Unknown
/// fields have no name in JSON and are left out.
pub(super) fn put_message(
    out: &mut Vec<u8>,
    fields: &'static Fields,
    bytes: &[u8],
    depth: u32,
) -> Result<(), Malformed> {
    let (mut at, mut before) = (0, None);
    out.push(b'{');
    while at < bytes.len() {
        let (number, wire) = field::key(bytes, &mut at)?;
        let Some(field) = fields.numbered(number) else {
            field::skip(bytes, &mut at, number, wire, depth)?;
            continue;
        };
        put_name(out, before, field);
        put_value(out, field.kind, bytes, &mut at, depth)?;
        before = Some(field);
    }
    if before.is_some_and(|field| field.occurs == Occurs::Listed) {
        out.push(b']');
    }
    out.push(b'}');
    Ok(())
}

/// What stands between two values: a comma in a list, a name elsewhere.
fn put_name(out: &mut Vec<u8>, before: Option<&Field>, field: &Field) {
    if before.is_some_and(|before| before.number == field.number) {
        out.push(b',');
        return;
    }
    if let Some(before) = before {
        out.extend_from_slice(if before.occurs == Occurs::Listed { b"]," } else { b"," });
    }
    out.push(b'"');
    out.extend_from_slice(field.name.as_bytes());
    out.extend_from_slice(if field.occurs == Occurs::Listed { b"\":[" } else { b"\":" });
}

fn put_value(
    out: &mut Vec<u8>,
    kind: Kind,
    bytes: &[u8],
    at: &mut usize,
    depth: u32,
) -> Result<(), Malformed> {
    match kind {
        Kind::Bool => put_plain(out, field::varint(bytes, at)? != 0),
        // As text: JavaScript has no whole numbers of 64 bits.
        Kind::Int64 => put_quoted(out, &field::varint(bytes, at)?.cast_signed().to_string()),
        Kind::Fixed64 => put_quoted(out, &field::fixed64(bytes, at)?.to_string()),
        Kind::Int32 | Kind::Enum => put_plain(out, field::varint(bytes, at)?.cast_signed()),
        Kind::Uint32 => put_plain(out, field::varint(bytes, at)?),
        Kind::Fixed32 => put_plain(out, field::fixed32(bytes, at)?),
        Kind::Double => put_double(out, f64::from_bits(field::fixed64(bytes, at)?)),
        Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_) => {
            let value = field::delimited(bytes, at)?;
            put_delimited(out, kind, bytes.get(value).unwrap_or_default(), depth)?;
        }
    }
    Ok(())
}

fn put_delimited(out: &mut Vec<u8>, kind: Kind, value: &[u8], depth: u32) -> Result<(), Malformed> {
    match kind {
        Kind::Message(fields) => put_message(out, fields, value, enter(depth)?)?,
        Kind::Hex => put_quoted(out, &hex(value)),
        Kind::Base64 => put_quoted(out, &STANDARD.encode(value)),
        _ => put_plain(out, std::str::from_utf8(value).map_err(|_| Malformed::Utf8)?),
    }
    Ok(())
}

/// JSON has no such numbers.
fn put_double(out: &mut Vec<u8>, value: f64) {
    match value {
        value if value.is_nan() => put_quoted(out, "NaN"),
        f64::INFINITY => put_quoted(out, "Infinity"),
        f64::NEG_INFINITY => put_quoted(out, "-Infinity"),
        value => put_plain(out, value),
    }
}

/// Numbers, truth values and texts can't fail, nor can writing to memory.
fn put_plain(out: &mut Vec<u8>, value: impl serde::Serialize) {
    serde_json::to_writer(out, &value).unwrap_or_default();
}

/// A text with nothing in it that would have to be escaped.
fn put_quoted(out: &mut Vec<u8>, text: &str) {
    // Writing to memory can't fail.
    write!(out, "\"{text}\"").unwrap_or_default();
}
