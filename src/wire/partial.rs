//! `ExportTraceServiceResponse`: what was refused of a request that was taken (OTLP 1.11, "Partial Success").

use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};

use super::{
    Encoding,
    field::{self, put_delimited_head},
    otlp::ExportTracePartialSuccess,
};

/// What was refused of a request; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// How many; which ones nobody says.
    pub rejected_spans: u64,
    /// For people.
    pub message: String,
}

impl PartialSuccess {
    /// The response that says so; on full success `partial_success` must be unset.
    pub fn response(&self, encoding: Encoding) -> Bytes {
        let is_full = *self == Self::default();
        match encoding {
            Encoding::Protobuf if is_full => Bytes::new(),
            Encoding::Json if is_full => Bytes::from_static(b"{}"),
            Encoding::Protobuf => self.protobuf(),
            Encoding::Json => {
                // As text: JavaScript has no whole numbers of 64 bits.
                let rejected = self.rejected_spans.to_string();
                let partial = json!({ "rejectedSpans": rejected, "errorMessage": self.message });
                json!({ "partialSuccess": partial }).to_string().into()
            }
        }
    }

    fn protobuf(&self) -> Bytes {
        let partial = ExportTracePartialSuccess {
            rejected_spans: i64::try_from(self.rejected_spans).unwrap_or(i64::MAX),
            error_message: self.message.clone(),
        };
        let partial = partial.encode_to_vec();
        let mut out = Vec::with_capacity(partial.len() + 8);
        put_delimited_head(&mut out, 1, partial.len());
        out.extend(partial);
        out.into()
    }

    /// As a response says; what can't be read refuses nothing.
    pub fn of_response(encoding: Encoding, body: &[u8]) -> Self {
        match encoding {
            Encoding::Protobuf => of_protobuf(body),
            Encoding::Json => of_json(body).unwrap_or_default(),
        }
    }
}

fn of_protobuf(response: &[u8]) -> PartialSuccess {
    let mut at = 0;
    while at < response.len() {
        let Ok((number, wire)) = field::key(response, &mut at) else { break };
        if (number, wire) == (1, field::WireType::Delimited) {
            let Ok(range) = field::delimited(response, &mut at) else { break };
            let partial = response.get(range).unwrap_or_default();
            let partial = ExportTracePartialSuccess::decode(partial).unwrap_or_default();
            return PartialSuccess {
                rejected_spans: u64::try_from(partial.rejected_spans).unwrap_or(0),
                message: partial.error_message,
            };
        }
        if field::skip(response, &mut at, number, wire, field::DEPTH_MAX).is_err() {
            break;
        }
    }
    PartialSuccess::default()
}

fn of_json(response: &[u8]) -> Option<PartialSuccess> {
    let response: Value = serde_json::from_slice(response).ok()?;
    let partial = response.get("partialSuccess")?;
    let rejected = partial.get("rejectedSpans");
    let number = rejected.and_then(Value::as_u64);
    let text = rejected.and_then(Value::as_str).and_then(|text| text.parse().ok());
    let message = partial.get("errorMessage").and_then(Value::as_str);
    Some(PartialSuccess {
        rejected_spans: number.or(text).unwrap_or(0),
        message: message.unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODINGS: [Encoding; 2] = [Encoding::Protobuf, Encoding::Json];

    #[test]
    fn what_was_refused_is_said_in_either_form() {
        let partial = PartialSuccess { rejected_spans: 3, message: "zero ids".to_owned() };
        let text = partial.response(Encoding::Json);
        assert_eq!(
            std::str::from_utf8(&text),
            Ok(r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"zero ids"}}"#)
        );
        for encoding in ENCODINGS {
            let response = partial.response(encoding);
            assert_eq!(PartialSuccess::of_response(encoding, &response), partial);
        }
        let full = ENCODINGS.map(|encoding| PartialSuccess::default().response(encoding));
        assert_eq!(full.each_ref().map(Bytes::as_ref), [b"".as_slice(), b"{}"]);
    }

    #[test]
    fn what_can_not_be_read_refuses_nothing() {
        for text in ["", "<html>", "{}", "[]", r#"{"partialSuccess": null}"#] {
            let read = PartialSuccess::of_response(Encoding::Json, text.as_bytes());
            assert_eq!(read, PartialSuccess::default(), "{text}");
        }
        let read = PartialSuccess::of_response(Encoding::Protobuf, b"\xff");
        assert_eq!(read, PartialSuccess::default());
        let number =
            br#"{"partialSuccess": {"rejectedSpans": 7, "errorMessage": null, "more": 1}}"#;
        assert_eq!(PartialSuccess::of_response(Encoding::Json, number).rejected_spans, 7);
    }
}
