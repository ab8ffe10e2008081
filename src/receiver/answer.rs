//! Answers over HTTP, in the form of the request (OTLP 1.11, "OTLP/HTTP Response").

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::wire::{Encoding, status::RpcStatus};

/// What was asked for is done.
pub(super) fn done(encoding: Encoding, body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, encoding.content_type())], body).into_response()
}

/// It is not; with when to try again, if that may help.
pub(super) fn failed(encoding: Encoding, status: &RpcStatus) -> Response {
    failed_as(status.http_code(), encoding, status)
}

/// The same where HTTP has a code of its own. Every 4xx and 5xx carries a `google.rpc.Status`.
pub(super) fn failed_as(code: StatusCode, encoding: Encoding, status: &RpcStatus) -> Response {
    let content_type = [(header::CONTENT_TYPE, encoding.content_type())];
    let mut response = (code, content_type, status.body(encoding)).into_response();
    if let Some(delay) = status.retry_delay() {
        // In whole seconds.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A request may have no body, and so no type.
pub(super) fn written_in(headers: &HeaderMap) -> Encoding {
    Encoding::of(headers).unwrap_or(Encoding::Protobuf)
}
