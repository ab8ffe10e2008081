//! Walking protobuf fields. Accepts and refuses exactly what prost does (property-tested in `tests/property/scan.rs`).

use std::{iter, ops::Range};

use super::Malformed;

/// Nesting that prost allows; checked on entry of every nested message and every skipped field.
pub const DEPTH_MAX: u32 = 100;

/// The value's form on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireType {
    /// 0
    Varint,
    /// 1
    Fixed64,
    /// 2
    Delimited,
    /// 3
    GroupStart,
    /// 4
    GroupEnd,
    /// 5
    Fixed32,
}

impl WireType {
    /// As it stands in a field's key.
    pub(super) fn bits(self) -> usize {
        match self {
            Self::Varint => 0,
            Self::Fixed64 => 1,
            Self::Delimited => 2,
            Self::GroupStart => 3,
            Self::GroupEnd => 4,
            Self::Fixed32 => 5,
        }
    }
}

/// Reads a field key: number and wire type.
#[inline]
pub fn key(bytes: &[u8], at: &mut usize) -> Result<(u32, WireType), Malformed> {
    let key = u32::try_from(varint(bytes, at)?).map_err(|_| Malformed::Key)?;
    let wire = match key & 7 {
        0 => WireType::Varint,
        1 => WireType::Fixed64,
        2 => WireType::Delimited,
        3 => WireType::GroupStart,
        4 => WireType::GroupEnd,
        5 => WireType::Fixed32,
        _ => return Err(Malformed::Key),
    };
    match key >> 3 {
        0 => Err(Malformed::Key),
        number => Ok((number, wire)),
    }
}

/// Reads a varint of at most ten bytes.
#[inline]
pub fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let rest = bytes.get(*at..).ok_or(Malformed::Varint)?;
    if let Some(&first) = rest.first()
        && first < 0x80
    {
        *at += 1;
        return Ok(u64::from(first));
    }
    long_varint(rest, at)
}

fn long_varint(rest: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let mut value = 0;
    for (index, &byte) in rest.iter().take(10).enumerate() {
        if index == 9 && byte > 1 {
            return Err(Malformed::Varint);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *at += index + 1;
            return Ok(value);
        }
    }
    Err(Malformed::Varint)
}

/// Reads a length and gives the range of the bytes it announces.
#[inline]
pub fn delimited(bytes: &[u8], at: &mut usize) -> Result<Range<usize>, Malformed> {
    let len = usize::try_from(varint(bytes, at)?).map_err(|_| Malformed::Truncated)?;
    let start = *at;
    let end =
        start.checked_add(len).filter(|&end| end <= bytes.len()).ok_or(Malformed::Truncated)?;
    *at = end;
    Ok(start..end)
}

/// Reads eight bytes, little-endian.
#[inline]
pub fn fixed64(bytes: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let value = bytes.get(*at..).and_then(|rest| rest.first_chunk()).ok_or(Malformed::Truncated)?;
    *at += 8;
    Ok(u64::from_le_bytes(*value))
}

/// Reads four bytes, little-endian.
#[inline]
pub fn fixed32(bytes: &[u8], at: &mut usize) -> Result<u32, Malformed> {
    let value = bytes.get(*at..).and_then(|rest| rest.first_chunk()).ok_or(Malformed::Truncated)?;
    *at += 4;
    Ok(u32::from_le_bytes(*value))
}

/// Skips the value of a field whose key was just read.
pub fn skip(
    bytes: &[u8],
    at: &mut usize,
    number: u32,
    wire: WireType,
    depth: u32,
) -> Result<(), Malformed> {
    if depth == 0 {
        return Err(Malformed::Recursion);
    }
    match wire {
        WireType::Varint => varint(bytes, at).map(drop),
        WireType::Fixed64 => fixed64(bytes, at).map(drop),
        WireType::Fixed32 => fixed32(bytes, at).map(drop),
        WireType::Delimited => delimited(bytes, at).map(drop),
        WireType::GroupEnd => Err(Malformed::Group),
        WireType::GroupStart => loop {
            match key(bytes, at)? {
                (inner, WireType::GroupEnd) if inner == number => return Ok(()),
                (_, WireType::GroupEnd) => return Err(Malformed::Group),
                (inner, wire) => skip(bytes, at, inner, wire, depth - 1)?,
            }
        },
    }
}

/// The fields of a message, each with its value: of a delimited one what is announced, of others the bytes they are. It
/// ends where the message can't be read; those that were checked can be.
pub fn fields(bytes: &[u8]) -> impl Iterator<Item = (u32, WireType, &[u8])> {
    let mut at = 0;
    iter::from_fn(move || {
        let (number, wire) = key(bytes, &mut at).ok()?;
        let value = if wire == WireType::Delimited {
            delimited(bytes, &mut at).ok()?
        } else {
            let start = at;
            skip(bytes, &mut at, number, wire, DEPTH_MAX).ok()?;
            start..at
        };
        Some((number, wire, bytes.get(value)?))
    })
}

/// The values of a message's delimited fields with this number.
pub fn values(bytes: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    fields(bytes)
        .filter(move |(other, wire, _)| *other == number && *wire == WireType::Delimited)
        .map(|(_, _, value)| value)
}

/// Bytes that this varint takes.
#[inline]
pub fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(10)
}

/// Appends a varint.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "seven bits are taken at a time")]
pub fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends the key and length of a delimited field with a number below 16.
#[inline]
pub fn put_delimited_head(out: &mut Vec<u8>, number: u8, len: usize) {
    out.push(number << 3 | 2);
    put_varint(out, len);
}

/// Bytes that a delimited field with a number below 16 takes around and with its value.
#[inline]
pub fn delimited_len(len: usize) -> usize {
    1 + varint_len(len) + len
}
