//! OTLP/gRPC.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::Code;
use tracestitch::wire::{Encoding, PartialSuccess};

use super::{
    Case, Ended, Instead, Target, case, fail,
    grpc_client::{Answer, EXPORT, framed},
    http_client::{compressed, full_success},
    must,
    traces::{self, PartlyBad},
};

const INVALID_IDS: &str = "trace.proto: an id of zeroes or another length is invalid; Partial Success: rejected_spans MUST be the number, error_message SHOULD say why";

pub(super) const CASES: &[Case] = &[
    case!(
        grpc_answer_is_grpc,
        "gRPC over HTTP/2: Content-Type application/grpc, one message, trailers with grpc-status"
    ),
    case!(
        grpc_full_success_leaves_partial_success_unset,
        "OTLP/gRPC Response, Full Success: the server MUST leave the partial_success field unset"
    ),
    case!(
        grpc_spans_that_were_taken_are_delivered,
        "OTLP/gRPC Response, Full Success: telemetry data is successfully accepted by the server"
    ),
    case!(
        grpc_empty_request_succeeds,
        "OTLP/gRPC Response, Full Success: to an empty request the server SHOULD respond with success"
    ),
    case!(
        grpc_empty_envelopes_succeed,
        "Empty Telemetry Envelopes: receivers MAY ignore them; nothing is said of refusing them"
    ),
    case!(grpc_gzip_is_taken, "Protocol Details: all server components MUST support gzip"),
    case!(grpc_zstd_is_taken, "gRPC Compression: other encodings are optional"),
    case!(
        grpc_unknown_compression_is_unimplemented,
        "gRPC Compression: an encoding that is not supported is UNIMPLEMENTED, and grpc-accept-encoding says what is"
    ),
    case!(
        grpc_garbage_instead_of_gzip_is_not_retryable,
        "OTLP/gRPC Response, Failures: bad data is a non-retryable error"
    ),
    case!(
        grpc_malformed_protobuf_is_invalid_argument,
        "OTLP/gRPC Response, Failures: for non-retryable errors the server is recommended to use InvalidArgument"
    ),
    case!(
        grpc_invalid_utf8_is_not_retryable,
        "proto3: strings are UTF-8; OTLP/gRPC Response, Failures: bad data is a non-retryable error"
    ),
    case!(
        grpc_cut_message_is_not_retryable,
        "gRPC over HTTP/2: a message has the length that is announced; OTLP/gRPC Response, Failures"
    ),
    case!(
        grpc_oversized_message_is_resource_exhausted_without_retry_info,
        "OTLP/gRPC Request: over the limit MUST be RESOURCE_EXHAUSTED as a non-retryable error, which is one without RetryInfo"
    ),
    case!(
        grpc_bomb_is_resource_exhausted_without_retry_info,
        "OTLP/gRPC Request: the limit MUST be enforced including after decompression"
    ),
    case!(
        grpc_unknown_fields_are_tolerated,
        "Future Versions and Interoperability: old and new MUST interoperate, unknown fields are ignored"
    ),
    case!(grpc_span_with_zero_ids_is_rejected_by_partial_success, INVALID_IDS),
    case!(grpc_span_with_odd_ids_is_rejected_by_partial_success, INVALID_IDS),
    case!(
        grpc_spans_beside_rejected_ones_are_taken,
        "OTLP/gRPC Response, Partial Success: the server accepts parts of the data and rejects the rest"
    ),
    case!(
        grpc_answer_is_at_most_4_mib,
        "OTLP/gRPC Response: the server MUST limit the response, 4 MiB are RECOMMENDED"
    ),
    case!(
        grpc_unknown_service_is_unimplemented,
        "gRPC status codes: UNIMPLEMENTED, the operation is not implemented or not supported"
    ),
    case!(
        grpc_unknown_method_is_unimplemented,
        "gRPC status codes: UNIMPLEMENTED, the operation is not implemented or not supported"
    ),
    case!(
        grpc_other_content_type_is_415,
        "gRPC over HTTP/2: servers SHOULD answer 415 to a Content-Type that does not begin with application/grpc"
    ),
    case!(
        grpc_deadline_and_unknown_metadata_are_tolerated,
        "gRPC over HTTP/2: grpc-timeout and custom metadata, text and binary"
    ),
    case!(
        grpc_many_concurrent_calls_on_one_connection,
        "OTLP/gRPC Concurrent Requests: concurrent unary calls SHOULD be supported"
    ),
    case!(
        grpc_keepalive_pings_every_10_s_are_tolerated,
        "gRPC keepalive: the Collector's clients ping every 10 s; a connection must live through it"
    ),
];

async fn grpc_answer_is_grpc(target: &Target) -> Ended {
    let answer = target.grpc().await?.export(traces::small("type")).await?;
    answer.message_of_success()?;
    let content_type = answer.header("content-type");
    must(content_type.starts_with("application/grpc"), || format!("Content-Type {content_type:?}"))
}

