//! Series of what listens.

use metrics::{Counter, Gauge};

use super::declare::{Declare, Family, Labels};

/// See [`Metrics::connections`](super::Metrics::connections).
#[derive(Debug)]
pub struct ConnectionsMetrics {
    listeners: [ConnectionMetrics; 3],
}

impl ConnectionsMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>) -> Self {
        let listeners = Listening::ALL.map(|of| ConnectionMetrics::declare(declare, of.label()));
        Self { listeners }
    }

    /// The series of one listener.
    pub fn of(&self, of: Listening) -> &ConnectionMetrics {
        let [grpc, http, admin] = &self.listeners;
        match of {
            Listening::Grpc => grpc,
            Listening::Http => http,
            Listening::Admin => admin,
        }
    }
}

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// The OTLP/gRPC receiver.
    Grpc,
    /// The OTLP/HTTP receiver.
    Http,
    /// The admin pages.
    Admin,
}

impl Listening {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Grpc, Self::Http, Self::Admin];

    /// As metrics name it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Admin => "admin",
        }
    }
}

/// Series of one listener.
#[derive(Debug)]
pub struct ConnectionMetrics {
    /// Open now.
    pub open: Gauge,
    max: Gauge,
    /// By [`Accepted`].
    pub accepted: Family<Counter>,
    /// By [`Closed`].
    pub closed: Family<Counter>,
}

impl ConnectionMetrics {
    fn declare(declare: &mut Declare<'_>, listener: &'static str) -> Self {
        let labels: Labels<'_> = &[("listener", listener)];
        Self {
            open: declare.gauge("tracestitch_connections", labels, "Open connections."),
            max: declare.gauge(
                "tracestitch_connections_max",
                labels,
                "Connections that may be open: max_connections; 0 while nobody listens.",
            ),
            accepted: declare.counters(
                "tracestitch_connections_accepted_total",
                labels,
                "outcome",
                &Accepted::LABELS,
                "Connections that came, by whether they were let in: ok, handshake_failed (TLS: no certificate we trust, no common version, too slow), refused (max_connections are open and all at work).",
            ),
            closed: declare.counters(
                "tracestitch_connections_closed_total",
                labels,
                "reason",
                &Closed::LABELS,
                "Connections closed by us, by why: slow (a request's head took too long), idle, age (max_connection_age), made_room (max_connections were open and one more came).",
            ),
        }
    }

    /// So many may be open.
    pub fn show_max(&self, connections: usize) {
        self.max.set(u32::try_from(connections).unwrap_or(u32::MAX));
    }
}

/// Whether a connection was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It was.
    Ok,
    /// Its TLS handshake failed.
    HandshakeFailed,
    /// There was no room, and nobody who could go.
    Refused,
}

impl Accepted {
    const LABELS: [&str; 3] = ["ok", "handshake_failed", "refused"];
}

/// Why a connection was closed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The head of a request did not come in time.
    Slow,
    /// No request came in time.
    Idle,
    /// It was old enough.
    Age,
    /// Others needed its place.
    MadeRoom,
}

impl Closed {
    const LABELS: [&str; 4] = ["slow", "idle", "age", "made_room"];
}
