//! OTLP/JSON, read and written (OTLP 1.11, "JSON Protobuf Encoding").
//!
//! Reading goes from text to protobuf bytes in one pass, by the table in `fields`: no tree is built, and what follows is
//! the same as for a request that came in protobuf.

mod fields;
mod surrogates;
mod text;
mod value;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use self::{fields::REQUEST, value::Root};
use super::field::DEPTH_MAX;

/// A text that is no OTLP/JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct JsonError {
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1; 0 at the end of the line before.
    pub column: usize,
    /// With the name of the field, if one is wrong.
    pub problem: String,
}

/// The bytes of the `ExportTraceServiceRequest` that this text is.
///
/// What is empty or null may be left out, unknown fields are passed over, ids are hexadecimal in either case, whole
/// numbers come as text or number, half a character is U+FFFD. Repeated keys mean what they mean in protobuf: the last one
/// that is not at its default counts, messages merge.
pub fn to_protobuf(text: &[u8]) -> Result<Vec<u8>, JsonError> {
    read(text).or_else(|error| match surrogates::replaced(text) {
        Some(text) => read(&text),
        None => Err(error),
    })
}

fn read(text: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut reader = serde_json::Deserializer::from_slice(text);
    // Nesting is counted in messages, as in protobuf.
    reader.disable_recursion_limit();
    Root(&mut out).read(&mut reader).and_then(|()| reader.end())?;
    Ok(out)
}

/// The request that this text is, decoded.
pub fn request(text: &[u8]) -> Result<ExportTraceServiceRequest, JsonError> {
    ExportTraceServiceRequest::decode(to_protobuf(text)?.as_slice()).map_err(|error| JsonError {
        line: 1,
        column: 1,
        problem: error.to_string(),
    })
}

