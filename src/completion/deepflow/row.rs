//! One row of an answer as DeepFlow writes it, and the found span it stands for (DeepFlow contract, section 3).

use serde::Deserialize;

use super::lenient::{List, Scalar};
use crate::trace::{Exchange, FoundParent, FoundSpan, ObservationPoint, ResponseStatus, SpanId};

/// `signal_source` of spans that came to DeepFlow by OTLP, or were posted by us.
const OTEL: u64 = 4;
/// `signal_source` of eBPF rows.
const EBPF: u64 = 3;

/// One item of `DATA.tracing`. Fields that nobody reads are not here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Row<'a> {
    #[serde(borrow, rename = "_ids")]
    ids: List<Scalar<'a>, RowIds>,
    #[serde(borrow, rename = "_querier_region")]
    region: Scalar<'a>,
    #[serde(borrow)]
    deepflow_span_id: Scalar<'a>,
    #[serde(borrow)]
    deepflow_parent_span_id: Scalar<'a>,
    #[serde(borrow)]
    signal_source: Scalar<'a>,
    #[serde(borrow)]
    tap_side: Scalar<'a>,
    #[serde(borrow, rename = "type")]
    exchange: Scalar<'a>,
    #[serde(borrow)]
    start_time_us: Scalar<'a>,
    #[serde(borrow)]
    end_time_us: Scalar<'a>,
    #[serde(borrow)]
    span_id: Scalar<'a>,
    #[serde(borrow)]
    x_request_id_0: Scalar<'a>,
    #[serde(borrow)]
    x_request_id_1: Scalar<'a>,
    #[serde(borrow)]
    req_tcp_seq: Scalar<'a>,
    #[serde(borrow)]
    resp_tcp_seq: Scalar<'a>,
    #[serde(borrow)]
    syscall_trace_id_request: Scalar<'a>,
    #[serde(borrow)]
    syscall_trace_id_response: Scalar<'a>,
    #[serde(borrow)]
    vtap_id: Scalar<'a>,
    #[serde(borrow)]
    flow_id: Scalar<'a>,
    #[serde(borrow)]
    l7_protocol: Scalar<'a>,
    #[serde(borrow)]
    l7_protocol_str: Scalar<'a>,
    #[serde(borrow)]
    request_type: Scalar<'a>,
    #[serde(borrow)]
    request_resource: Scalar<'a>,
    #[serde(borrow)]
    endpoint: Scalar<'a>,
    #[serde(borrow)]
    request_id: Scalar<'a>,
    #[serde(borrow)]
    response_status: Scalar<'a>,
    #[serde(borrow)]
    response_code: Scalar<'a>,
    #[serde(borrow)]
    response_exception: Scalar<'a>,
    #[serde(borrow)]
    process_id: Scalar<'a>,
    #[serde(borrow)]
    process_kname: Scalar<'a>,
    #[serde(borrow)]
    ip: Scalar<'a>,
    #[serde(borrow)]
    auto_service: Scalar<'a>,
    #[serde(borrow)]
    auto_service_type: Scalar<'a>,
    #[serde(borrow)]
    auto_instance_id: Scalar<'a>,
    #[serde(borrow)]
    gprocess: Scalar<'a>,
    #[serde(borrow)]
    subnet: Scalar<'a>,
    #[serde(borrow)]
    tap: Scalar<'a>,
    #[serde(borrow)]
    is_tls: Scalar<'a>,
    #[serde(borrow)]
    is_async: Scalar<'a>,
}

/// The ids of a row and of those merged into it.
#[derive(Debug, Default)]
struct RowIds(Vec<Option<u64>>);

impl RowIds {
    /// Rows are merged by twos and threes.
    const MAX: usize = 100;

    fn first(&self) -> Option<u64> {
        self.0.first().copied().flatten()
    }

    fn merged(&self) -> Vec<u64> {
        self.0.iter().skip(1).copied().flatten().collect()
    }
}

impl<'a> Extend<Scalar<'a>> for RowIds {
    fn extend<I: IntoIterator<Item = Scalar<'a>>>(&mut self, ids: I) {
        let room = Self::MAX - self.0.len();
        self.0.extend(ids.into_iter().take(room).map(|id| id.number().filter(|&id| id != 0)));
    }
}

