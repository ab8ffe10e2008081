//! Metrics and logs over gRPC, on their way through.

use std::sync::Arc;

use super::{
    coding::Coding,
    otlp_grpc::{HttpRequest, HttpResponse, done, unknown_coding},
    passage::Passage,
    reading::{self},
};
use crate::{trace::Signal, wire::Encoding};

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
    let (head, body) = request.into_parts();
    let read = |bytes_max, held| reading::message(body, coding, bytes_max, held);
    let sent = (signal, Encoding::Protobuf);
    let end = passage.relay(sent, &head.headers, &mut bytes, read).await;
    passage.count(signal, bytes, end.as_ref().map(drop));
    end.map_or_else(|status| status.into_tonic().into_http(), done)
}
