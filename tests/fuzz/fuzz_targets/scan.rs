//! A request's bytes: the scan takes and refuses what prost does, and what it cuts out is what prost would have read.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tracestitch::trace::split;

fn spans(request: &ExportTraceServiceRequest) -> usize {
    let resources = request.resource_spans.iter();
    resources.flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len()).sum()
}

fuzz_target!(|data: &[u8]| {
    let ours = split(Bytes::copy_from_slice(data));
    let theirs = ExportTraceServiceRequest::decode(data);
    assert_eq!(ours.is_ok(), theirs.is_ok());
    let (Ok(split), Ok(request)) = (ours, theirs) else { return };
    let mut fragments = 0;
    for (_, fragment) in &split.fragments {
        let bytes = fragment.bytes.to_bytes();
        let read = ExportTraceServiceRequest::decode(bytes).expect("what is cut out is a request");
        assert_eq!(spans(&read), fragment.span_refs().len());
        fragments += spans(&read);
    }
    assert_eq!(fragments as u64 + split.rejected.spans(), spans(&request) as u64);
});
