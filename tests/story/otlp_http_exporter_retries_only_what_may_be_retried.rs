//! Scenario: a destination of type `otlp_http` in each encoding and compression, which answers with every kind of success
//! and failure, also in part.
//! Guarantees: it gets every trace as it was; what OTLP calls retryable is tried again, not before Retry-After; nothing
//! else is, and what is refused in part is counted once.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tonic::Code;
use tracestitch::{
    clock,
    ledger::DropReason,
    pipeline::Pipeline,
    telemetry::Watched,
    wire::{Encoding, PartialSuccess, json, status::RpcStatus},
};

use crate::support::{
    self, Setup,
    http::{JSON, PROTOBUF},
    http_backend::{Answer, End, HttpBackend, Request},
};

/// A pipeline whose first destination is an HTTP backend.
struct Scene {
    backend: HttpBackend,
    pipeline: Pipeline,
}

impl Scene {
    /// With these keys of the exporter; `{}` in them is the backend's URL.
    async fn start(keys: &str) -> Self {
        let backend = HttpBackend::start().await;
        let keys = keys.replace("{}", &backend.url());
        let retry = "retry_on_failure: {initial_interval: 20ms, max_interval: 50ms}";
        let more = format!("otlp_http/backend: {{{retry}, {keys}}}");
        let setup = Setup { only: more, ..Setup::without_deepflow() };
        let config = setup.config("http://127.0.0.1:9", "http://127.0.0.1:9");
        let pipeline = Pipeline::start(&config).await.expect("a pipeline");
        Self { backend, pipeline }
    }

    fn watched(&self) -> &Watched {
        &self.pipeline.watched
    }

    async fn send(&self, id: u128, spans: u64) -> ExportTraceServiceRequest {
        let request = support::trace(id, spans);
        support::sender(&self.pipeline).send(&request).await.expect("taken");
        request
    }

    fn requests(&self, outcome: &str) -> u64 {
        let labels = format!("{{exporter=\"otlp_http/backend\",outcome=\"{outcome}\"}}");
        support::metric(self.watched(), &format!("tracestitch_exporter_requests_total{labels}"))
    }

    async fn end(self, dropped: &[(DropReason, usize)]) {
        let watched = self.pipeline.end().await;
        support::assert_balanced(&watched, dropped);
    }
}

fn spans(request: &Request) -> Vec<opentelemetry_proto::tonic::trace::v1::Span> {
    let body = request.plain();
    let request = if request.header("content-type") == JSON {
        json::request(&body).expect("OTLP/JSON")
    } else {
        ExportTraceServiceRequest::decode(body.as_slice()).expect("protobuf")
    };
    support::spans_of(&request)
}