/// The text of a request: an object in one line, without what is at its default.
pub fn text(request: &ExportTraceServiceRequest) -> Vec<u8> {
    let bytes = request.encode_to_vec();
    let mut out = Vec::with_capacity(bytes.len() * 2);
    // What prost wrote can be read, and no message of its own making nests too deeply for it.
    text::put_message(&mut out, &REQUEST, &bytes, DEPTH_MAX).unwrap_or_default();
    out
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        let problem = text.strip_suffix(&place).unwrap_or(&text).to_owned();
        Self { line, column, problem }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::any_value::Value,
        trace::v1::{Span, span::Link},
    };

    use super::*;

    fn request(text: &str) -> ExportTraceServiceRequest {
        super::request(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// A span with these fields.
    fn span(fields: &str) -> Span {
        let request = request(&in_span(fields));
        request.resource_spans[0].scope_spans[0].spans[0].clone()
    }

    fn in_span(fields: &str) -> String {
        format!("{{\"resourceSpans\": [{{\"scopeSpans\": [{{\"spans\": [{{{fields}}}]}}]}}]}}")
    }

    /// An attribute's value.
    fn value(value: &str) -> Option<Value> {
        let span = span(&format!("\"attributes\": [{{\"key\": \"k\", \"value\": {value}}}]"));
        span.attributes[0].value.clone().and_then(|value| value.value)
    }

    #[test]
    fn ids_come_in_either_case() {
        let read = span(
            r#""traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174",
               "parentSpanId": "EEE19b7ec3c1b173",
               "links": [{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "EEE19B7EC3C1B174"}]"#,
        );
        assert_eq!(read.trace_id, 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes());
        assert_eq!(read.span_id, 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes());
        assert_eq!(read.parent_span_id, 0xeee1_9b7e_c3c1_b173_u64.to_be_bytes());
        let Link { trace_id, span_id, .. } = &read.links[0];
        assert_eq!((trace_id, span_id), (&read.trace_id, &read.span_id));
    }

    #[test]
    fn whole_numbers_come_as_text_or_number() {
        for (text, expected) in [
            ("1544712660300000000", 1_544_712_660_300_000_000),
            (r#""1544712660300000000""#, 1_544_712_660_300_000_000),
            ("18446744073709551615", u64::MAX),
            (r#""18446744073709551615""#, u64::MAX),
            ("1e3", 1000),
            ("1.0", 1),
            (r#""2.5e1""#, 25),
            ("null", 0),
        ] {
            assert_eq!(
                span(&format!("\"startTimeUnixNano\": {text}")).start_time_unix_nano,
                expected
            );
        }
        for (text, expected) in [
            (r#"{"intValue": "-9223372036854775808"}"#, i64::MIN),
            (r#"{"intValue": -1}"#, -1),
            (r#"{"intValue": 0}"#, 0),
        ] {
            assert_eq!(value(text), Some(Value::IntValue(expected)));
        }
    }

    #[test]
    fn doubles_are_exact_and_need_not_be_numbers() {
        for (text, expected) in [
            ("0.1", 0.1),
            ("5", 5.0),
            ("-0.0", -0.0),
            (r#""2.5""#, 2.5),
            (r#""Infinity""#, f64::INFINITY),
            (r#""-Infinity""#, f64::NEG_INFINITY),
            ("2.2250738585072014e-308", f64::MIN_POSITIVE),
        ] {
            let value = value(&format!("{{\"doubleValue\": {text}}}"));
            let Some(Value::DoubleValue(read)) = value else { panic!("{value:?}") };
            assert_eq!(read.to_bits(), expected.to_bits(), "{text}");
        }
        let nan = value(r#"{"doubleValue": "NaN"}"#);
        assert!(matches!(nan, Some(Value::DoubleValue(nan)) if nan.is_nan()));
    }

    #[test]
    fn bytes_come_in_either_alphabet_with_padding_or_without() {
        for text in ["-_8=", "-_8", "+/8=", "+/8"] {
            let value = value(&format!("{{\"bytesValue\": \"{text}\"}}"));
            assert_eq!(value, Some(Value::BytesValue(vec![0xfb, 0xff])), "{text}");
        }
    }

    #[test]
    fn what_is_empty_null_or_unknown_may_be_there_or_not() {
        let read = request(
            r#"{"resourceSpans": [{"resource": {
            "attributes": [
                {"key": "none", "value": {"arrayValue": {}}},
                {"key": "deep", "value": {"arrayValue": {"values": [{"kvlistValue": {}}, null]}}},
                {"key": "null", "value": null}
            ],
            "entityRefs": [{"type": "service", "idKeys": ["service.name"]}, {}]
        }, "scopeSpans": [{"scope": null, "spans": null}], "later": {"a": [[[{}]]]}, "schemaUrl": null}]}"#,
        );
        let resource = read.resource_spans[0].resource.as_ref().unwrap();
        assert_eq!(resource.attributes.len(), 3);
        assert_eq!(resource.attributes[2].value, None);
        assert_eq!(resource.entity_refs[0].id_keys, ["service.name"]);
        assert_eq!(resource.entity_refs[1].r#type, "");
        for empty in ["{}", r#"{"resourceSpans": null}"#, r#"{"resource_spans": [7]}"#] {
            assert_eq!(request(empty), ExportTraceServiceRequest::default(), "{empty}");
        }
    }

    #[test]
    fn half_a_character_costs_that_character_alone() {
        let text = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a\ud83d"}]}]}]}"#;
        let request = request(text);
        assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].name, "a\u{fffd}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let refused = |text: &str| to_protobuf(text.as_bytes()).expect_err(text);
        for text in ["", "[]", "7", "{", "{} {}", r#"{"resourceSpans": 7}"#, "\u{feff}{}"] {
            assert!(refused(text).line >= 1, "{text}");
        }
        for (fields, problem) in [
            (r#""kind": "SPAN_KIND_SERVER""#, "kind: expected the number of an enum's value"),
            (r#""kind": 1.5"#, "kind: expected the number of an enum's value"),
            (r#""name": 7"#, "name: expected a text"),
            (r#""traceId": "xy""#, "traceId: expected hexadecimal digits, two a byte"),
            (r#""traceId": "abc""#, "traceId: expected hexadecimal digits, two a byte"),
            (r#""attributes": {}"#, "attributes: expected a list of objects"),
            (r#""status": []"#, "status: expected an object"),
            (
                r#""startTimeUnixNano": -1"#,
                "startTimeUnixNano: expected a whole number from 0 to 2^64-1",
            ),
            (
                r#""startTimeUnixNano": "1,5""#,
                "startTimeUnixNano: expected a whole number from 0 to 2^64-1",
            ),
            (
                r#""droppedEventsCount": 4294967296"#,
                "droppedEventsCount: expected a whole number from 0 to 2^32-1",
            ),
            (r#""status": {"code": true}"#, "code: expected the number of an enum's value"),
        ] {
            assert_eq!(refused(&in_span(fields)).problem, problem);
        }
        let error = refused("{\"resourceSpans\": [\n  {\"schemaUrl\": 7}]}");
        assert_eq!(error.to_string(), "line 2, column 17: schemaUrl: expected a text");
    }

    #[test]
    fn nesting_ends_where_protobuf_ends_it() {
        let nested = |levels: usize| {
            let (open, close) = (r#"{"arrayValue": {"values": ["#, "]}}");
            let deep = format!("{}{{}}{}", open.repeat(levels), close.repeat(levels));
            in_span(&format!("\"attributes\": [{{\"value\": {deep}}}]"))
        };
        for levels in [1, 40, 44, 45, 46, 47, 48, 49, 50, 60, 100_000] {
            let read = to_protobuf(nested(levels).as_bytes());
            let is_taken = levels <= 47;
            assert_eq!(read.is_ok(), is_taken, "{levels}: {read:?}");
            if let Ok(bytes) = read {
                assert!(ExportTraceServiceRequest::decode(bytes.as_slice()).is_ok(), "{levels}");
            }
        }
        let unknown = format!("{{\"a\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(to_protobuf(unknown.as_bytes()), Ok(Vec::new()));
    }
}
