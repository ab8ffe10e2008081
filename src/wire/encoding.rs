//! The two forms of an OTLP/HTTP body (OTLP 1.11, "OTLP/HTTP").

use http::{HeaderMap, HeaderValue, header};

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

impl Encoding {
    /// As the headers of a request or answer say; `None` for any other type.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes)?;
        let media_type = media_type.split(|&byte| byte == b';').next()?.trim_ascii();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|encoding| media_type.eq_ignore_ascii_case(encoding.media_type().as_bytes()))
    }

    /// For the header Content-Type.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(self.media_type())
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_with_parameters_and_in_any_case() {
        for (text, expected) in [
            ("application/x-protobuf", Some(Encoding::Protobuf)),
            ("Application/JSON ; charset=utf-8", Some(Encoding::Json)),
            ("application/jsonl", None),
            ("text/plain", None),
        ] {
            let value = HeaderValue::from_static(text);
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value)]);
            assert_eq!(Encoding::of(&headers), expected, "{text}");
        }
        assert_eq!(Encoding::of(&HeaderMap::new()), None);
    }
}
