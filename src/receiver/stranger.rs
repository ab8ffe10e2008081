//! Who sends to OTLP/HTTP without a token that is known here: refused before anything of the body is read.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prost::Message;
use tonic::Code;

use super::door::Door;
use crate::{
    auth,
    telemetry::catalogue::{RequestOutcome, Transport},
    wire::status::RpcStatus,
};

/// For both protocols.
pub(super) const NO_TOKEN: &str =
    "no token, or one that is not known here: send `authorization: Bearer TOKEN`";

/// Lets those in who may.
pub(super) async fn refuse_strangers(
    State(door): State<Arc<Door>>,
    request: Request,
    next: Next,
) -> Response {
    if door.admits(request.headers()) {
        return next.run(request).await;
    }
    door.metrics(Transport::Http).requests.add(RequestOutcome::Unauthenticated as usize, 1);
    refusal(request.headers())
}

/// A `google.rpc.Status` in the form of the request.
fn refusal(headers: &HeaderMap) -> Response {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_json = media_type
        .is_some_and(|media_type| media_type.to_ascii_lowercase().starts_with(b"application/json"));
    let (media_type, body) = if is_json {
        let status =
            serde_json::json!({ "code": Code::Unauthenticated as i32, "message": NO_TOKEN });
        ("application/json", status.to_string().into_bytes())
    } else {
        let status = RpcStatus::new(Code::Unauthenticated, NO_TOKEN);
        ("application/x-protobuf", status.encode_to_vec())
    };
    let mut response = (StatusCode::UNAUTHORIZED, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::WWW_AUTHENTICATE, auth::CHALLENGE);
    response
}
