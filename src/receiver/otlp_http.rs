//! OTLP/HTTP with protobuf (OTLP 1.11, "OTLP/HTTP"). JSON is answered with 415.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use prost::Message;
use tokio::sync::watch;
use tonic::Code;
use tower_http::decompression::RequestDecompressionLayer;

use super::{
    door::{Door, DoorError},
    metered::{Pace, STEP_BYTES},
    stranger::refuse_strangers,
};
use crate::{
    clock,
    listen::Listener,
    memory::Reservation,
    telemetry::catalogue::Transport,
    trace::{Refused, TOO_SLOW},
    wire::status::RpcStatus,
};

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Serves until closing, then finishes the requests under way.
pub(super) async fn serve(listener: Listener, door: Arc<Door>, closing: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/v1/traces", post(export))
        // Unknown encodings come through to `export`, which answers in OTLP's form.
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&door), refuse_strangers))
        .with_state(door);
    listener.serve(router, Body::new, closing).await;
}

async fn export(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(refusal) = unsupported(&parts.headers) {
        return refusal;
    }
    match take(&door, &parts.headers, body).await {
        Ok(answer) => ([(header::CONTENT_TYPE, PROTOBUF)], answer).into_response(),
        Err(error) => {
            door.metrics(Transport::Http).requests.add(error.outcome() as usize, 1);
            failure(&error)
        }
    }
}

async fn take(door: &Door, headers: &HeaderMap, body: Body) -> Result<Bytes, DoorError> {
    let origin = door.origin(headers)?;
    let (_turn, mut memory) = door.turn(STEP_BYTES).await?;
    let request = read(door, body, &mut memory).await?;
    door.take(Transport::Http, &origin, request, memory).await
}

/// Reads a body, taking memory for each part of it before going on.
async fn read(door: &Door, mut body: Body, memory: &mut Reservation) -> Result<Bytes, DoorError> {
    let mut request = BytesMut::new();
    let pace = Pace::new(clock::now());
    loop {
        let read_bytes = u64::try_from(request.len()).unwrap_or(u64::MAX);
        let late = pace.late(clock::now(), read_bytes);
        let Ok(frame) = tokio::time::timeout_at(late, body.frame()).await else {
            return Err(TOO_SLOW.into());
        };
        let Some(frame) = frame else { return Ok(request.freeze()) };
        // A sender that went away, or garbage in place of gzip or zstd.
        let frame = frame.map_err(|_| crate::wire::Malformed::Truncated)?;
        let Ok(data) = frame.into_data() else { continue };
        if request.len() + data.len() > door.request_bytes_max() {
            return Err(DoorError::TooLarge(
                u64::try_from(door.request_bytes_max()).unwrap_or(u64::MAX),
            ));
        }
        request.extend_from_slice(&data);
        let needed = u64::try_from(request.capacity()).unwrap_or(u64::MAX);
        if needed > memory.bytes() {
            let more = needed - memory.bytes();
            memory.grow(more).map_err(Refused::from)?;
        }
    }
}

/// What this receiver can't read, answered before a body is read.
fn unsupported(headers: &HeaderMap) -> Option<Response> {
    let unsupported = |message: &str| {
        Some(answer(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &RpcStatus::new(Code::InvalidArgument, message),
        ))
    };
    let media_type =
        headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media_type = media_type.split(|&byte| byte == b';').next().unwrap_or_default();
    if !media_type.trim_ascii().eq_ignore_ascii_case(PROTOBUF.as_bytes()) {
        return unsupported(
            "send application/x-protobuf (OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf); OTLP/JSON is not served yet",
        );
    }
    // The layer takes the header away from what it decompresses.
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return unsupported("send with Content-Encoding gzip, zstd or none");
    }
    None
}

fn failure(error: &DoorError) -> Response {
    let message = error.to_string();
    match error {
        DoorError::Refused(refused) => {
            let delay = refused.retry_after;
            let status = RpcStatus::new(Code::Unavailable, &message).retry_after(delay);
            let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, &status);
            response.headers_mut().insert(
                header::RETRY_AFTER,
                HeaderValue::from(delay.as_secs() + u64::from(delay.subsec_nanos() > 0)),
            );
            response
        }
        DoorError::Malformed(_) | DoorError::Header(_) => {
            answer(StatusCode::BAD_REQUEST, &RpcStatus::new(Code::InvalidArgument, &message))
        }
        DoorError::TooLarge(_) => answer(
            StatusCode::PAYLOAD_TOO_LARGE,
            &RpcStatus::new(Code::ResourceExhausted, &message),
        ),
    }
}

async fn unknown_path() -> Response {
    let message = "only traces are taken here, at /v1/traces";
    answer(StatusCode::NOT_FOUND, &RpcStatus::new(Code::Unimplemented, message))
}

async fn wrong_method() -> Response {
    let message = "use POST";
    answer(StatusCode::METHOD_NOT_ALLOWED, &RpcStatus::new(Code::InvalidArgument, message))
}

/// Every 4xx and 5xx carries a `google.rpc.Status`.
fn answer(code: StatusCode, status: &RpcStatus) -> Response {
    (code, [(header::CONTENT_TYPE, PROTOBUF)], status.encode_to_vec()).into_response()
}