fn failure(code: u16, headers: Vec<(&'static str, String)>) -> Answer {
    Answer { code, headers, body: b"for a test".to_vec() }
}

#[tokio::test]
async fn traces_arrive_in_every_form() {
    for (keys, path, content_type, coding) in [
        ("endpoint: '{}'", "/v1/traces", PROTOBUF, ""),
        ("endpoint: '{}/otlp/', compression: gzip", "/otlp/v1/traces", PROTOBUF, "gzip"),
        ("traces_endpoint: '{}/t?a=b', compression: zstd", "/t?a=b", PROTOBUF, "zstd"),
        ("endpoint: '{}', encoding: json", "/v1/traces", JSON, ""),
        ("endpoint: '{}', encoding: json, compression: gzip", "/v1/traces", JSON, "gzip"),
    ] {
        let scene = Scene::start(&format!("{keys}, headers: {{x-key: secret}}")).await;
        let sent = support::spans_of(&scene.send(1, 3).await);
        support::settled(scene.watched(), sent.len()).await;
        let requests = scene.backend.requests();
        let [request] = requests.as_slice() else { panic!("{keys}: {requests:?}") };
        assert_eq!(request.path, path, "{keys}");
        assert_eq!(request.header("content-type"), content_type, "{keys}");
        assert_eq!(request.header("content-encoding"), coding, "{keys}");
        assert_eq!(request.header("x-key"), "secret", "{keys}");
        assert_eq!(request.header("content-length"), request.body.len().to_string(), "{keys}");
        assert!(request.header("user-agent").starts_with("tracestitch/"), "{keys}");
        assert_eq!(support::assert_arrived(&sent, spans(request)), [], "{keys}");
        scene.end(&[]).await;
    }
}

#[tokio::test]
async fn what_may_be_retried_is() {
    let scene = Scene::start("endpoint: '{}'").await;
    scene.backend.answers([429, 502, 503, 504].map(|code| failure(code, Vec::new())));
    let sent = support::spans_of(&scene.send(1, 2).await);
    support::settled(scene.watched(), sent.len()).await;
    assert_eq!(scene.backend.requests().len(), 5);
    assert_eq!((scene.requests("retry"), scene.requests("ok")), (4, 1));
    scene.end(&[]).await;
}

#[tokio::test]
async fn a_destination_that_does_not_answer_is_tried_again() {
    let scene = Scene::start("endpoint: '{}', timeout: 300ms").await;
    let url = scene.backend.url();
    drop(scene.backend);
    support::sender(&scene.pipeline).send(&support::trace(1, 2)).await.expect("taken");
    let watched = scene.pipeline.watched.clone();
    let series =
        "tracestitch_exporter_requests_total{exporter=\"otlp_http/backend\",outcome=\"retry\"}";
    support::until("it is tried again", || support::metric(&watched, series) >= 2).await;
    // Back at the same address.
    let address = url.strip_prefix("http://").expect("a URL");
    let backend = HttpBackend::at(address.parse().expect("an address")).await;
    support::settled(&watched, 2).await;
    assert_eq!(backend.requests().len(), 1);
    support::assert_balanced(&scene.pipeline.end().await, &[]);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let scene = Scene::start("endpoint: '{}'").await;
    let date =
        std::time::UNIX_EPOCH + std::time::Duration::from_micros(clock::wall_us() + 2_000_000);
    scene.backend.answers([
        failure(503, vec![("retry-after", "1".to_owned())]),
        failure(429, vec![("retry-after", httpdate::fmt_http_date(date))]),
    ]);
    let started = clock::now();
    let sent = support::spans_of(&scene.send(1, 2).await);
    support::settled(scene.watched(), sent.len()).await;
    // A date has whole seconds only.
    let waited = clock::now().duration_since(started);
    assert!(waited >= std::time::Duration::from_secs(1), "{waited:?}");
    assert_eq!(scene.backend.requests().len(), 3);
    scene.end(&[]).await;
}

#[tokio::test]
async fn nothing_else_is_retried() {
    let scene = Scene::start("endpoint: '{}', on_outage: drop").await;
    let codes = [301, 307, 400, 401, 403, 404, 405, 408, 415, 500, 501];
    let location = || vec![("location", format!("{}/v1/traces", scene.backend.url()))];
    scene.backend.answers(codes.map(|code| failure(code, location())));
    for id in 1..=codes.len() {
        scene.send(u128::try_from(id).expect("small"), 1).await;
        support::settled(scene.watched(), id).await;
    }
    assert_eq!(scene.backend.requests().len(), codes.len());
    assert_eq!((scene.requests("failed"), scene.requests("retry")), (11, 0));
    scene.end(&[(DropReason::Permanent, codes.len())]).await;
}

#[tokio::test]
async fn what_is_too_large_is_sent_in_halves() {
    let scene = Scene::start("endpoint: '{}'").await;
    scene.backend.answers([failure(413, Vec::new())]);
    let sent = support::spans_of(&scene.send(1, 4).await);
    support::settled(scene.watched(), sent.len()).await;
    let requests = scene.backend.requests();
    assert_eq!(requests.len(), 3);
    let arrived = requests.iter().skip(1).flat_map(spans).collect();
    assert_eq!(support::assert_arrived(&sent, arrived), []);
    scene.end(&[]).await;
}

#[tokio::test]
async fn what_is_refused_in_part_is_counted_once() {
    for (keys, content_type, encoding) in [
        ("endpoint: '{}'", PROTOBUF, Encoding::Protobuf),
        ("endpoint: '{}', encoding: json", JSON, Encoding::Json),
    ] {
        let scene = Scene::start(keys).await;
        let partial = PartialSuccess { rejected_spans: 2, message: "too old".to_owned() };
        let headers = vec![("content-type", content_type.to_owned())];
        let body = partial.response(encoding).to_vec();
        scene.backend.answers([Answer { code: 200, headers, body }]);
        scene.send(1, 3).await;
        support::settled(scene.watched(), 3).await;
        assert_eq!(scene.backend.requests().len(), 1);
        scene.end(&[(DropReason::Rejected, 2)]).await;
    }
}

#[tokio::test]
async fn of_an_answer_whose_body_never_comes_the_status_counts() {
    for end in [End::Breaks, End::Stalls] {
        let scene = Scene::start("endpoint: '{}', on_outage: drop, timeout: 1s").await;
        scene.backend.end_bodies(end);
        scene.backend.answers([200, 400].map(|code| failure(code, Vec::new())));
        for id in 1..=2 {
            scene.send(id, 1).await;
            support::settled(scene.watched(), usize::try_from(id).expect("small")).await;
        }
        assert_eq!((scene.requests("ok"), scene.requests("failed")), (1, 1), "{end:?}");
        assert_eq!(scene.requests("retry"), 0, "{end:?}");
        scene.end(&[(DropReason::Permanent, 1)]).await;
    }
}

#[tokio::test]
async fn a_huge_answer_is_not_taken_into_memory() {
    let scene = Scene::start("endpoint: '{}', on_outage: drop").await;
    let status = RpcStatus::new(Code::InvalidArgument, "never").body(Encoding::Protobuf).to_vec();
    let headers = || vec![("content-type", PROTOBUF.to_owned())];
    scene.backend.answers([
        Answer { code: 200, headers: headers(), body: vec![0; 5 * 1024 * 1024] },
        Answer { code: 400, headers: headers(), body: vec![b'x'; 5 * 1024 * 1024] },
        Answer { code: 400, headers: headers(), body: status },
    ]);
    for id in 1..=3 {
        scene.send(id, 1).await;
        support::settled(scene.watched(), usize::try_from(id).expect("small")).await;
    }
    assert_eq!((scene.requests("ok"), scene.requests("failed")), (1, 2));
    scene.end(&[(DropReason::Permanent, 2)]).await;
}
