//! OTLP/HTTP, but for what JSON means.

use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;

use super::{
    Case, Ended, Instead, Target, case, fail,
    grpc::rejected,
    grpc_client,
    http_client::{Answer, Http, JSON, PROTOBUF, TRACES, compressed, full_success},
    must,
    traces::{self, PartlyBad},
};

const REQUEST: &str = "OTLP/HTTP Request: the server MUST limit the size of the body, including after decompression; over the limit it MUST respond with 413";
const BAD_DATA: &str = "OTLP/HTTP Response, Bad Data: the server MUST respond with 400";
const FAILURES: &str = "OTLP/HTTP Response, Failures: the body for all 4xx and 5xx MUST be a Status message, its message SHOULD say what is wrong";
const TYPE: &str = "OTLP/HTTP Response: the server MUST use the same Content-Type in the response as in the request";
const PARTIAL: &str = "OTLP/HTTP Response, Partial Success: 200, rejected_spans MUST be the number, error_message SHOULD say why";
const ENCODINGS: &str = "Protocol Details: none and gzip MUST be supported, others need not be; what is not, RFC 9110 answers with 415";

pub(super) const CASES: &[Case] = &[
    case!(
        http_protobuf_full_success_leaves_partial_success_unset,
        "OTLP/HTTP Response, Full Success: 200, the server MUST leave the partial_success field unset"
    ),
    case!(
        http_json_full_success_leaves_partial_success_unset,
        "OTLP/HTTP Response, Full Success: 200, the server MUST leave the partial_success field unset"
    ),
    case!(
        http_protobuf_spans_that_were_taken_are_delivered,
        "OTLP/HTTP Response, Full Success: telemetry data is successfully accepted by the server"
    ),
    case!(
        http_protobuf_empty_request_succeeds,
        "OTLP/HTTP Response, Full Success: to an empty request the server SHOULD respond with success"
    ),
    case!(
        http_json_empty_request_succeeds,
        "OTLP/HTTP Response, Full Success: to an empty request the server SHOULD respond with success"
    ),
    case!(
        http_json_and_protobuf_share_a_connection,
        "OTLP/HTTP Connection: both payloads SHOULD be accepted on the same port, by the Content-Type header"
    ),
    case!(http_gzip_is_taken, ENCODINGS),
    case!(http_deflate_is_taken_or_415, ENCODINGS),
    case!(http_zstd_is_taken_or_415, ENCODINGS),
    case!(http_unknown_encoding_is_415, ENCODINGS),
    case!(
        http_type_with_parameters_is_taken,
        "RFC 9110, Media Type: a type may have parameters and is the same in either case"
    ),
    case!(
        http_chunked_body_is_taken,
        "RFC 9112, Chunked Transfer Coding: a recipient MUST be able to parse it"
    ),
    case!(http_2_is_taken, "OTLP/HTTP: implementations MAY use HTTP/1.1 or HTTP/2"),
    case!(http_answer_has_the_requests_content_type, TYPE),
    case!(http_error_has_the_requests_content_type, TYPE),
    case!(http_protobuf_error_body_is_a_google_rpc_status, FAILURES),
    case!(http_json_error_body_is_a_google_rpc_status, FAILURES),
    case!(http_error_bodies_of_404_405_and_415_are_a_status, FAILURES),
    case!(http_bad_protobuf_is_400, BAD_DATA),
    case!(http_bad_json_is_400, BAD_DATA),
    case!(http_invalid_utf8_is_400, BAD_DATA),
    case!(http_garbage_instead_of_gzip_is_400, BAD_DATA),
    case!(
        http_bad_data_is_described,
        "OTLP/HTTP Response, Bad Data: Status.details SHOULD contain a BadRequest that describes the bad data"
    ),
    case!(http_protobuf_partial_success_has_the_count, PARTIAL),
    case!(http_json_partial_success_has_the_count, PARTIAL),
    case!(http_oversized_is_413, REQUEST),
    case!(http_oversized_json_is_413, REQUEST),
    case!(http_bomb_is_413, REQUEST),
    case!(
        http_unknown_content_type_is_415,
        "OTLP/HTTP Request: protobuf or JSON; RFC 9110: 415 where the format of the content is not supported"
    ),
    case!(
        http_missing_content_type_is_415,
        "JSON and Binary Protobuf Encoding: the client MUST set Content-Type; RFC 9110: 415"
    ),
    case!(
        http_get_is_405,
        "OTLP/HTTP: POST; RFC 9110: 405 where the method is not supported, and the server MUST say in Allow what is"
    ),
    case!(http_unknown_path_is_404, "OTLP/HTTP Request: /v1/traces; RFC 9110: 404"),
    case!(
        http_keepalive_connection_is_reused,
        "OTLP/HTTP Connection: the client SHOULD keep the connection alive between requests"
    ),
    case!(
        http_connection_lives_after_a_refusal,
        "OTLP/HTTP Connection: the client SHOULD keep the connection alive between requests"
    ),
    case!(
        http_many_connections_at_a_time,
        "OTLP/HTTP Concurrent Requests: the client MAY send requests using several parallel connections"
    ),
];

