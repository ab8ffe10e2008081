//! The HTTP answers that are no trees.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde_json::json;

use super::request::Refusal;

/// What a refused ask gets.
pub(super) fn refusal(refusal: &Refusal) -> Response {
    match refusal {
        Refusal::Invalid(reasons) => {
            let body = json!({"OPT_STATUS": "INVALID_POST_DATA", "DESCRIPTION": reasons});
            json_response(StatusCode::BAD_REQUEST, body.to_string())
        }
        Refusal::Stumble(text) => failure(text),
    }
}

/// A later query of the service failed.
pub(super) fn partial_result() -> Response {
    let body = json!({
        "OPT_STATUS": "PARTIAL_RESULT",
        "DESCRIPTION": "clickhouse: memory limit",
        "DATA": {},
        "TYPE": "tracing-completion-by-external-app-spans",
    });
    json_response(StatusCode::PARTIAL_CONTENT, body.to_string())
}

/// 200 with something that begins like HTML and like JSON and is neither.
pub(super) fn garbage() -> Response {
    json_response(StatusCode::OK, "<html>{\"OPT_STATUS\": \"SUCC")
}

/// An envelope that never gets to its first span.
pub(super) fn huge(bytes: u64) -> Response {
    const HEAD: &str = r#"{"OPT_STATUS":"SUCCESS","DESCRIPTION":"","DATA":{"tracing":["#;
    static BLANKS: [u8; 65_536] = [b' '; 65_536];
    let head = Bytes::from_static(HEAD.as_bytes());
    let mut left = bytes.saturating_sub(HEAD.len() as u64);
    let blanks = std::iter::from_fn(move || {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(BLANKS.len());
        left -= size as u64;
        (size > 0).then(|| Bytes::from_static(&BLANKS[..size]))
    });
    let chunks = std::iter::once(head).chain(blanks).map(Ok::<_, std::convert::Infallible>);
    json_response(StatusCode::OK, Body::from_stream(tokio_stream::iter(chunks)))
}

/// 500 INTERNAL_SERVER_ERROR: what the service says of its own mistakes.
pub(super) fn failure(text: &str) -> Response {
    failure_with(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// The envelope of a mistake with another status.
pub(super) fn failure_with(status: StatusCode, text: &str) -> Response {
    let body = json!({"OPT_STATUS": "INTERNAL_SERVER_ERROR", "DESCRIPTION": text});
    json_response(status, body.to_string())
}

/// Errors of the web server around the service.
pub(super) fn sanic(status: StatusCode, message: &str) -> Response {
    let description = status.canonical_reason().unwrap_or_default();
    let body = json!({"description": description, "status": status.as_u16(), "message": message});
    json_response(status, body.to_string())
}

/// JSON as the service labels it.
pub(super) fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    response(status, "application/json; charset=utf-8", body)
}

/// Any answer.
pub(super) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
