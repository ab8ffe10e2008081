//! Metrics and logs over gRPC, on their way through.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    coding::Coding,
    door::DoorError,
    otlp_grpc::{HttpRequest, HttpResponse, done, unknown_coding},
    passage::Passage,
    reading::{self, STEP_BYTES},
};
use crate::{
    trace::{Parcel, Signal},
    wire::{Encoding, status::RpcStatus},
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
    let Some(coding) = Coding::of_grpc(request.headers()) else { return unknown_coding() };
    let mut bytes = 0;
    let end = relayed(&passage, signal, coding, request, &mut bytes).await;
    passage.count(signal, bytes, end.as_ref().map(drop));
    end.map_or_else(|status| status.into_tonic().into_http(), done)
}

async fn relayed(
    passage: &Passage,
    signal: Signal,
    coding: Coding,
    request: HttpRequest,
    bytes: &mut usize,
) -> Result<Bytes, RpcStatus> {
    let (_turn, held) = passage.turn(STEP_BYTES).await?;
    let (head, body) = request.into_parts();
    let told = |error: DoorError| error.status();
    let origin = passage.door().origin(&head.headers).map_err(told)?;
    let read = reading::message(body, coding, passage.request_bytes_max(), held);
    let (body, held) = read.await.map_err(told)?;
    *bytes = body.len();
    let parcel = Parcel { signal, encoding: Encoding::Protobuf, origin, body };
    passage.pass(parcel, held).await
}
