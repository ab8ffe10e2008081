//! OTLP/HTTP in protobuf and JSON (OTLP 1.11, "OTLP/HTTP").

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::post,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tonic::Code;
use tower_http::decompression::RequestDecompressionLayer;

use super::{
    HttpConfig,
    answer::{done, failed, failed_as, written_in},
    door::{Door, DoorError},
    held::Held,
    metered::{Pace, STEP_BYTES},
    passage::Passage,
    rest::read_rest,
    stranger::refuse_strangers,
};
use crate::{
    clock,
    listen::Listener,
    telemetry::catalogue::Transport,
    trace::{Parcel, Signal, TOO_SLOW},
    wire::{Encoding, json, status::RpcStatus},
};

/// Serves until closing, then finishes the requests under way.
pub(super) async fn serve(listener: Listener, router: Router, closing: watch::Receiver<bool>) {
    listener.serve(router, Body::new, closing).await;
}

/// What is taken, and where.
pub(super) fn router(config: &HttpConfig, passage: &Arc<Passage>) -> Router {
    let door = Arc::clone(passage.door());
    let path = config.traces_url_path.as_str();
    let unknown_path = format!("traces are taken here at {path}");
    let signal = |signal: Signal| {
        let passage = Arc::clone(passage);
        post(move |extension, request| pass(passage, signal, extension, request))
    };
    let signals = Router::new()
        .route(config.metrics_url_path.as_str(), signal(Signal::Metrics))
        .route(config.logs_url_path.as_str(), signal(Signal::Logs));
    // What nobody reads need not be readable.
    let (read, unread) =
        if passage.is_open() { (signals, Router::new()) } else { (Router::new(), signals) };
    let router = Router::new()
        .route(path, post(export))
        .merge(read)
        .layer(RequestDecompressionLayer::new())
        // In front of the former, for it takes Content-Encoding away.
        .layer(middleware::from_fn(readable))
        .merge(unread)
        .fallback(move |headers: HeaderMap| async move { unknown(&headers, &unknown_path) })
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&door), refuse_strangers))
        .layer(middleware::from_fn_with_state(door.request_bytes_max(), read_rest))
        .with_state(door);
    match &config.cors {
        // Around all: browsers ask without a body, and must be allowed to read refusals.
        Some(cors) => router.layer(cors.layer()),
        None => router,
    }
}

/// What can't be read is answered before a body is; behind here the request's [`Encoding`] is known.
async fn readable(mut request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let headers = request.headers_mut();
    let Some(encoding) = Encoding::of(headers) else {
        let message = "send application/x-protobuf (OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf) or application/json";
        return unsupported(Encoding::Protobuf, message);
    };
    let Some(known) = content_encoding(headers) else {
        let message = "send with one Content-Encoding of gzip, zstd or deflate, or without";
        return unsupported(encoding, message);
    };
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(known));
    request.extensions_mut().insert(encoding);
    next.run(request).await
}

/// The one coding of a body, by the name that is registered for it.
fn content_encoding(headers: &HeaderMap) -> Option<&'static str> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let value = values.next().map(HeaderValue::as_bytes).unwrap_or_default().trim_ascii();
    if values.next().is_some() {
        return None;
    }
    match value.to_ascii_lowercase().as_slice() {
        b"" | b"identity" => Some("identity"),
        b"gzip" | b"x-gzip" => Some("gzip"),
        b"zstd" => Some("zstd"),
        b"deflate" => Some("deflate"),
        _ => None,
    }
}

fn unsupported(encoding: Encoding, message: &str) -> Response {
    let status = RpcStatus::new(Code::InvalidArgument, message);
    failed_as(StatusCode::UNSUPPORTED_MEDIA_TYPE, encoding, &status)
}

async fn export(
    State(door): State<Arc<Door>>,
    Extension(encoding): Extension<Encoding>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    match take(&door, &parts.headers, encoding, body).await {
        Ok(answer) => done(encoding, answer),
        Err(error) => {
            door.metrics(Transport::Http).requests.add(error.outcome() as usize, 1);
            failed(encoding, &error.status())
        }
    }
}

