//! How: random requests are written as OTLP/JSON, by us and by `opentelemetry-proto`, and read again; what is read must
//! be what was written. Damaged texts are read, too: whatever becomes of them, it is a request or an error.

use fastrand::Rng;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message;
use tracestitch::wire::{json, layout::Layout};

use super::message;

fn random(seed: u64) -> Option<ExportTraceServiceRequest> {
    let bytes = message::valid(&mut Rng::with_seed(seed));
    ExportTraceServiceRequest::decode(bytes.as_slice()).ok()
}

fn read(text: &[u8]) -> ExportTraceServiceRequest {
    json::request(text).unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(text)))
}

/// There are many doubles that are no number; JSON has one name for all of them.
fn check_same(text: &[u8], request: &ExportTraceServiceRequest) {
    let again = read(text);
    assert_eq!(json::text(&again), json::text(request));
    if !String::from_utf8_lossy(text).contains("NaN") {
        assert_eq!(again.encode_to_vec(), request.encode_to_vec());
    }
}

fn check_theirs(request: &ExportTraceServiceRequest) {
    let text = serde_json::to_string(request).expect("JSON");
    // What is no number they leave out.
    if !text.contains("\"doubleValue\":null") {
        check_same(text.as_bytes(), request);
    }
}

fn damage(rng: &mut Rng, text: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..text.len());
        match rng.u8(..5) {
            0 => text.truncate(at.max(1)),
            1 => drop(text.splice(at..at, *b"null,")),
            2 => drop(text.splice(at..=at, *b"{}")),
            3 => text[at] = b"[]{}\":,0e-.\\x"[rng.usize(..13)],
            _ => text[at] ^= 1 << rng.u8(..8),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn what_is_written_is_read(seed in any::<u64>()) {
        if let Some(request) = random(seed) {
            check_same(&json::text(&request), &request);
            check_theirs(&request);
        }
    }

    #[test]
    fn whatever_is_read_is_a_request(seed in any::<u64>()) {
        let mut text = json::text(&random(seed).unwrap_or_default());
        damage(&mut Rng::with_seed(seed), &mut text);
        if let Ok(bytes) = json::to_protobuf(&text) {
            prop_assert!(Layout::validated(&bytes).is_ok());
        }
    }
}

#[test]
fn all_that_protobuf_nests_json_nests() {
    for levels in 1..60 {
        let request = ExportTraceServiceRequest::decode(message::deep(levels).as_slice());
        if let Ok(request) = request {
            check_same(&json::text(&request), &request);
        }
    }
}
