//! What a completion backend saw of a trace: an [`Answer`] of [`FoundSpan`]s, in no backend's words.

use super::{SpanId, Text};

/// What became of asking: never an error, for the trace goes on whatever happened.
#[derive(Debug)]
pub enum Answer {
    /// The backend saw these spans.
    Found(Box<Found>),
    /// The trace goes on as it came, and this is why.
    Skipped(Skip),
}

/// The spans of an answer and the edges that can't be said as a span's parent.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Found {
    /// System and network spans, each once.
    pub spans: Vec<FoundSpan>,
    /// Received spans that the backend itself hung below a found span: (span, index in `spans`).
    pub app_edges: Vec<(SpanId, usize)>,
    /// The backend has more than it returned.
    pub truncated: bool,
    /// Rows of the answer that were left out, for they had no id to make a span id from.
    pub unusable: usize,
}

/// How one ask ended. The label of `tracestitch_completion_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskOutcome {
    /// With system or network spans.
    Found,
    /// With nothing yet.
    NotFound,
    /// With a fault of the server, or none at all.
    Retry,
    /// With a refusal for good.
    Rejected,
}

impl AskOutcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Found, Self::NotFound, Self::Retry, Self::Rejected];

    /// The outcome as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::Retry => "retry",
            Self::Rejected => "rejected",
        }
    }
}

/// Why a trace went on without an answer. The label of `tracestitch_completion_skipped_traces_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Completion is switched off in the configuration.
    Disabled,
    /// Nothing was found, and all re-asks are used up.
    NotFound,
    /// The backend has found nothing for so long that traces no longer wait for it.
    NothingFound,
    /// No slot became free within `max_wait`, the queue or its memory was full, or an earlier part of the trace took all
    /// its time.
    OverCapacity,
    /// The circuit breaker is open.
    BreakerOpen,
    /// The backend failed until the trace's deadline.
    Failed,
    /// The backend refused the request for good.
    Rejected,
    /// No span of the trace could be posted (all outside the time window).
    NothingToPost,
    /// The trace was released early because memory ran short.
    Memory,
    /// The program is shutting down.
    Shutdown,
}

impl Skip {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Disabled,
        Self::NotFound,
        Self::NothingFound,
        Self::OverCapacity,
        Self::BreakerOpen,
        Self::Failed,
        Self::Rejected,
        Self::NothingToPost,
        Self::Memory,
        Self::Shutdown,
    ];

    /// The reason as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NotFound => "not_found",
            Self::NothingFound => "nothing_found",
            Self::OverCapacity => "over_capacity",
            Self::BreakerOpen => "breaker_open",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::NothingToPost => "nothing_to_post",
            Self::Memory => "memory",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Where on its way a request was seen, from the client's process to the server's.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObservationPoint {
    /// Client process (eBPF).
    ClientProcess,
    /// Client network interface.
    ClientNic,
    /// Node of the client.
    ClientNode,
    /// Hypervisor of the client.
    ClientHypervisor,
    /// Client side towards the hypervisor of a gateway.
    ClientGatewayHypervisor,
    /// Client side towards a gateway.
    ClientGateway,
    /// Gateway towards the server side.
    ServerGateway,
    /// Hypervisor of a gateway towards the server.
    ServerGatewayHypervisor,
    /// Hypervisor of the server.
    ServerHypervisor,
    /// Node of the server.
    ServerNode,
    /// Server network interface.
    ServerNic,
    /// Server process (eBPF).
    ServerProcess,
    /// A local interface.
    Local,
    /// Any other interface, and points this version does not know.
    #[default]
    Rest,
}

impl ObservationPoint {
    /// On the client's side of the request. All else counts as the server's side (contract section 6).
    pub fn is_client_side(self) -> bool {
        self <= Self::ClientGateway
    }

    /// Seen in a process (a system span), not on an interface (a network span).
    pub fn is_process(self) -> bool {
        matches!(self, Self::ClientProcess | Self::ServerProcess)
    }

