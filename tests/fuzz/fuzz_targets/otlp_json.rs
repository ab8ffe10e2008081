//! OTLP/JSON: what is taken is a request in protobuf.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracestitch::wire::{json, layout::Layout};

fuzz_target!(|data: &[u8]| {
    if let Ok(protobuf) = json::to_protobuf(data) {
        assert!(Layout::validated(&protobuf).is_ok(), "what we write is valid");
    }
});
