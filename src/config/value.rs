//! Values that parse or refuse by themselves, so that most checks need no code of their own.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::address::{HttpUrl, ListenAddress, UrlPath};

/// A length of time, in the Collector's (Go's) form: `15s`, `200ms`, `1h30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Interval(Duration);

/// A number of bytes: `64MiB`, `10GiB`, `500kB`, `1048576`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// A share of the memory there is (`60%`) or a [`ByteSize`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum MemoryShare {
    /// Percent of what there is.
    Percent(u8),
    /// Bytes.
    Bytes(ByteSize),
}

/// When what was written to disk is made to survive a power loss: `always`, `never`, or every so often (`200ms`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncMode {
    /// Before a sender is answered.
    Always,
    /// In the background, so often.
    Every(Interval),
    /// When the operating system likes.
    Never,
}

/// The name of something in another section, or `none`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NameOrNone(Option<String>);

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Interval {
    /// Milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As a duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Zero often means "off".
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

const UNITS_NS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is no duration, write for example 15s, 200ms or 1h30m");
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut total_ns = 0_f64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let number: f64 = number.parse().map_err(|_| refuse())?;
            let (_, unit_ns) =
                UNITS_NS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
            total_ns += number * f64_of(*unit_ns);
            rest = tail;
        }
        if text.is_empty() || total_ns > 1e18 {
            return Err(refuse());
        }
        Duration::try_from_secs_f64(total_ns / 1e9).map(Self).map_err(|_| refuse())
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if ns == 0 {
            return f.write_str("0s");
        }
        let units = UNITS_NS.iter().rev().filter(|(name, _)| *name != "µs");
        let unit = units.into_iter().find(|(_, unit_ns)| ns.is_multiple_of(*unit_ns));
        let (name, unit_ns) = unit.unwrap_or(&("ns", 1));
        write!(f, "{}{name}", ns / unit_ns)
    }
}

impl ByteSize {
    /// Bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Mebibytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib * 1024 * 1024)
    }

    /// Bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Bytes as a length in memory.
    pub fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// No bytes at all.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

const BYTE_UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is no size, write for example 64MiB, 10GiB or 500kB");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit = unit.trim();
        let factor = if unit.is_empty() {
            1
        } else {
            BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?.1
        };
        number.checked_mul(factor).map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = BYTE_UNITS.iter().take(4);
        let unit = binary.into_iter().find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit));
        let (name, unit) = unit.unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl MemoryShare {
    /// In bytes, where there are so many.
    pub fn of(self, all_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.get(),
            Self::Percent(percent) => all_bytes / 100 * u64::from(percent),
        }
    }
}

impl FromStr for MemoryShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Bytes);
        };
        match percent.trim().parse() {
            Ok(percent @ 1..=95) => Ok(Self::Percent(percent)),
            _ => Err(format!("`{text}` is no share of memory between 1% and 95%")),
        }
    }
}

impl fmt::Display for MemoryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

impl FromStr for SyncMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => match text.parse::<Interval>() {
                Ok(interval) if !interval.is_zero() => Ok(Self::Every(interval)),
                _ => Err(format!("`{text}` is none of always, never, or a duration such as 200ms")),
            },
        }
    }
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Never => f.write_str("never"),
            Self::Every(interval) => interval.fmt(f),
        }
    }
}

impl NameOrNone {
    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl FromStr for NameOrNone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("is empty, write a name or none".to_owned()),
            "none" => Ok(Self(None)),
            name => Ok(Self(Some(name.to_owned()))),
        }
    }
}

impl fmt::Display for NameOrNone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("none"))
    }
}

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Rounding above 2^53 does not matter for settings.
#[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "units are far below 2^53")]
fn f64_of(number: u64) -> f64 {
    number as f64
}

/// Values are written as text and read from text or whole numbers.
macro_rules! textual {
    ($($name:ident $format:literal $example:literal;)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrNumber)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["string", "integer"], "format": $format, "examples": [$example] })
            }

            fn inline_schema() -> bool {
                true
            }
        }
    )*};
}

textual! {
    Interval "duration" "15s";
    ByteSize "byte-size" "64MiB";
    MemoryShare "memory-share" "60%";
    SyncMode "sync-mode" "200ms";
    ListenAddress "host-port" "127.0.0.1:4317";
    HttpUrl "url" "http://tempo:4317";
    UrlPath "path" "/v1/traces";
    NameOrNone "name" "none";
    Secret "secret" "${env:TOKEN}";
}

macro_rules! debug_as_display {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

debug_as_display!(Interval ByteSize HttpUrl Secret);

struct TextOrNumber;

impl de::Visitor<'_> for TextOrNumber {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_they_are_read() {
        for text in ["15s", "200ms", "90s", "0s", "2h", "50us"] {
            assert_eq!(
                text.parse::<Interval>().map(|value| value.to_string()).as_deref(),
                Ok(text)
            );
        }
        assert_eq!("1h30m".parse::<Interval>(), Ok(Interval::from_secs(5400)));
        assert_eq!("1.5s".parse::<Interval>(), Ok(Interval::from_millis(1500)));
        for bad in ["", "15", "s", "1d", "-1s", "1s2", "999999999h"] {
            assert!(bad.parse::<Interval>().is_err(), "{bad}");
        }
        for text in ["64MiB", "10GiB", "0B", "1000B"] {
            assert_eq!(
                text.parse::<ByteSize>().map(|value| value.to_string()).as_deref(),
                Ok(text)
            );
        }
        for bad in ["", "MiB", "1mib", "99999999999TiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        for text in ["always", "never", "200ms"] {
            let sync = text.parse::<SyncMode>().map(|value| value.to_string());
            assert_eq!(sync.as_deref(), Ok(text));
        }
        assert!("0s".parse::<SyncMode>().is_err() && "often".parse::<SyncMode>().is_err());
        assert_eq!("60%".parse(), Ok(MemoryShare::Percent(60)));
        assert!("100%".parse::<MemoryShare>().is_err());
        assert_eq!(format!("{:?}", Secret("x".to_owned())), "***");
    }
}
