//! Signals that are not traces: they come by the same ways, and pass through as they came.

use std::{fmt, future::Future, pin::Pin};

use bytes::Bytes;

use super::Origin;
use crate::wire::{Encoding, status::RpcStatus};

/// What SDKs send to the same endpoint beside traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// ExportMetricsServiceRequest
    Metrics,
    /// ExportLogsServiceRequest
    Logs,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Metrics, Self::Logs];

    /// As metrics and URLs name it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// The method that takes it over gRPC.
    pub const fn grpc_path(self) -> &'static str {
        match self {
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

/// One request of such a signal.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// What it holds.
    pub signal: Signal,
    /// What it is written in.
    pub encoding: Encoding,
    /// Whose it is.
    pub origin: Origin,
    /// As it came, but for compression.
    pub body: Bytes,
}

/// The answer to a parcel, in its encoding, or why there is none.
pub type Relayed<'a> = Pin<Box<dyn Future<Output = Result<Bytes, RpcStatus>> + Send + 'a>>;

/// Passes parcels on to one destination and brings back what it says. Receivers know nothing else of it.
pub trait Relay: Send + Sync + fmt::Debug {
    /// It can pass on what is written in this.
    fn takes(&self, encoding: Encoding) -> bool;

    /// Passes a parcel on, once: its sender is there to try again.
    fn relay(&self, parcel: Parcel) -> Relayed<'_>;
}
