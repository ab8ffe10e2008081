//! [`Row`]: one line of `l7_flow_log`, i.e. one request as one observer saw it.

use std::borrow::Cow;

use crate::trace::Exchange;

/// Who saw a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signal {
    /// An agent, in packets on an interface.
    #[default]
    Packet,
    /// An agent, by eBPF in a process.
    Ebpf,
    /// The application itself, by OTLP. Posted spans become such rows with an empty region.
    Otel,
}

impl Signal {
    /// DeepFlow's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Packet => 0,
            Self::Ebpf => 3,
            Self::Otel => 4,
        }
    }
}

/// One request, seen at one point. Fields carry DeepFlow's own values; a default is what it writes when it knows nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The row's `_id`.
    pub id: u64,
    /// Who saw it.
    pub signal: Signal,
    /// Which halves were seen.
    pub exchange: Exchange,
    /// Begin in microseconds since 1970, by the clock of the agent.
    pub start_us: i64,
    /// End in microseconds since 1970; equal to the begin when no response was seen.
    pub end_us: i64,
    /// Observation point: `c-p`, `c`, `c-nd`, … `s-app`.
    pub point: Cow<'static, str>,
    /// Application protocol by number (contract section 5).
    pub protocol: u16,
    /// Application protocol in words.
    pub protocol_name: Cow<'static, str>,
    /// Path without query, or the full gRPC method.
    pub endpoint: String,
    /// GET, COM_QUERY, A, …
    pub request_type: String,
    /// Path, SQL, command, name …
    pub request_resource: String,
    /// How the response ended, by number (contract section 5).
    pub response_status: u8,
    /// Text of an error.
    pub response_exception: String,
    /// The protocol's own code.
    pub response_code: Option<i64>,
    /// The TCP or UDP connection.
    pub flow_id: u64,
    /// HTTP/2 stream, DNS id, …
    pub request_id: Option<u64>,
    /// `X-Request-ID` of request and response.
    pub x_request_ids: [String; 2],
    /// Trace id of the header; several are joined with `", "`.
    pub trace_id: String,
    /// Span id of the header, i.e. the caller's.
    pub span_id: String,
    /// Parent span id; only headers of SkyWalking carry one.
    pub parent_span_id: String,
    /// TCP sequence numbers of request and response.
    pub tcp_seqs: [u64; 2],
    /// Thread-of-system-call ids of request and response.
    pub syscall_ids: [u64; 2],
    /// Numbers of the captured system calls.
    pub capture_seqs: [u64; 2],
    /// The agent.
    pub agent_id: u64,
    /// Local process; `None` on packet rows.
    pub process: Option<Process>,
    /// `service.name` of an OTel row.
    pub app_service: String,
    /// `service.instance.id` of an OTel row.
    pub app_instance: String,
    /// Local instance.
    pub instance_id: u64,
    /// Kind of the instance: 10 is a pod.
    pub instance_type: u64,
    /// Local service.
    pub service: String,
    /// Number of the local service.
    pub service_id: u64,
    /// Kind of the service.
    pub service_type: u64,
    /// Number of the capture network.
    pub capture_id: u64,
    /// The capture network.
    pub capture: Cow<'static, str>,
    /// Region of the querier that holds the row; empty on posted spans only.
    pub region: Cow<'static, str>,
    /// Over TLS.
    pub is_tls: bool,
    /// Asynchronous.
    pub is_async: bool,
}

/// What an eBPF row knows of its process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Process id.
    pub id: u64,
    /// Name in the kernel.
    pub name: String,
    /// Process group of DeepFlow.
    pub group: String,
    /// Own address.
    pub ip: String,
    /// Subnet of the address.
    pub subnet: String,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            id: 0,
            signal: Signal::Packet,
            exchange: Exchange::Session,
            start_us: 0,
            end_us: 0,
            point: Cow::Borrowed("rest"),
            protocol: 0,
            protocol_name: Cow::Borrowed(""),
            endpoint: String::new(),
            request_type: String::new(),
            request_resource: String::new(),
            response_status: 0,
            response_exception: String::new(),
            response_code: None,
            flow_id: 0,
            request_id: None,
            x_request_ids: [String::new(), String::new()],
            trace_id: String::new(),
            span_id: String::new(),
            parent_span_id: String::new(),
            tcp_seqs: [0, 0],
            syscall_ids: [0, 0],
            capture_seqs: [0, 0],
            agent_id: 0,
            process: None,
            app_service: String::new(),
            app_instance: String::new(),
            instance_id: 0,
            instance_type: 0,
            service: String::new(),
            service_id: 0,
            service_type: 0,
            capture_id: 3,
            capture: Cow::Borrowed("cloud network"),
            region: Cow::Borrowed("default"),
            is_tls: false,
            is_async: false,
        }
    }
}

impl Row {
    /// The trace ids of the header, one by one.
    pub fn trace_ids(&self) -> impl Iterator<Item = &str> {
        self.trace_id.split(',').map(str::trim).filter(|id| !id.is_empty())
    }

    /// From request to response; 0 when no response was seen.
    pub fn duration_us(&self) -> i64 {
        if self.exchange == Exchange::Request && self.signal != Signal::Otel {
            return 0;
        }
        self.end_us.saturating_sub(self.start_us)
    }

    /// DeepFlow's number for the halves that were seen.
    pub fn exchange_number(&self) -> u8 {
        match self.exchange {
            Exchange::Request => 0,
            Exchange::Response => 1,
            Exchange::Session => 2,
        }
    }

    /// A span that was posted, not one that DeepFlow holds.
    pub fn is_posted(&self) -> bool {
        self.signal == Signal::Otel && self.region.is_empty()
    }
}