impl Row<'_> {
    /// An application span: one that was posted, or DeepFlow's own copy of one.
    /// v6.3 has no `signal_source`; its observation point tells as well.
    pub(super) fn is_app(&self) -> bool {
        let point = self.tap_side.text();
        self.signal_source.number() == Some(OTEL) || matches!(&*point, "app" | "c-app" | "s-app")
    }

    /// What other rows of the same answer call this one.
    pub(super) fn name(&self) -> String {
        self.deepflow_span_id.text().into_owned()
    }

    /// What the row that this one hangs below is called; empty for a root.
    pub(super) fn parent_name(&self) -> String {
        self.deepflow_parent_span_id.text().into_owned()
    }

    /// The span id, if it is one in OTLP's sense.
    pub(super) fn span_id(&self) -> Option<SpanId> {
        self.span_id.text().parse().ok()
    }

    /// The found span; its parent and clock correction are told by the rest of the answer.
    /// `None` when the row has no id to make a stable span id from.
    pub(super) fn found_span(&self) -> Option<FoundSpan> {
        let row = self.ids.0.first()?;
        let point_name = self.tap_side.text().into_owned();
        let [start_us, end_us] = self.times_us();
        Some(FoundSpan {
            row,
            merged_rows: self.ids.0.merged(),
            region: self.region.text().into_owned(),
            point: point(&point_name),
            is_ebpf: self.is_ebpf(),
            point_name,
            exchange: self.exchange(),
            start_us,
            end_us,
            clock_correction_us: 0,
            parent: FoundParent::Root,
            span_id: self.span_id(),
            foreign_span_id: self.foreign_span_id(),
            x_request_ids: [&self.x_request_id_0, &self.x_request_id_1]
                .map(|id| id.text().into_owned()),
            tcp_seqs: [&self.req_tcp_seq, &self.resp_tcp_seq].map(Scalar::number_or_zero),
            syscall_ids: [&self.syscall_trace_id_request, &self.syscall_trace_id_response]
                .map(Scalar::number_or_zero),
            agent_id: self.vtap_id.number_or_zero(),
            flow_id: self.flow_id.number_or_zero(),
            protocol: self.l7_protocol.number().unwrap_or(0),
            protocol_name: self.l7_protocol_str.text().into_owned(),
            request_type: self.request_type.text().into_owned(),
            request_resource: self.request_resource.text().into_owned(),
            endpoint: self.endpoint.text().into_owned(),
            request_id: self.request_id.number(),
            status: self.status(),
            response_code: self.response_code.number(),
            response_exception: self.response_exception.text().into_owned(),
            process_id: self.process_id.number_or_zero(),
            process_name: self.process_kname.text().into_owned(),
            ip: self.ip.text().into_owned(),
            service: self.auto_service.text().into_owned(),
            service_type: self.auto_service_type.number_or_zero(),
            instance_id: self.auto_instance_id.number_or_zero(),
            process_group: self.gprocess.text().into_owned(),
            subnet: self.subnet.text().into_owned(),
            capture: self.tap.text().into_owned(),
            is_tls: self.is_tls.number::<u8>().map(|is| is != 0),
            is_async: self.is_async.number::<u8>().map(|is| is != 0),
        })
    }

    /// A row without one of its times takes the other for both, rather than 1970.
    fn times_us(&self) -> [u64; 2] {
        let time = |scalar: &Scalar<'_>| scalar.number::<u64>().filter(|&time| time != 0);
        let start = time(&self.start_time_us);
        let end = time(&self.end_time_us);
        let start_us = start.or(end).unwrap_or(0);
        [start_us, end.unwrap_or(0).max(start_us)]
    }

    fn is_ebpf(&self) -> bool {
        self.signal_source
            .number::<u64>()
            .map_or_else(|| point(&self.tap_side.text()).is_process(), |source| source == EBPF)
    }

    fn exchange(&self) -> Exchange {
        match self.exchange.number::<u64>() {
            Some(0) => Exchange::Request,
            Some(1) => Exchange::Response,
            _ => Exchange::Session,
        }
    }

    /// A header may hold an id of another tracer, or a short one: no OTLP id, but still common to a request's rows.
    fn foreign_span_id(&self) -> String {
        let text = self.span_id.text();
        let is_foreign = self.span_id().is_none() && text.bytes().any(|byte| byte != b'0');
        if is_foreign { text.into_owned() } else { String::new() }
    }

    fn status(&self) -> ResponseStatus {
        match self.response_status.number::<u64>() {
            Some(0) => ResponseStatus::Success,
            Some(1) => ResponseStatus::Error,
            Some(2) => ResponseStatus::Timeout,
            Some(3) => ResponseStatus::ServerError,
            Some(4) => ResponseStatus::ClientError,
            _ => ResponseStatus::Unknown,
        }
    }
}

/// The observation point behind DeepFlow's short name (DeepFlow contract, section 5).
fn point(name: &str) -> ObservationPoint {
    match name {
        "c-p" => ObservationPoint::ClientProcess,
        "c" => ObservationPoint::ClientNic,
        "c-nd" => ObservationPoint::ClientNode,
        "c-hv" => ObservationPoint::ClientHypervisor,
        "c-gw-hv" => ObservationPoint::ClientGatewayHypervisor,
        "c-gw" => ObservationPoint::ClientGateway,
        "s-gw" => ObservationPoint::ServerGateway,
        "s-gw-hv" => ObservationPoint::ServerGatewayHypervisor,
        "s-hv" => ObservationPoint::ServerHypervisor,
        "s-nd" => ObservationPoint::ServerNode,
        "s" => ObservationPoint::ServerNic,
        "s-p" => ObservationPoint::ServerProcess,
        "local" => ObservationPoint::Local,
        _ => ObservationPoint::Rest,
    }
}