/// No JSON, and no protobuf.
const GARBAGE: &str = "{\"resourceSpans\": [{";
/// An empty request in JSON.
const EMPTY: &str = "{}";
const UNKNOWN: &str = "/v1/dreams";

async fn http_protobuf_full_success_leaves_partial_success_unset(target: &Target) -> Ended {
    let answer = target.http().await?.post(PROTOBUF, traces::small("full success")).await?;
    answer.is_full_success(PROTOBUF)
}

async fn http_json_full_success_leaves_partial_success_unset(target: &Target) -> Ended {
    let request = json_request("full success");
    target.http().await?.post(JSON, request).await?.is_full_success(JSON)
}

async fn http_protobuf_spans_that_were_taken_are_delivered(target: &Target) -> Ended {
    let span = traces::span("taken");
    let request = traces::encoded(vec![span.clone()]);
    target.http().await?.post(PROTOBUF, request).await?.is(200)?;
    target.delivers(&span).await
}

async fn http_protobuf_empty_request_succeeds(target: &Target) -> Ended {
    target.http().await?.post(PROTOBUF, "").await?.is(200)
}

async fn http_json_empty_request_succeeds(target: &Target) -> Ended {
    target.http().await?.post(JSON, EMPTY).await?.is(200)
}

async fn http_json_and_protobuf_share_a_connection(target: &Target) -> Ended {
    let mut http = target.http().await?;
    for _ in 0..2 {
        http.post(PROTOBUF, traces::small("protobuf")).await?.is(200)?;
        http.post(JSON, json_request("JSON")).await?.is(200)?;
    }
    Ok(())
}

async fn http_gzip_is_taken(target: &Target) -> Ended {
    for (content_type, request) in both("gzip") {
        compressing(target, "gzip", content_type, &request).await?.is(200)?;
    }
    Ok(())
}

async fn http_deflate_is_taken_or_415(target: &Target) -> Ended {
    optional(target, "deflate").await
}

async fn http_zstd_is_taken_or_415(target: &Target) -> Ended {
    optional(target, "zstd").await
}

async fn optional(target: &Target, encoding: &str) -> Ended {
    let answer = compressing(target, encoding, PROTOBUF, &traces::small(encoding)).await?;
    match answer.status {
        415 => Err(Instead::NotOffered("415".to_owned())),
        _ => answer.is(200),
    }
}

async fn http_unknown_encoding_is_415(target: &Target) -> Ended {
    let headers = [("content-encoding", "br")];
    target.http().await?.post_with(PROTOBUF, &headers, "whatever it is").await?.is(415)
}

