//! How a body is compressed.

use http::{HeaderMap, HeaderValue, header};

/// The compressions that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Not at all.
    Identity,
    Gzip,
    /// RFC 1950, as HTTP means it; not over gRPC.
    Deflate,
    Zstd,
}

/// For `grpc-accept-encoding`.
pub(super) const GRPC_CODINGS: &str = "gzip,zstd,identity";

impl Coding {
    /// The one coding of an HTTP body; `None` for any other, and for several.
    pub(super) fn of_http(headers: &HeaderMap) -> Option<Self> {
        match one(headers, header::CONTENT_ENCODING.as_str())?.as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            b"deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    /// Of the messages of a gRPC call that are flagged as compressed; `None` for any other.
    pub(super) fn of_grpc(headers: &HeaderMap) -> Option<Self> {
        match one(headers, "grpc-encoding")?.as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A header's only value, in lower case; empty without one.
fn one(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(HeaderValue::as_bytes).unwrap_or_default().trim_ascii();
    values.next().is_none().then(|| value.to_ascii_lowercase())
}
