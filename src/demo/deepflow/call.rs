//! [`Call`]: one request of one service to another, and the rows that agents make of it.

use super::{Process, Row, Signal};
use crate::trace::Exchange;

/// Each point sees a request this much later than the one before, and its response this much earlier.
const HOP_US: i64 = 20;
const POD: u64 = 10;
const SERVICE: u64 = 102;

/// One request, told once; [`Call::rows`] tells it as each observer saw it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Call {
    /// Trace id in the header; empty when there was none.
    pub trace_id: String,
    /// Span id in the header, i.e. the caller's.
    pub span_id: String,
    /// Who called, and where agents saw it there.
    pub client: Option<Side>,
    /// Who was called, and where agents saw it there.
    pub server: Option<Side>,
    /// Application protocol by number and name.
    pub protocol: (u16, &'static str),
    /// GET, COM_QUERY, A, …
    pub request_type: String,
    /// Path, SQL, command, name …
    pub request_resource: String,
    /// Path without query, or the full gRPC method.
    pub endpoint: String,
    /// Number of the stream or of the DNS question.
    pub request_id: Option<u64>,
    /// How the response ended, by number.
    pub response_status: u8,
    /// The protocol's own code.
    pub response_code: Option<i64>,
    /// Text of an error.
    pub response_exception: String,
    /// `X-Request-ID` of request and response.
    pub x_request_ids: [String; 2],
    /// TCP sequence numbers of request and response; 0 for UDP.
    pub tcp_seqs: [u64; 2],
    /// Number of the first row; the others count up from it.
    pub first_row: u32,
    /// When the first observer saw the request.
    pub start_us: i64,
    /// When the first observer saw the response; `None` when none came.
    pub end_us: Option<i64>,
}

/// One end of a call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Side {
    /// Observation points in the order the request passes them.
    pub points: Vec<&'static str>,
    /// The agent on this host.
    pub agent_id: u64,
    /// The pod.
    pub instance_id: u64,
    /// The service's name.
    pub service: String,
    /// The process in the pod.
    pub process: Process,
    /// Thread-of-system-call ids of request and response in this process.
    pub syscall_ids: [u64; 2],
}

impl Call {
    /// What the agents wrote, from the client's process to the server's.
    pub fn rows(&self) -> Vec<Row> {
        let seen = |side: &'_ Option<Side>| {
            let side = side.clone().unwrap_or_default();
            let points = side.points.clone();
            points.into_iter().map(move |point| (point, side.clone())).collect::<Vec<_>>()
        };
        let passed = seen(&self.client).into_iter().chain(seen(&self.server));
        (0..).zip(passed).map(|(place, (point, side))| self.row(place, point, &side)).collect()
    }

    /// The `_id` of the row at this place; DeepFlow puts the second of the end into the upper half.
    pub fn row_id(&self, place: u32) -> u64 {
        let end_s = self.end_us.unwrap_or(self.start_us).div_euclid(1_000_000);
        (end_s.unsigned_abs() << 32) | u64::from(self.first_row.wrapping_add(place))
    }

    fn row(&self, place: u32, point: &'static str, side: &Side) -> Row {
        let start_us = self.start_us + i64::from(place) * HOP_US;
        let end_us = self.end_us.map_or(start_us, |end_us| end_us - i64::from(place) * HOP_US);
        let is_process = matches!(point, "c-p" | "s-p");
        Row {
            id: self.row_id(place),
            signal: if is_process { Signal::Ebpf } else { Signal::Packet },
            exchange: if self.end_us.is_some() { Exchange::Session } else { Exchange::Request },
            start_us,
            end_us: end_us.max(start_us),
            point: point.into(),
            protocol: self.protocol.0,
            protocol_name: self.protocol.1.into(),
            endpoint: self.endpoint.clone(),
            request_type: self.request_type.clone(),
            request_resource: self.request_resource.clone(),
            response_status: self.response_status,
            response_exception: self.response_exception.clone(),
            response_code: self.response_code,
            flow_id: 7_000_000_000_000 + u64::from(self.first_row.wrapping_add(place)),
            request_id: self.request_id,
            x_request_ids: self.x_request_ids.clone(),
            trace_id: self.trace_id.clone(),
            span_id: self.span_id.clone(),
            tcp_seqs: self.tcp_seqs,
            syscall_ids: if is_process { side.syscall_ids } else { [0, 0] },
            agent_id: side.agent_id,
            process: is_process.then(|| side.process.clone()),
            instance_id: side.instance_id,
            instance_type: POD,
            service: side.service.clone(),
            service_id: side.instance_id + 500,
            service_type: SERVICE,
            ..Row::default()
        }
    }
}