async fn http_type_with_parameters_is_taken(target: &Target) -> Ended {
    let content_type = "Application/JSON; charset=utf-8";
    target.http().await?.post(content_type, EMPTY).await?.is(200)
}

async fn http_chunked_body_is_taken(target: &Target) -> Ended {
    let request = traces::small("in pieces");
    target.http().await?.post_chunked(PROTOBUF, &request).await?.is(200)
}

async fn http_2_is_taken(target: &Target) -> Ended {
    let spoken = over_http2(target.http_address()?).await;
    match spoken {
        Ok((200, body)) => full_success(&body),
        Ok((status, _)) => fail(status.to_string()),
        Err(_) => Err(Instead::NotOffered("no HTTP/2 without TLS".to_owned())),
    }
}

async fn over_http2(address: &str) -> Result<(u16, Bytes), Instead> {
    let http = grpc_client::Grpc::connect(address).await?;
    let headers = [("content-type", PROTOBUF)];
    let mut response = http.ask(TRACES, &headers, traces::small("HTTP/2")).await?;
    let body = grpc_client::body(response.body_mut()).await?;
    Ok((response.status().as_u16(), body))
}

async fn http_answer_has_the_requests_content_type(target: &Target) -> Ended {
    for (content_type, request) in both("type") {
        let answer = target.http().await?.post(content_type, request).await?;
        answer.is(200)?;
        answer.is_in(content_type)?;
    }
    Ok(())
}

async fn http_error_has_the_requests_content_type(target: &Target) -> Ended {
    for content_type in [PROTOBUF, JSON] {
        let answer = target.http().await?.post(content_type, GARBAGE).await?;
        must(answer.status >= 400, || answer.to_string())?;
        answer.is_in(content_type)?;
    }
    Ok(())
}

async fn http_protobuf_error_body_is_a_google_rpc_status(target: &Target) -> Ended {
    target.http().await?.post(PROTOBUF, GARBAGE).await?.status_body(PROTOBUF).map(drop)
}

async fn http_json_error_body_is_a_google_rpc_status(target: &Target) -> Ended {
    target.http().await?.post(JSON, GARBAGE).await?.status_body(JSON).map(drop)
}

async fn http_error_bodies_of_404_405_and_415_are_a_status(target: &Target) -> Ended {
    let types = [("content-type", JSON)];
    let encoded = [("content-type", JSON), ("content-encoding", "br")];
    for (method, path, headers) in [
        (Method::POST, UNKNOWN, types.as_slice()),
        (Method::PUT, TRACES, types.as_slice()),
        (Method::POST, TRACES, encoded.as_slice()),
    ] {
        let answer = target.http().await?.ask(method, path, headers, EMPTY).await?;
        must(answer.status >= 400, || answer.to_string())?;
        answer.status_body(JSON)?;
    }
    Ok(())
}

async fn http_bad_protobuf_is_400(target: &Target) -> Ended {
    target.http().await?.post(PROTOBUF, b"\x0a\xff\xff\xff\x7f".as_slice()).await?.is(400)
}

async fn http_bad_json_is_400(target: &Target) -> Ended {
    target.http().await?.post(JSON, GARBAGE).await?.is(400)
}

async fn http_invalid_utf8_is_400(target: &Target) -> Ended {
    let text = b"{\"resourceSpans\": [{\"schemaUrl\": \"\xc3\x28\"}]}";
    target.http().await?.post(JSON, text.as_slice()).await?.is(400)
}

async fn http_garbage_instead_of_gzip_is_400(target: &Target) -> Ended {
    let headers = [("content-encoding", "gzip")];
    target.http().await?.post_with(PROTOBUF, &headers, "never compressed").await?.is(400)
}

async fn http_bad_data_is_described(target: &Target) -> Ended {
    for content_type in [PROTOBUF, JSON] {
        let answer = target.http().await?.post(content_type, GARBAGE).await?;
        answer.is(400)?;
        let status = answer.status_body(content_type)?;
        let is_described =
            status.details.iter().any(|kind| kind.ends_with("google.rpc.BadRequest"));
        must(is_described, || format!("{answer}, a Status without a BadRequest"))?;
    }
    Ok(())
}