async fn grpc_full_success_leaves_partial_success_unset(target: &Target) -> Ended {
    let answer = target.grpc().await?.export(traces::small("full success")).await?;
    full_success(&answer.message_of_success()?)
}

async fn grpc_spans_that_were_taken_are_delivered(target: &Target) -> Ended {
    let span = traces::span("taken");
    taken(&target.grpc().await?.export(traces::encoded(vec![span.clone()])).await?)?;
    target.delivers(&span).await
}

async fn grpc_empty_request_succeeds(target: &Target) -> Ended {
    taken(&target.grpc().await?.export(Bytes::new()).await?)
}

async fn grpc_empty_envelopes_succeed(target: &Target) -> Ended {
    let empty = vec![ResourceSpans::default(); 3];
    let mut request = traces::request(Vec::new());
    request.resource_spans.extend(empty);
    taken(&target.grpc().await?.export(request.encode_to_vec().into()).await?)
}

async fn grpc_gzip_is_taken(target: &Target) -> Ended {
    let span = traces::span("gzip");
    taken(&compressing(target, "gzip", &traces::encoded(vec![span.clone()])).await?)?;
    target.delivers(&span).await
}

async fn grpc_zstd_is_taken(target: &Target) -> Ended {
    let answer = compressing(target, "zstd", &traces::small("zstd")).await?;
    offered(&answer)?;
    taken(&answer)
}

async fn grpc_unknown_compression_is_unimplemented(target: &Target) -> Ended {
    let body = framed(true, b"whatever it is");
    let answer = target.grpc().await?.call(EXPORT, &[("grpc-encoding", "br")], body).await?;
    must(answer.code == Code::Unimplemented, || answer.to_string())?;
    let names = answer.header("grpc-accept-encoding");
    must(names.contains("gzip"), || format!("UNIMPLEMENTED with grpc-accept-encoding {names:?}"))
}

async fn grpc_garbage_instead_of_gzip_is_not_retryable(target: &Target) -> Ended {
    let body = framed(true, b"this was never compressed");
    let answer = target.grpc().await?.call(EXPORT, &[("grpc-encoding", "gzip")], body).await?;
    refused_for_good(&answer)
}

async fn grpc_malformed_protobuf_is_invalid_argument(target: &Target) -> Ended {
    let answer = target.grpc().await?.export(Bytes::from_static(b"\x0a\xff\xff\xff\x7f")).await?;
    must(answer.code == Code::InvalidArgument, || answer.to_string())
}

async fn grpc_invalid_utf8_is_not_retryable(target: &Target) -> Ended {
    let mut request = traces::small("the end of this name is no UTF-8").to_vec();
    let at = request.windows(5).position(|text| text == b"UTF-8").unwrap_or_default();
    request[at..at + 5].copy_from_slice(b"\xc3\x28\xa0\xa1\xff");
    refused_for_good(&target.grpc().await?.export(request.into()).await?)
}

async fn grpc_cut_message_is_not_retryable(target: &Target) -> Ended {
    let message = framed(false, &traces::small("cut"));
    let cut = message.slice(..message.len() - 10);
    refused_for_good(&target.grpc().await?.call(EXPORT, &[], cut).await?)
}

async fn grpc_oversized_message_is_resource_exhausted_without_retry_info(target: &Target) -> Ended {
    let large = traces::larger_than(target.grpc_bytes_max);
    too_large(&target.grpc().await?.export(large).await?)
}

async fn grpc_bomb_is_resource_exhausted_without_retry_info(target: &Target) -> Ended {
    let large = traces::larger_than(target.grpc_bytes_max);
    too_large(&compressing(target, "gzip", &large).await?)
}

async fn grpc_unknown_fields_are_tolerated(target: &Target) -> Ended {
    let span = traces::span("unknown fields");
    let mut request = traces::encoded(vec![span.clone()]).to_vec();
    // A text with number 1000 and a fixed64 with 2000, as a newer release may have.
    request.extend(b"\xc2\x3e\x05later\x81\x7d\x01\x02\x03\x04\x05\x06\x07\x08");
    taken(&target.grpc().await?.export(request.into()).await?)?;
    target.delivers(&span).await
}

async fn grpc_span_with_zero_ids_is_rejected_by_partial_success(target: &Target) -> Ended {
    rejects(target, traces::with_zero_ids()).await
}

async fn grpc_span_with_odd_ids_is_rejected_by_partial_success(target: &Target) -> Ended {
    rejects(target, traces::with_odd_ids()).await
}

async fn grpc_spans_beside_rejected_ones_are_taken(target: &Target) -> Ended {
    let PartlyBad { good, spans, .. } = traces::with_zero_ids();
    taken(&target.grpc().await?.export(traces::encoded(spans)).await?)?;
    target.delivers(&good).await
}

