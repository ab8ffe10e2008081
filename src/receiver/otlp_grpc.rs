//! OTLP/gRPC over raw bytes (OTLP 1.11, "OTLP/gRPC").

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, StatusCode, Version,
    header::{self, HeaderMap},
};
use tokio::sync::watch;
use tonic::{
    Status,
    codec::{EncodeBody, SingleMessageCompressionOverride},
    metadata::GRPC_CONTENT_TYPE,
    service::Routes,
};
use tower::Service;

use super::{
    coding::{Coding, GRPC_CODINGS},
    door::{Door, DoorError},
    passage::Passage,
    reading::{self, STEP_BYTES},
    services::{self, Health, Services},
    signals::{self, signal_at},
    stranger::NO_TOKEN,
};
use crate::{
    listen::Listener,
    telemetry::catalogue::{RequestOutcome, Transport},
    wire::{Encoding, RawCodec},
};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const NO_GRPC: &str = "this port speaks OTLP/gRPC; OTLP/HTTP is at another one, usually 4318\n";

/// Serves until closing, then finishes the requests under way.
pub(super) async fn serve(
    listener: Listener,
    passage: Arc<Passage>,
    services: Services,
    closing: watch::Receiver<bool>,
) {
    let (health, routes) = services.routes().await;
    let serve =
        listener.serve(behind(passage, routes.prepare()), tonic::body::Body::new, closing.clone());
    tokio::join!(serve, tell_of_end(health, closing));
}

/// As soon as it begins: who asks until the last request is answered is not to send another one.
async fn tell_of_end(health: Health, mut closing: watch::Receiver<bool>) {
    if closing.wait_for(|&closing| closing).await.is_ok() {
        health.ends().await;
    }
}

pub(super) type HttpRequest = http::Request<tonic::body::Body>;
pub(super) type HttpResponse = http::Response<tonic::body::Body>;

/// OTLP's calls are read here, so that memory is taken before they are unpacked, and all of them is; other services have
/// tonic for that.
fn behind(
    passage: Arc<Passage>,
    routes: Routes,
) -> impl Service<HttpRequest, Response = HttpResponse, Error = Infallible, Future: Send> + Clone + Send
{
    tower::service_fn(move |request: HttpRequest| {
        let (passage, routes) = (Arc::clone(&passage), routes.clone());
        async move {
            let door = passage.door();
            let requests = &door.metrics(Transport::Grpc).requests;
            let path = request.uri().path();
            if request.version() < Version::HTTP_2 || !is_grpc(request.headers()) {
                requests.add(RequestOutcome::Malformed as usize, 1);
                return Ok(no_grpc());
            }
            if services::are_open(path) {
                return services::answer(routes, request).await;
            }
            if !door.admits(request.headers()) {
                requests.add(RequestOutcome::Unauthenticated as usize, 1);
                return Ok(Status::unauthenticated(NO_TOKEN).into_http());
            }
            if path == EXPORT {
                return Ok(export(door, request).await);
            }
            match signal_at(path) {
                Some(signal) => Ok(signals::answer(Arc::clone(&passage), signal, request).await),
                None => services::answer(routes, request).await,
            }
        }
    })
}

async fn export(door: &Door, request: HttpRequest) -> HttpResponse {
    let Some(coding) = Coding::of_grpc(request.headers()) else {
        door.metrics(Transport::Grpc).requests.add(RequestOutcome::Malformed as usize, 1);
        return unknown_coding();
    };
    match take(door, coding, request).await {
        Ok(answer) => done(answer),
        Err(error) => {
            door.metrics(Transport::Grpc).requests.add(error.outcome() as usize, 1);
            error.status().into_tonic().into_http()
        }
    }
}

async fn take(door: &Door, coding: Coding, request: HttpRequest) -> Result<Bytes, DoorError> {
    let (head, body) = request.into_parts();
    let origin = door.origin(&head.headers)?;
    let (turn, memory) = door.turn(STEP_BYTES).await?;
    let read = reading::message(body, coding, door.request_bytes_max(), memory.into());
    let (request, held) = read.await?;
    let held = (turn, held.into_memory());
    let partial = door.take(Transport::Grpc, &origin, request, held).await?;
    Ok(partial.response(Encoding::Protobuf))
}

/// A call's one message.
pub(super) fn done(answer: Bytes) -> HttpResponse {
    let answer = tokio_stream::once(Ok(answer));
    let compressed = SingleMessageCompressionOverride::default();
    let body = EncodeBody::new_server(RawCodec, answer, None, compressed, None);
    let mut response = HttpResponse::new(tonic::body::Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

/// "gRPC over HTTP/2", Compression: with what is known instead.
pub(super) fn unknown_coding() -> HttpResponse {
    let message = format!("send with one grpc-encoding of {GRPC_CODINGS}, or without");
    let mut response = Status::unimplemented(message).into_http();
    let known = HeaderValue::from_static(GRPC_CODINGS);
    response.headers_mut().insert("grpc-accept-encoding", known);
    response
}

/// gRPC over HTTP/2, "Requests".
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|text| text.starts_with(b"application/grpc"))
}

/// In HTTP's words, for who does not speak gRPC. Mostly OTLP/HTTP at the wrong port.
fn no_grpc() -> HttpResponse {
    let mut response = HttpResponse::new(tonic::body::Body::new(NO_GRPC.to_owned()));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