async fn http_protobuf_partial_success_has_the_count(target: &Target) -> Ended {
    let PartlyBad { spans, bad, .. } = traces::with_zero_ids();
    let answer = target.http().await?.post(PROTOBUF, traces::encoded(spans)).await?;
    rejected(&answer.partial_success(PROTOBUF)?, bad)
}

async fn http_json_partial_success_has_the_count(target: &Target) -> Ended {
    let PartlyBad { spans, bad, .. } = traces::with_zero_ids();
    let request = tracestitch::wire::json::text(&traces::request(spans));
    let answer = target.http().await?.post(JSON, request).await?;
    rejected(&answer.partial_success(JSON)?, bad)
}

async fn http_oversized_is_413(target: &Target) -> Ended {
    let large = traces::larger_than(target.http_bytes_max);
    target.http().await?.post(PROTOBUF, large).await?.is(413)
}

async fn http_oversized_json_is_413(target: &Target) -> Ended {
    let large = " ".repeat(target.http_bytes_max) + EMPTY;
    target.http().await?.post(JSON, large).await?.is(413)
}

async fn http_bomb_is_413(target: &Target) -> Ended {
    let large = traces::larger_than(target.http_bytes_max);
    compressing(target, "gzip", PROTOBUF, &large).await?.is(413)
}

async fn http_unknown_content_type_is_415(target: &Target) -> Ended {
    target.http().await?.post("text/plain", EMPTY).await?.is(415)
}

async fn http_missing_content_type_is_415(target: &Target) -> Ended {
    target.http().await?.ask(Method::POST, TRACES, &[], EMPTY).await?.is(415)
}

async fn http_get_is_405(target: &Target) -> Ended {
    let answer = target.http().await?.ask(Method::GET, TRACES, &[], "").await?;
    answer.is(405)?;
    let allow = answer.header("allow");
    must(allow.contains("POST"), || format!("405 with Allow {allow:?}"))
}

async fn http_unknown_path_is_404(target: &Target) -> Ended {
    let headers = [("content-type", PROTOBUF)];
    target.http().await?.ask(Method::POST, UNKNOWN, &headers, "").await?.is(404)
}

async fn http_keepalive_connection_is_reused(target: &Target) -> Ended {
    let mut http = target.http().await?;
    for _ in 0..10 {
        http.post(PROTOBUF, traces::small("again")).await?.is(200)?;
    }
    Ok(())
}

async fn http_connection_lives_after_a_refusal(target: &Target) -> Ended {
    let mut http = target.http().await?;
    http.post(PROTOBUF, GARBAGE).await?.is(400)?;
    http.post(PROTOBUF, traces::small("after a refusal")).await?.is(200)
}

async fn http_many_connections_at_a_time(target: &Target) -> Ended {
    let mut senders = JoinSet::new();
    for _ in 0..50 {
        let mut http: Http = target.http().await?;
        senders.spawn(async move { http.post(PROTOBUF, traces::small("at a time")).await });
    }
    for answer in senders.join_all().await {
        answer?.is(200)?;
    }
    Ok(())
}

fn json_request(name: &str) -> Vec<u8> {
    tracestitch::wire::json::text(&traces::request(vec![traces::span(name)]))
}

/// A request in either form.
fn both(name: &str) -> [(&'static str, Bytes); 2] {
    [(PROTOBUF, traces::small(name)), (JSON, json_request(name).into())]
}

async fn compressing(
    target: &Target,
    encoding: &str,
    content_type: &str,
    request: &[u8],
) -> Result<Answer, Instead> {
    let headers = [("content-encoding", encoding)];
    let body = compressed(encoding, request)?;
    target.http().await?.post_with(content_type, &headers, body).await
}