async fn grpc_answer_is_at_most_4_mib(target: &Target) -> Ended {
    let spans = (0..5_000).flat_map(|_| traces::with_zero_ids().spans).collect();
    let answer = target.grpc().await?.export(traces::encoded(spans)).await?;
    must(answer.body.len() <= 4 << 20, || format!("{} bytes", answer.body.len()))
}

async fn grpc_unknown_service_is_unimplemented(target: &Target) -> Ended {
    unimplemented(target, "/opentelemetry.proto.collector.dreams.v1.DreamsService/Export").await
}

async fn grpc_unknown_method_is_unimplemented(target: &Target) -> Ended {
    unimplemented(target, "/opentelemetry.proto.collector.trace.v1.TraceService/Import").await
}

async fn grpc_other_content_type_is_415(target: &Target) -> Ended {
    let headers = [("content-type", "application/x-protobuf")];
    let body = framed(false, &traces::small("no gRPC"));
    let response = target.grpc().await?.ask(EXPORT, &headers, body).await?;
    must(response.status() == 415, || format!("HTTP {}", response.status()))
}

async fn grpc_deadline_and_unknown_metadata_are_tolerated(target: &Target) -> Ended {
    let headers = [
        ("grpc-timeout", "20S"),
        ("user-agent", "OTel-OTLP-Exporter-Conformance/1"),
        ("x-unknown", "a text"),
        ("x-unknown-bin", "AAEC/w"),
    ];
    let body = framed(false, &traces::small("metadata"));
    taken(&target.grpc().await?.call(EXPORT, &headers, body).await?)
}

async fn grpc_many_concurrent_calls_on_one_connection(target: &Target) -> Ended {
    let grpc = Arc::new(target.grpc().await?);
    // How many may be open is known after the first answer; the others wait for it in the client.
    taken(&grpc.export(traces::small("first")).await?)?;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let grpc = Arc::clone(&grpc);
        calls.spawn(async move { grpc.export(traces::small("at the same time")).await });
    }
    for answer in calls.join_all().await {
        taken(&answer?)?;
    }
    Ok(())
}

/// With a request after each, so that the connection is shown to live.
pub(super) const PINGS: u32 = 3;

async fn grpc_keepalive_pings_every_10_s_are_tolerated(target: &Target) -> Ended {
    let mut grpc = target.grpc().await?;
    for _ in 0..PINGS {
        tokio::time::sleep(target.between_pings).await;
        grpc.ping().await?;
        taken(&grpc.export(traces::small("after a ping")).await?)?;
    }
    Ok(())
}

async fn compressing(target: &Target, encoding: &str, request: &[u8]) -> Result<Answer, Instead> {
    let body = framed(true, &compressed(encoding, request)?);
    target.grpc().await?.call(EXPORT, &[("grpc-encoding", encoding)], body).await
}

async fn unimplemented(target: &Target, path: &str) -> Ended {
    let answer = target.grpc().await?.call(path, &[], framed(false, b"")).await?;
    must(answer.code == Code::Unimplemented, || answer.to_string())
}

fn taken(answer: &Answer) -> Ended {
    answer.message_of_success().map(drop)
}

fn offered(answer: &Answer) -> Ended {
    match answer.code {
        Code::Unimplemented => Err(Instead::NotOffered("UNIMPLEMENTED".to_owned())),
        _ => Ok(()),
    }
}

/// The codes that OTLP's clients don't send again for.
fn refused_for_good(answer: &Answer) -> Ended {
    use Code::{
        Aborted, Cancelled, DataLoss, DeadlineExceeded, Ok, OutOfRange, ResourceExhausted,
        Unavailable,
    };
    let is_retried = match answer.code {
        Ok => return fail("OK"),
        Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss => true,
        ResourceExhausted => answer.details.retry_delay().is_some(),
        _ => false,
    };
    must(!is_retried, || format!("{answer}, which is retryable"))
}

fn too_large(answer: &Answer) -> Ended {
    must(answer.code == Code::ResourceExhausted, || answer.to_string())?;
    refused_for_good(answer)
}

async fn rejects(target: &Target, sent: PartlyBad) -> Ended {
    let answer = target.grpc().await?.export(traces::encoded(sent.spans)).await?;
    let response = answer.message_of_success()?;
    rejected(&PartialSuccess::of_response(Encoding::Protobuf, &response), sent.bad)
}

/// What must be said of so many.
pub(super) fn rejected(partial: &PartialSuccess, bad: u64) -> Ended {
    must(partial.rejected_spans == bad, || {
        format!("rejected_spans {} of {bad} bad ones", partial.rejected_spans)
    })?;
    must(!partial.message.is_empty(), || "no error_message".to_owned())
}
