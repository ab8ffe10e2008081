//! One line of a dead-letter file: an OTLP/JSON `ExportTraceServiceRequest` with one field more, `tracestitch`, which
//! receivers ignore as OTLP demands.

use std::collections::BTreeMap;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{
    trace::Origin,
    wire::{
        hex::{hex, unhex},
        json::{self, JsonError},
    },
};

/// What the field `tracestitch` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::exporter) struct Letterhead {
    /// The exporter whose destination lacks the spans.
    pub(in crate::exporter) destination: Option<String>,
    /// Why they are here.
    pub(in crate::exporter) reason: String,
    /// Headers of the request that brought them, as far as they are kept.
    pub(in crate::exporter) origin: BTreeMap<String, String>,
    /// The spans in Protobuf, hexadecimal, where OTLP/JSON can't say all of them: unknown fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    wire: Option<String>,
}

impl Letterhead {
    pub(in crate::exporter) fn new(destination: &str, reason: &str, origin: &Origin) -> Self {
        Self {
            destination: Some(destination.to_owned()),
            reason: reason.to_owned(),
            origin: origin.values().iter().cloned().collect(),
            wire: None,
        }
    }
}

/// Spans that can't be written or read as a line.
#[derive(Debug, thiserror::Error)]
pub(in crate::exporter) enum LineError {
    /// The bytes are no request.
    #[error("no OTLP: {0}")]
    Wire(#[from] prost::DecodeError),
    /// The field `tracestitch` can't be read or written.
    #[error("no dead letter: {0}")]
    Head(#[from] serde_json::Error),
    /// The text is no OTLP/JSON.
    #[error("no OTLP/JSON: {0}")]
    Json(#[from] JsonError),
    /// The field `wire` is damaged.
    #[error("tracestitch.wire is not hexadecimal")]
    Hex,
}

/// The line of this request, with its end.
pub(in crate::exporter) fn write(wire: &[u8], head: &Letterhead) -> Result<Vec<u8>, LineError> {
    let request = ExportTraceServiceRequest::decode(wire)?;
    let text = json::text(&request);
    if says_all(&text, wire, &request) {
        return line(head, &text);
    }
    line(&Letterhead { wire: Some(hex(wire)), ..head.clone() }, &text)
}

/// The field `tracestitch` comes first, so that people see it.
fn line(head: &Letterhead, text: &[u8]) -> Result<Vec<u8>, LineError> {
    let mut line = b"{\"tracestitch\":".to_vec();
    serde_json::to_writer(&mut line, head)?;
    let fields = text.strip_prefix(b"{").unwrap_or(text);
    if fields != b"}" {
        line.push(b',');
    }
    line.extend_from_slice(fields);
    line.push(b'\n');
    Ok(line)
}

/// Reading it again is the only sure way to know.
fn says_all(text: &[u8], wire: &[u8], request: &ExportTraceServiceRequest) -> bool {
    let read = json::to_protobuf(text).ok();
    let read = read.and_then(|bytes| ExportTraceServiceRequest::decode(bytes.as_slice()).ok());
    // Compared by the bytes: a NaN does not equal itself.
    request.encoded_len() == wire.len()
        && read.is_some_and(|read| read.encode_to_vec() == request.encode_to_vec())
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    tracestitch: Letterhead,
}

/// What a line says, and its spans in Protobuf.
pub(in crate::exporter) fn read(text: &[u8]) -> Result<(Letterhead, Bytes), LineError> {
    let Head { mut tracestitch } = serde_json::from_slice(text)?;
    let wire = match tracestitch.wire.take() {
        Some(digits) => {
            let wire = unhex(&digits).ok_or(LineError::Hex)?;
            ExportTraceServiceRequest::decode(wire.as_slice())?;
            wire
        }
        None => json::to_protobuf(text)?,
    };
    Ok((tracestitch, wire.into()))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value::Value},
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    };

    use proptest::prelude::*;

    use super::*;
    use crate::trace::Origins;

    proptest! {
        #[test]
        fn whatever_a_span_says_comes_back(bits in any::<u64>(), text in any::<String>(), bytes in any::<Vec<u8>>()) {
            let values =
                [Value::DoubleValue(f64::from_bits(bits)), Value::StringValue(text), Value::BytesValue(bytes)];
            for value in values {
                let wire = request(Some(value)).encode_to_vec();
                let line = write(&wire, &Letterhead::default()).unwrap();
                let (_, read_wire) = read(&line).unwrap();
                prop_assert_eq!(read_wire.as_ref(), wire.as_slice());
            }
        }
    }

    fn request(value: Option<Value>) -> ExportTraceServiceRequest {
        let value = Some(AnyValue { value });
        let attribute = KeyValue { key: "k".to_owned(), value, ..KeyValue::default() };
        let span = Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: "a \"name\"\n: null".to_owned(),
            start_time_unix_nano: u64::MAX,
            attributes: vec![attribute],
            ..Span::default()
        };
        let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
        let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![resource] }
    }

    #[test]
    fn a_line_gives_back_the_bytes_that_went_into_it() {
        let origin = Origins::default().intern(vec![("x-org".to_owned(), "7".to_owned())]);
        let head = Letterhead::new("otlp/tempo", "queue_full", &origin);
        let unknown = [request(None).encode_to_vec(), vec![0x78, 0x01]].concat();
        let plain = [
            Value::StringValue("v".to_owned()),
            Value::IntValue(i64::MIN),
            Value::DoubleValue(0.1),
            Value::DoubleValue(f64::NAN),
            Value::DoubleValue(f64::NEG_INFINITY),
            Value::BytesValue(vec![0, 255]),
        ];
        let mut requests: Vec<(Vec<u8>, bool)> =
            plain.map(|value| (request(Some(value)).encode_to_vec(), false)).to_vec();
        requests.push((Vec::new(), false));
        requests.push((unknown, true));
        for (wire, needs_wire) in requests {
            let line = write(&wire, &head).unwrap();
            assert_eq!(line.iter().position(|&byte| byte == b'\n'), Some(line.len() - 1));
            assert_eq!(String::from_utf8_lossy(&line).contains("\"wire\":"), needs_wire);
            let (read_head, read_wire) = read(&line).unwrap();
            assert_eq!((read_head, read_wire.as_ref()), (head.clone(), wire.as_slice()));
        }
    }

    #[test]
    fn lines_of_other_programs_name_no_destination() {
        let text = br#"{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a"}]}]}]}"#;
        assert_eq!(read(text).unwrap().0, Letterhead::default());
        for bad in ["", "{", "7", r#"{"resourceSpans": 1}"#, r#"{"tracestitch": {"wire": "0g"}}"#] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
