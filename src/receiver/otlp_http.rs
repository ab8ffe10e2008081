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
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::watch;
use tonic::Code;

use super::{
    HttpConfig,
    answer::{done, failed, failed_as, written_in},
    coding::Coding,
    door::{Door, DoorError, Turn},
    held::Held,
    passage::Passage,
    reading::{self, STEP_BYTES},
    rest::read_rest,
    stranger::refuse_strangers,
};
use crate::{
    listen::Listener,
    telemetry::catalogue::{RequestOutcome, Transport},
    trace::Signal,
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
        .layer(middleware::from_fn_with_state((Arc::clone(&door), path.into()), readable))
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

/// How a body is written.
#[derive(Debug, Clone, Copy)]
struct Form {
    encoding: Encoding,
    coding: Coding,
}

/// What can't be read is answered before a body is; behind here the request's [`Form`] is known.
async fn readable(
    State((door, traces)): State<(Arc<Door>, Arc<str>)>,
    mut request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let are_traces = request.uri().path() == &*traces;
    let unsupported = |encoding, message| {
        door.metrics(Transport::Http)
            .requests
            .add(RequestOutcome::Malformed as usize, u64::from(are_traces));
        unsupported(encoding, message)
    };
    let headers = request.headers();
    let Some(encoding) = Encoding::of(headers) else {
        let message = "send application/x-protobuf (OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf) or application/json";
        return unsupported(Encoding::Protobuf, message);
    };
    let Some(coding) = Coding::of_http(headers) else {
        let message = "send with one Content-Encoding of gzip, zstd or deflate, or without";
        return unsupported(encoding, message);
    };
    request.extensions_mut().insert(Form { encoding, coding });
    next.run(request).await
}

fn unsupported(encoding: Encoding, message: &str) -> Response {
    let status = RpcStatus::new(Code::InvalidArgument, message);
    failed_as(StatusCode::UNSUPPORTED_MEDIA_TYPE, encoding, &status)
}

async fn export(
    State(door): State<Arc<Door>>,
    Extension(form): Extension<Form>,
    request: Request,
) -> Response {
    match take(&door, form, request).await {
        Ok(answer) => done(form.encoding, answer),
        Err(error) => {
            door.metrics(Transport::Http).requests.add(error.outcome() as usize, 1);
            failed(form.encoding, &error.status())
        }
    }
}

async fn take(door: &Door, form: Form, request: Request) -> Result<Bytes, DoorError> {
    let (head, body) = request.into_parts();
    let origin = door.origin(&head.headers)?;
    let (turn, memory) = door.turn(STEP_BYTES).await?;
    let read = reading::whole(body, form.coding, door.request_bytes_max(), memory.into());
    let (request, held) = read.await?;
    let (request, held, turn) = match form.encoding {
        Encoding::Protobuf => (request, held, turn),
        Encoding::Json => protobuf(request, held, turn).await?,
    };
    let held = (turn, held.into_memory());
    let partial = door.take(Transport::Http, &origin, request, held).await?;
    Ok(partial.response(form.encoding))
}

/// Metrics or logs, passed through.
async fn pass(
    passage: Arc<Passage>,
    signal: Signal,
    form: Option<Extension<Form>>,
    request: Request,
) -> Response {
    // What nobody reads has no form.
    let unread = || Form { encoding: written_in(request.headers()), coding: Coding::Identity };
    let form = form.map_or_else(unread, |Extension(known)| known);
    if !passage.takes(form.encoding) {
        let message = "send application/x-protobuf (OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf): the destination takes nothing else";
        passage.count(signal, 0, Err(&RpcStatus::new(Code::InvalidArgument, message)));
        return unsupported(form.encoding, message);
    }
    let mut bytes = 0;
    let (head, body) = request.into_parts();
    let read = |bytes_max, held| reading::whole(body, form.coding, bytes_max, held);
    let sent = (signal, form.encoding);
    let end = passage.relay(sent, &head.headers, &mut bytes, read).await;
    passage.count(signal, bytes, end.as_ref().map(drop));
    match end {
        Ok(answer) => done(form.encoding, answer),
        Err(status) => failed(form.encoding, &status),
    }
}

/// A larger text would hold up what else its thread has to do.
const SHORT_BYTES: usize = 64 * 1024;

/// JSON as protobuf, which is about half as long and never much longer; both are there for a moment. Who goes away
/// meanwhile ends neither the reading nor what is taken for it: memory and turn are where the work is.
async fn protobuf(
    text: Bytes,
    mut held: Held,
    turn: Turn,
) -> Result<(Bytes, Held, Turn), DoorError> {
    let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if held.bytes().saturating_add(bytes) > held.limit_bytes() {
        return Err(DoorError::TooLarge(held.limit_bytes() / 2));
    }
    held.grow(bytes)?;
    let is_short = text.len() <= SHORT_BYTES;
    let read = move || {
        let request = json::to_protobuf(&text)?;
        held.resize(u64::try_from(request.capacity()).unwrap_or(u64::MAX));
        Ok((request.into(), held, turn))
    };
    if is_short {
        return read();
    }
    // It does not panic, and nobody aborts it.
    tokio::task::spawn_blocking(read).await.map_err(|error| DoorError::Body(error.to_string()))?
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
