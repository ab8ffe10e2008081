//! OTLP/gRPC over raw bytes (OTLP 1.11, "OTLP/gRPC").

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, header::HeaderMap};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, codec::CompressionEncoding, service::Routes};
use tower::{Service, ServiceExt as _};

use super::{
    door::{Door, DoorError, refusal},
    metered::{Memory, MeteredBody, STEP_BYTES},
    passage::Passage,
    signals::{self, signal_at},
    stranger::NO_TOKEN,
};
use crate::{
    listen::Listener,
    telemetry::catalogue::{RequestOutcome, Transport},
    trace::Refused,
    wire::{
        Encoding,
        otlp::trace_service_server::{TraceService, TraceServiceServer},
    },
};

/// Serves until closing, then finishes the requests under way.
pub(super) async fn serve(
    listener: Listener,
    passage: Arc<Passage>,
    closing: watch::Receiver<bool>,
) {
    let door = passage.door();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<TraceServiceServer<Export>>().await;
    let service = TraceServiceServer::new(Export { door: Arc::clone(door) })
        .max_decoding_message_size(door.request_bytes_max())
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    let routes = Routes::new(health_service).add_service(service).prepare();
    listener.serve(behind(passage, routes), tonic::body::Body::new, closing).await;
    health.set_not_serving::<TraceServiceServer<Export>>().await;
}

/// The status that asks to come again later.
pub(super) fn refused(refused: Refused) -> Status {
    refusal(refused).into_tonic()
}

impl From<DoorError> for Status {
    fn from(error: DoorError) -> Self {
        error.status().into_tonic()
    }
}

struct Export {
    door: Arc<Door>,
}

#[tonic::async_trait]
impl TraceService for Export {
    async fn export(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let origin = self.door.origin(request.metadata().as_ref())?;
        let memory = match request.extensions().get::<Memory>().and_then(Memory::take) {
            Some(held) => held.into_memory(),
            None => self.door.reserve(0).map_err(refused)?,
        };
        let answer = self.door.take(Transport::Grpc, &origin, request.into_inner(), memory).await?;
        Ok(Response::new(answer.response(Encoding::Protobuf)))
    }
}

pub(super) type HttpRequest = http::Request<tonic::body::Body>;
pub(super) type HttpResponse = http::Response<tonic::body::Body>;

/// In front of the services: memory before a body is read, and OTLP's codes instead of tonic's behind it.
fn behind(
    passage: Arc<Passage>,
    routes: Routes,
) -> impl Service<HttpRequest, Response = HttpResponse, Error = Infallible, Future: Send> + Clone + Send
{
    tower::service_fn(move |request: HttpRequest| {
        let (passage, routes) = (Arc::clone(&passage), routes.clone());
        async move {
            let door = passage.door();
            if !request.uri().path().starts_with("/opentelemetry.") {
                return routes.oneshot(request).await;
            }
            if !door.admits(request.headers()) {
                let status = Status::unauthenticated(NO_TOKEN);
                return Ok(with_otlp_code(status.into_http(), door));
            }
            if let Some(signal) = signal_at(request.uri().path()) {
                return Ok(signals::answer(Arc::clone(&passage), signal, request).await);
            }
            let response = match door.turn(STEP_BYTES).await {
                Ok((_turn, memory)) => {
                    routes.oneshot(metered(request, Memory::new(memory.into()))).await?
                }
                Err(refusal) => refused(refusal).into_http(),
            };
            Ok(with_otlp_code(response, door))
        }
    })
}

pub(super) fn metered(request: HttpRequest, memory: Memory) -> HttpRequest {
    let (mut parts, body) = request.into_parts();
    let compressed = is_compressed(&parts.headers);
    parts.extensions.insert(memory.clone());
    let body = MeteredBody::new(body, memory, compressed);
    HttpRequest::from_parts(parts, tonic::body::Body::new(body))
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get("grpc-encoding").is_some_and(|encoding| encoding != "identity")
}

/// tonic answers OUT_OF_RANGE to a message over the limit and INTERNAL to one it can't decompress. OTLP calls the first
/// retryable, so that senders would come again for ever.
pub(super) fn otlp_code(response: &mut HttpResponse) -> Option<Code> {
    // Trailers-only: a response with a body was an answer of ours.
    let code = Code::from_bytes(response.headers().get("grpc-status")?.as_bytes());
    let code = match code {
        Code::OutOfRange => Code::ResourceExhausted,
        Code::Internal => Code::InvalidArgument,
        code => code,
    };
    response.headers_mut().insert("grpc-status", HeaderValue::from(code as i32));
    Some(code)
}

fn with_otlp_code(mut response: HttpResponse, door: &Door) -> HttpResponse {
    let Some(code) = otlp_code(&mut response) else { return response };
    let outcome = match code {
        Code::ResourceExhausted => RequestOutcome::TooLarge,
        Code::Unavailable => RequestOutcome::Refused,
        Code::Unauthenticated => RequestOutcome::Unauthenticated,
        // A signal that is not known here.
        Code::Ok | Code::Unimplemented => return response,
        _ => RequestOutcome::Malformed,
    };
    door.metrics(Transport::Grpc).requests.add(outcome as usize, 1);
    response
}
