//! Metrics and logs on their way through to a destination: sent once, as they came.

use bytes::Bytes;
use tonic::{Code, Status};

use super::{otlp_grpc::OtlpGrpc, otlp_http::OtlpHttp};
use crate::{
    trace::{Parcel, Relay, Relayed},
    wire::{Encoding, PartialSuccess, status::RpcStatus},
};

impl Relay for OtlpGrpc {
    /// gRPC knows nothing else.
    fn takes(&self, encoding: Encoding) -> bool {
        encoding == Encoding::Protobuf
    }

    fn relay(&self, parcel: Parcel) -> Relayed<'_> {
        Box::pin(async move {
            let Parcel { signal, origin, body, .. } = parcel;
            match self.send(signal.grpc_path(), &origin, [body.into()].into()).await {
                Some(answer) => answer.map_err(|status| of_grpc(&status)),
                None => Err(late()),
            }
        })
    }
}

/// A status with a source is our own transport's: the connection broke, or there is none.
fn of_grpc(status: &Status) -> RpcStatus {
    match std::error::Error::source(status) {
        Some(_) => RpcStatus::new(Code::Unavailable, "the destination can't be reached"),
        None => RpcStatus::of_tonic(status),
    }
}

fn late() -> RpcStatus {
    RpcStatus::new(Code::DeadlineExceeded, "the destination did not answer in time")
}

impl Relay for OtlpHttp {
    fn takes(&self, _: Encoding) -> bool {
        true
    }

    fn relay(&self, parcel: Parcel) -> Relayed<'_> {
        Box::pin(async move {
            let Parcel { signal, encoding, origin, body } = parcel;
            let answer = self.pass(signal, encoding, &origin, body).await.map_err(|why| {
                tracing::debug!(why, signal = signal.label(), "cannot pass on now");
                RpcStatus::new(Code::Unavailable, "the destination can't be reached")
            })?;
            if !answer.code.is_success() {
                let (message, delay) = (answer.message(), answer.retry_after);
                return Err(RpcStatus::of_http(answer.code, &message, delay));
            }
            if answer.encoding == encoding {
                return Ok(Bytes::from(answer.body));
            }
            // It speaks another language than it was spoken to: all that is sure is that it took the request.
            Ok(PartialSuccess::default().response(encoding))
        })
    }
}