    /// At a gateway: neither the client's host nor the server's.
    pub fn is_gateway(self) -> bool {
        matches!(self, Self::ClientGateway | Self::ServerGateway)
    }
}

/// Which halves of an exchange were seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// A request whose response was not seen.
    Request,
    /// A response whose request was not seen.
    Response,
    /// Both.
    #[default]
    Session,
}

/// How a response ended, as the observer judged it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ResponseStatus {
    /// No error.
    Success,
    /// An error of unknown side.
    Error,
    /// No response in time; in releases before 2025-03 "unknown".
    Timeout,
    /// The server's fault.
    ServerError,
    /// The client's fault.
    ClientError,
    /// Not known, or not understood.
    #[default]
    Unknown,
}

/// What DeepFlow-like observers hung a found span below.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum FoundParent {
    /// Nothing.
    #[default]
    Root,
    /// Another found span, by its index in [`Found::spans`].
    Found(usize),
    /// A received span.
    App(SpanId),
}

/// One request, seen at one point. By default one of which nothing is known.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct FoundSpan {
    /// The id of the row behind this span, stable across asks.
    pub row: u64,
    /// Further rows that were merged into this one.
    pub merged_rows: Vec<u64>,
    /// The region that holds the row; ids may repeat between regions.
    pub region: Text,
    /// Where it was seen.
    pub point: ObservationPoint,
    /// The point's short name, as the observer writes it.
    pub point_name: Text,
    /// Seen by eBPF rather than in packets.
    pub is_ebpf: bool,
    /// Which halves were seen.
    pub exchange: Exchange,
    /// Begin and end in microseconds since 1970, by the clock of the observing agent.
    pub start_us: u64,
    /// See `start_us`; never before it.
    pub end_us: u64,
    /// Microseconds to add to this agent's times, by the backend's estimate.
    pub clock_correction_us: i64,
    /// What the observer hung it below.
    pub parent: FoundParent,
    /// Span id in the request's header, i.e. the caller's; `None` when there was none.
    pub span_id: Option<SpanId>,
    /// The header's span id as text when it is no OTLP id (short ids, other tracers); otherwise empty.
    pub foreign_span_id: Text,
    /// `X-Request-ID` of request and response; empty when absent.
    pub x_request_ids: [Text; 2],
    /// TCP sequence numbers of request and response; 0 = none.
    pub tcp_seqs: [u64; 2],
    /// Thread-of-system-call ids of request and response; 0 = none.
    pub syscall_ids: [u64; 2],
    /// The agent that saw it.
    pub agent_id: u64,
    /// Flow id; 0 = none.
    pub flow_id: u64,
    /// Application protocol by DeepFlow's number (contract section 5); 0 = unknown.
    pub protocol: u16,
    /// Application protocol in words, possibly a custom one.
    pub protocol_name: Text,
    /// GET, COM_QUERY, A, …
    pub request_type: Text,
    /// Path, SQL, command, name …
    pub request_resource: Text,
    /// Path without query, or full gRPC method; empty for databases and DNS.
    pub endpoint: Text,
    /// HTTP/2 stream, DNS id …
    pub request_id: Option<u64>,
    /// How the response ended.
    pub status: ResponseStatus,
    /// The protocol's own code.
    pub response_code: Option<i64>,
    /// Text of the error, if any.
    pub response_exception: Text,
    /// Local process id; 0 = none. Not evidence for weaving (contract section 6).
    pub process_id: u64,
    /// Local process name. Not evidence for weaving.
    pub process_name: Text,
    /// Local address.
    pub ip: Text,
    /// Local service by the observer's naming.
    pub service: Text,
    /// The observer's number for the kind of `service`.
    pub service_type: u64,
    /// Local instance; 0 = none.
    pub instance_id: u64,
    /// Name of the observer's process group.
    pub process_group: Text,
    /// Subnet of `ip`.
    pub subnet: Text,
    /// Capture network.
    pub capture: Text,
    /// Over TLS; `None` when not said.
    pub is_tls: Option<bool>,
    /// Asynchronous; `None` when not said.
    pub is_async: Option<bool>,
}
