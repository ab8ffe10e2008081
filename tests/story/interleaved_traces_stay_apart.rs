//! Scenario: many traces, from many senders at once, their spans shuffled over all requests; and tenants that use the
//! same trace ids.
//! Guarantees: an ask holds one whole trace; spans arrive once, under the resource they came with, below spans of their
//! own trace only. Tenants are asked for, woven and sent apart, each with its own headers.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{ResourceSpans, Span},
};
use prost::Message;
use tokio::task::JoinSet;
use tonic::{Code, metadata::MetadataMap};
use tracestitch::demo::deepflow::DeepflowConfig;

use crate::support::{
    self, Setup, World,
    grpc::{Connection, EXPORT, code, framed},
};

const TRACES: u128 = 200;
const SPANS: u64 = 6;
const SENDERS: usize = 8;
const SPANS_PER_REQUEST: usize = 15;
const SERVICES: [&str; 4] = ["web", "cart", "stock", "orders"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interleaved_traces_stay_apart() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let setup = Setup {
        buffer: "idle: 2s",
        // Nobody is too late for an ask here.
        deepflow: "max_wait: 30s, timeout: 10s, deadline: 60s",
        ..Setup::default()
    };
    let world = World::with(deepflow, setup).await;
    let mut sent: Vec<Span> = (1..=TRACES).flat_map(|id| support::spans(id, SPANS)).collect();
    fastrand::Rng::with_seed(3).shuffle(&mut sent);
    let mut senders = JoinSet::new();
    for part in sent.chunks(sent.len().div_ceil(SENDERS)) {
        let (sender, part) = (support::sender(&world.pipeline), part.to_vec());
        senders.spawn(async move {
            for spans in part.chunks(SPANS_PER_REQUEST) {
                sender.send(&by_service(spans)).await.expect("the request is taken");
            }
        });
    }
    senders.join_all().await;
    world.settled(sent.len()).await;

    let asks = world.deepflow.requests();
    let asked: BTreeMap<_, _> = asks.iter().map(|ask| (&ask.trace_id, ask.spans)).collect();
    assert_eq!((asks.len(), asked.len()), (200, 200), "each trace once");
    assert!(asked.values().all(|&spans| spans == 6), "and whole");

    let received = world.backend.traces().resource_spans;
    let mut arrived = Vec::new();
    for resource in &received {
        let spans = resource.scope_spans.iter().flat_map(|scope| &scope.spans);
        for span in spans {
            let is_app = span.name.starts_with("span ");
            assert!(!is_app || service(resource) == service_of(span), "{}", span.name);
            arrived.push(span.clone());
        }
    }
    let traces: HashMap<_, _> =
        arrived.iter().map(|span| (&span.span_id, &span.trace_id)).collect();
    assert_eq!(traces.len(), arrived.len(), "every span once, under an id of its own");
    for span in arrived.iter().filter(|span| !span.parent_span_id.is_empty()) {
        assert_eq!(traces.get(&span.parent_span_id), Some(&&span.trace_id), "{}", span.name);
    }
    let added = support::assert_arrived(&sent, arrived.clone());
    assert!(added.len() >= 200);
    world.end(&[]).await;
}

fn by_service(spans: &[Span]) -> ExportTraceServiceRequest {
    let requests = SERVICES.iter().map(|service| {
        let own = spans.iter().filter(|span| service_of(span) == *service);
        support::request(service, own.cloned().collect())
    });
    let resource_spans = requests.flat_map(|request| request.resource_spans).collect();
    ExportTraceServiceRequest { resource_spans }
}

/// Which service made a span.
fn service_of(span: &Span) -> &'static str {
    SERVICES[usize::from(span.span_id[7]) % SERVICES.len()]
}

fn service(resource: &ResourceSpans) -> &str {
    let attributes = resource.resource.iter().flat_map(|resource| &resource.attributes);
    let mut names = attributes.filter(|attribute| attribute.key == "service.name");
    match names.next().and_then(|name| name.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(name)) => name,
        _ => "",
    }
}

const TENANTS: [Option<&str>; 3] = [Some("blue"), Some("green"), None];

#[tokio::test]
async fn tenants_with_the_same_trace_id_never_mix() {
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let setup = Setup {
        receiver: "include_metadata: [X-Scope-OrgID]",
        buffer: "idle: 1s",
        deepflow: "deadline: 10s, headers: {x-org-id: '${origin:x-scope-orgid}'}",
        exporter: "headers: {x-scope-orgid: '${origin:X-Scope-OrgID}', x-fixed: 'yes'}",
        ..Setup::default()
    };
    let world = World::with(deepflow, setup).await;
    // One trace and its span ids, three times; and each tenant's spans in two requests, turn by turn.
    for number in 1..=2 {
        for tenant in TENANTS {
            let span = Span { name: name(tenant), ..support::span(7, number) };
            let body: Bytes = support::request("shop", vec![span]).encode_to_vec().into();
            let mut headers = MetadataMap::new();
            if let Some(tenant) = tenant {
                headers.insert("x-scope-orgid", tenant.parse().expect("a text"));
            }
            world.sender.send_raw(body, headers).await.expect("the request is taken");
        }
    }
    world.settled(6).await;

    let mut asks: Vec<_> =
        world.deepflow.requests().into_iter().map(|ask| (ask.org_id, ask.spans)).collect();
    asks.sort();
    let tenant = |name: &str| Some(name.to_owned());
    assert_eq!(asks, [(None, 2), (tenant("blue"), 2), (tenant("green"), 2)]);

    let mut seen = Vec::new();
    for received in world.backend.received() {
        let header = |name| received.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("x-fixed"), Some("yes"));
        let tenant = header("x-scope-orgid").map(str::to_owned);
        let request = ExportTraceServiceRequest::decode(received.body.clone()).expect("OTLP");
        let app = support::spans_of(&request).into_iter().filter(|span| span.name.contains("'s"));
        for span in app {
            assert_eq!(span.name, name(tenant.as_deref()));
            seen.push((tenant.clone(), span.span_id));
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6, "each tenant has both of its spans");
    assert_eq!(world.metric("tracestitch_completion_completed_traces_total"), 3);
    world.end(&[]).await;
}

fn name(tenant: Option<&str>) -> String {
    format!("{}'s", tenant.unwrap_or("nobody"))
}

/// Scenario: a gateway sets a tenant's header, and the tenant names another one in the trailers of its call.
/// Guarantees: the header counts.
#[tokio::test]
async fn trailers_change_no_tenant() {
    let setup = Setup {
        receiver: "include_metadata: [x-scope-orgid]",
        exporter: "headers: {x-scope-orgid: '${origin:x-scope-orgid}'}",
        ..Setup::without_deepflow()
    };
    let world = World::start(setup).await;
    let mut connection = Connection::to(&world).await;
    let (response, mut stream) = connection.begin(EXPORT, &[("x-scope-orgid", "blue")]);
    let body = framed(false, &support::trace(1, 2).encode_to_vec());
    stream.send_data(body, false).expect("sent");
    let name = HeaderName::from_static("x-scope-orgid");
    let trailers = HeaderMap::from_iter([(name, HeaderValue::from_static("green"))]);
    stream.send_trailers(trailers).expect("sent");
    assert_eq!(code(response.await.expect("an answer")).await, Code::Ok);
    world.settled(2).await;
    let requests = world.backend.received();
    assert!(!requests.is_empty());
    for request in requests {
        let tenant = request.headers.get("x-scope-orgid").expect("a tenant");
        assert_eq!(tenant, "blue");
    }
    world.end(&[]).await;
}
