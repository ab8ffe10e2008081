//! Metrics and logs over gRPC, on their way through.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use tonic::{
    Request, Response, Status,
    codec::{CompressionEncoding, EnabledCompressionEncodings},
    server::Grpc,
};

use super::{
    metered::{Memory, STEP_BYTES},
    otlp_grpc::{HttpRequest, HttpResponse, metered, otlp_code},
    passage::Passage,
};
use crate::{
    trace::{Parcel, Signal},
    wire::{Encoding, RawCodec, status::RpcStatus},
};

/// The signal that this path is for.
pub(super) fn signal_at(path: &str) -> Option<Signal> {
    Signal::ALL.into_iter().find(|signal| signal.grpc_path() == path)
}

/// Answers one request.
pub(super) async fn answer(
    passage: Arc<Passage>,
    signal: Signal,
    request: HttpRequest,
) -> HttpResponse {
    let (_turn, held) = match passage.turn(STEP_BYTES).await {
        Ok(turn) => turn,
        Err(status) => {
            passage.count(signal, 0, Err(&status));
            return status.into_tonic().into_http();
        }
    };
    let was_read = Arc::new(AtomicBool::new(false));
    let through =
        Through { passage: Arc::clone(&passage), signal, was_read: Arc::clone(&was_read) };
    let mut known = EnabledCompressionEncodings::default();
    known.enable(CompressionEncoding::Gzip);
    known.enable(CompressionEncoding::Zstd);
    let mut grpc = Grpc::new(RawCodec)
        .apply_compression_config(known, EnabledCompressionEncodings::default())
        .apply_max_message_size_config(Some(passage.request_bytes_max()), None);
    let service = tower::service_fn(move |request: Request<Bytes>| through.clone().pass(request));
    let response = grpc.unary(service, metered(request, Memory::new(held))).await;
    if was_read.load(Relaxed) {
        // The destination's answer: its codes are its own.
        return response;
    }
    refused_by_codec(&passage, signal, response)
}

/// What tonic could not read.
fn refused_by_codec(passage: &Passage, signal: Signal, mut response: HttpResponse) -> HttpResponse {
    if let Some(code) = otlp_code(&mut response) {
        passage.count(signal, 0, Err(&RpcStatus::new(code, "")));
    }
    response
}

#[derive(Clone)]
struct Through {
    passage: Arc<Passage>,
    signal: Signal,
    was_read: Arc<AtomicBool>,
}

impl Through {
    async fn pass(self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.was_read.store(true, Relaxed);
        let bytes = request.get_ref().len();
        let end = self.relayed(request).await;
        self.passage.count(self.signal, bytes, end.as_ref().map(drop));
        end.map(Response::new).map_err(RpcStatus::into_tonic)
    }

    async fn relayed(&self, request: Request<Bytes>) -> Result<Bytes, RpcStatus> {
        let door = self.passage.door();
        let origin = door.origin(request.metadata().as_ref()).map_err(|error| error.status())?;
        let held = request.extensions().get::<Memory>().and_then(Memory::take);
        let held = held.ok_or_else(|| RpcStatus::new(tonic::Code::Internal, "no memory"))?;
        let parcel = Parcel {
            signal: self.signal,
            encoding: Encoding::Protobuf,
            origin,
            body: request.into_inner(),
        };
        self.passage.pass(parcel, held).await
    }
}