async fn take(
    door: &Door,
    headers: &HeaderMap,
    encoding: Encoding,
    body: Body,
) -> Result<Bytes, DoorError> {
    let origin = door.origin(headers)?;
    let (_turn, memory) = door.turn(STEP_BYTES).await?;
    let mut held = Held::from(memory);
    let request = read(body, door.request_bytes_max(), &mut held).await?;
    let request = match encoding {
        Encoding::Protobuf => request,
        Encoding::Json => protobuf(request, &mut held).await?,
    };
    let partial = door.take(Transport::Http, &origin, request, held.into_memory()).await?;
    Ok(partial.response(encoding))
}

/// Metrics or logs, passed through.
async fn pass(
    passage: Arc<Passage>,
    signal: Signal,
    encoding: Option<Extension<Encoding>>,
    request: Request,
) -> Response {
    let encoding = encoding.map_or_else(|| written_in(request.headers()), |Extension(known)| known);
    if !passage.takes(encoding) {
        let message = "send application/x-protobuf (OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf): the destination takes nothing else";
        passage.count(signal, 0, Err(&RpcStatus::new(Code::InvalidArgument, message)));
        return unsupported(encoding, message);
    }
    let mut bytes = 0;
    let end = relayed(&passage, signal, encoding, request, &mut bytes).await;
    passage.count(signal, bytes, end.as_ref().map(drop));
    match end {
        Ok(answer) => done(encoding, answer),
        Err(status) => failed(encoding, &status),
    }
}

async fn relayed(
    passage: &Passage,
    signal: Signal,
    encoding: Encoding,
    request: Request,
    bytes: &mut usize,
) -> Result<Bytes, RpcStatus> {
    let (_turn, mut held) = passage.turn(STEP_BYTES).await?;
    let (parts, body) = request.into_parts();
    let door = passage.door();
    let told = |error: DoorError| error.status();
    let origin = door.origin(&parts.headers).map_err(told)?;
    let body = read(body, passage.request_bytes_max(), &mut held).await.map_err(told)?;
    *bytes = body.len();
    passage.pass(Parcel { signal, encoding, origin, body }, held).await
}

/// Reads a body, taking memory for each part of it before going on.
async fn read(mut body: Body, bytes_max: usize, held: &mut Held) -> Result<Bytes, DoorError> {
    let mut request = BytesMut::new();
    let pace = Pace::new(clock::now());
    loop {
        let read_bytes = u64::try_from(request.len()).unwrap_or(u64::MAX);
        let late = pace.late(clock::now(), read_bytes);
        let Ok(frame) = tokio::time::timeout_at(late, body.frame()).await else {
            return Err(TOO_SLOW.into());
        };
        let Some(frame) = frame else { return Ok(request.freeze()) };
        // A sender that went away, or garbage in place of gzip and its like.
        let frame = frame.map_err(|error| DoorError::Body(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        if request.len() + data.len() > bytes_max {
            return Err(DoorError::TooLarge(u64::try_from(bytes_max).unwrap_or(u64::MAX)));
        }
        request.extend_from_slice(&data);
        let needed = u64::try_from(request.capacity()).unwrap_or(u64::MAX);
        if needed > held.bytes() {
            held.grow(needed - held.bytes())?;
        }
    }
}

/// A larger text would hold up what else its thread has to do.
const SHORT_BYTES: usize = 64 * 1024;

/// JSON as protobuf, which is about half as long and never much longer; both are there for a moment.
async fn protobuf(text: Bytes, held: &mut Held) -> Result<Bytes, DoorError> {
    held.grow(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
    let request = if text.len() <= SHORT_BYTES {
        json::to_protobuf(&text)?
    } else {
        let read = tokio::task::spawn_blocking(move || json::to_protobuf(&text));
        // It does not panic, and nobody aborts it.
        read.await.map_err(|error| DoorError::Body(error.to_string()))??
    };
    held.resize(u64::try_from(request.capacity()).unwrap_or(u64::MAX));
    Ok(request.into())
}

fn unknown(headers: &HeaderMap, message: &str) -> Response {
    failed(written_in(headers), &RpcStatus::new(Code::Unimplemented, message))
}

async fn wrong_method(headers: HeaderMap) -> Response {
    let status = RpcStatus::new(Code::InvalidArgument, "use POST");
    let encoding = written_in(&headers);
    let mut response = failed_as(StatusCode::METHOD_NOT_ALLOWED, encoding, &status);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}
