//! Who plays: the services, where they run, and what their SDKs say of them.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};

use crate::demo::deepflow::{Process, Side};

const POD_CLIENT: [&str; 3] = ["c-p", "c", "c-nd"];
const POD_SERVER: [&str; 3] = ["s-nd", "s", "s-p"];

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Service {
    /// `service.name`, and DeepFlow's name as well.
    pub name: &'static str,
    /// `telemetry.sdk.language`; empty when it has no SDK.
    language: &'static str,
    version: &'static str,
    agent_id: u64,
    instance_id: u64,
    process_id: u64,
}

pub(super) const INGRESS: Service = service("ingress-nginx", "", 3, 34, 3404);
pub(super) const SHOP_WEB: Service = service("shop-web", "java", 1, 11, 1101);
pub(super) const CART: Service = service("cart", "go", 2, 22, 2202);
pub(super) const LEGACY_PRICING: Service = service("legacy-pricing", "", 3, 33, 3303);
pub(super) const STOCK: Service = service("stock", "python", 2, 23, 2303);
/// In the pod of [`PAYMENT`].
pub(super) const ENVOY: Service = service("envoy", "", 1, 12, 1299);
pub(super) const PAYMENT: Service = service("payment", "nodejs", 1, 12, 1202);
pub(super) const ORDERS: Service = service("orders", "dotnet", 3, 35, 3505);
pub(super) const REDIS: Service = service("redis", "", 2, 26, 2606);
pub(super) const MYSQL: Service = service("mysql", "", 2, 25, 2505);

/// All that send spans.
const INSTRUMENTED: [Service; 5] = [SHOP_WEB, CART, STOCK, PAYMENT, ORDERS];

const fn service(
    name: &'static str,
    language: &'static str,
    agent_id: u64,
    instance_id: u64,
    process_id: u64,
) -> Service {
    Service { name, language, version: "1.4.2", agent_id, instance_id, process_id }
}

impl Service {
    /// As the caller of a call, seen in the process, the pod and the node.
    pub(super) fn calls(self, syscall_ids: [u64; 2]) -> Side {
        self.side(&POD_CLIENT, syscall_ids)
    }

    /// As the called one, seen at the node, the pod and the process.
    pub(super) fn answers(self, syscall_ids: [u64; 2]) -> Side {
        self.side(&POD_SERVER, syscall_ids)
    }

    /// On the loopback of a pod: no packets, only processes.
    pub(super) fn side(self, points: &[&'static str], syscall_ids: [u64; 2]) -> Side {
        Side {
            points: points.to_vec(),
            agent_id: self.agent_id,
            instance_id: self.instance_id,
            service: self.name.to_owned(),
            process: Process {
                id: self.process_id,
                name: self.name.to_owned(),
                group: String::new(),
                ip: format!("10.0.{}.{}", self.agent_id, self.instance_id),
                subnet: "default".to_owned(),
            },
            syscall_ids,
        }
    }

    fn resource(self) -> Resource {
        let attributes = vec![
            text("service.name", self.name),
            text("service.version", self.version),
            text("telemetry.sdk.name", "opentelemetry"),
            text("telemetry.sdk.language", self.language),
            text("telemetry.sdk.version", "1.40.0"),
            text("host.name", &format!("{}-{:x}", self.name, 0x5f3c_0000 + self.instance_id)),
            number("process.pid", self.process_id),
        ];
        Resource { attributes, ..Resource::default() }
    }
}

/// What the SDKs send, service by service; spans leave in the order they ended.
pub(super) fn requests(mut spans: Vec<(Service, Span)>) -> Vec<ExportTraceServiceRequest> {
    spans.sort_by_key(|(_, span)| span.end_time_unix_nano);
    INSTRUMENTED.iter().map(|service| request(*service, &spans)).collect()
}

/// An attribute of text.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// An attribute of a number.
pub(super) fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn request(service: Service, spans: &[(Service, Span)]) -> ExportTraceServiceRequest {
    let own = spans.iter().filter(|(sender, _)| *sender == service).map(|(_, span)| span.clone());
    let scope = InstrumentationScope {
        name: format!("shop.{}", service.language),
        version: "0.9.0".to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = ScopeSpans {
        scope: Some(scope),
        spans: own.collect(),
        schema_url: "https://opentelemetry.io/schemas/1.30.0".to_owned(),
    };
    let resource_spans = ResourceSpans {
        resource: Some(service.resource()),
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}
