//! Trace and span ids: parsed once at the door, never zero (OTLP 1.11, trace.proto `trace_id`, `span_id`).

use std::{array, fmt, num::NonZeroU64, num::NonZeroU128, str::FromStr};

use super::hex::digit;

/// A 16-byte trace id, never all zeros. Aligned as a pointer is: so many are held that the room between them would count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(Rust, packed(8))]
pub struct TraceId(NonZeroU128);

/// An 8-byte span id, never all zeros. `Option<SpanId>` is 8 bytes, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(NonZeroU64);

/// A text that is no id: wrong length, not hex, or all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a non-zero hexadecimal id of the right length")]
pub struct NotAnId;

impl TraceId {
    /// The id in these wire bytes; `None` when they are not 16 or all zero.
    #[inline]
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 16] = bytes.try_into().ok()?;
        NonZeroU128::new(u128::from_be_bytes(bytes)).map(Self)
    }

    /// The id as it is on the wire.
    pub fn to_wire(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    /// The id in these wire bytes; `None` when they are not 8 or all zero.
    #[inline]
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 8] = bytes.try_into().ok()?;
        Self::from_number(u64::from_be_bytes(bytes))
    }

    /// The id whose big-endian bytes are this number; `None` for 0.
    #[inline]
    pub fn from_number(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The id as it is on the wire.
    pub fn to_wire(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }

    /// The id in digits: the same as its text, where many are written.
    pub fn digits(self) -> [u8; 16] {
        let number = self.0.get();
        array::from_fn(|place| digit(number >> (60 - 4 * place)))
    }
}

impl FromStr for TraceId {
    type Err = NotAnId;

    fn from_str(hex: &str) -> Result<Self, NotAnId> {
        let (halves, []) = hex.as_bytes().as_chunks() else { return Err(NotAnId) };
        let [high, low] = halves else { return Err(NotAnId) };
        let number = u128::from(hex_number(high)?) << 64 | u128::from(hex_number(low)?);
        NonZeroU128::new(number).map(Self).ok_or(NotAnId)
    }
}

impl FromStr for SpanId {
    type Err = NotAnId;

    fn from_str(hex: &str) -> Result<Self, NotAnId> {
        let digits = hex.as_bytes().try_into().map_err(|_| NotAnId)?;
        Self::from_number(hex_number(digits)?).ok_or(NotAnId)
    }
}

/// Unlike `from_str_radix` it takes no sign.
fn hex_number(digits: &[u8; 16]) -> Result<u64, NotAnId> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(number << 4 | u64::from(digit - b'0')),
        b'a'..=b'f' => Ok(number << 4 | u64::from(digit - b'a' + 10)),
        b'A'..=b'F' => Ok(number << 4 | u64::from(digit - b'A' + 10)),
        _ => Err(NotAnId),
    })
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", { self.0 })
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_non_zero_hex_is_an_id() {
        let good = "00000000000000ab".parse::<SpanId>();
        assert_eq!(good.map(SpanId::digits), Ok(*b"00000000000000ab"));
        assert_eq!(good.map(|id| id.to_string()), Ok("00000000000000ab".to_owned()));
        assert_eq!("0123456789abcdeF".parse().map(SpanId::digits), Ok(*b"0123456789abcdef"));
        let trace: Result<TraceId, _> = "0123456789abcdef0000000000000aBC".parse();
        assert_eq!(
            trace.map(|id| id.to_string()),
            Ok("0123456789abcdef0000000000000abc".to_owned())
        );
        for bad in [
            "",
            "0123456789abcdef",
            "00000000000000000000000000000000",
            "0123456789abcdef0123456789abcdeg",
        ] {
            assert_eq!(bad.parse::<TraceId>(), Err(NotAnId), "{bad:?}");
        }
        for bad in ["", "0000000000000000", "+0000000000000ab", "ab", "000000000000000g"] {
            assert_eq!(bad.parse::<SpanId>(), Err(NotAnId), "{bad:?}");
        }
        assert_eq!(TraceId::from_wire(&[0; 16]), None);
        assert_eq!(TraceId::from_wire(&[1; 15]), None);
        assert_eq!(TraceId::from_wire(&[1; 16]).map(TraceId::to_wire), Some([1; 16]));
    }
}
