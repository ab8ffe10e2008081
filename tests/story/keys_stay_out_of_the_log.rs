//! Scenario: destinations whose URLs and headers hold keys; nobody answers for one, the others take nothing. The log tells
//! everything.
//! Guarantees: it tells that and why a destination does not take spans, and no key, at any level.

use tokio::net::TcpSocket;
use tracestitch::demo::backend::{Backend, BackendFault};

use crate::support::{
    ANY_PORT, Setup,
    http_backend::{Answer, HttpBackend},
    program::Program,
    until,
};

const RETRY: &str = "retry_on_failure: {initial_interval: 20ms, max_interval: 50ms}";
const HEADERS: &str = "headers: {x-key: s3cret-in-header}";

/// Runs with these exporters until the log says so of each; nowhere in it is a key.
async fn says(exporters: String, reasons: &[&str]) {
    let logs = "level: trace";
    let setup = Setup { only: exporters, drain_timeout: "1s", logs, ..Setup::without_deepflow() };
    let mut program = Program::run(&setup.yaml("http://127.0.0.1:9", ""));
    program.send_a_trace().await;
    until("the log says why", || {
        let events = program.events();
        let why: Vec<&str> = events.iter().filter_map(|event| event["why"].as_str()).collect();
        reasons.iter().all(|reason| why.iter().any(|why| why.contains(reason)))
    })
    .await;
    program.terminate();
    program.ended().await;
    let (said, events) = (program.said(), program.events());
    assert!(events.iter().any(|event| event["level"] == "TRACE"));
    let told: Vec<&str> = said.lines().filter(|line| line.contains("s3cret")).collect();
    assert_eq!(told, Vec::<&str>::new());
}

#[tokio::test]
async fn of_one_that_nobody_answers_for() {
    // Held, so that nobody else gets it, but not listened at.
    let nobody = TcpSocket::new_v4().expect("a socket");
    nobody.bind(ANY_PORT).expect("a port");
    let address = nobody.local_addr().expect("a port");
    let url = format!("traces_endpoint: 'http://{address}/t?key=s3cret-in-url'");
    let exporters = format!("otlp_http/backend: {{{url}, {RETRY}, {HEADERS}}}");
    says(exporters, &["Connection refused"]).await;
}

#[tokio::test]
async fn of_those_that_take_nothing() {
    let http = HttpBackend::start().await;
    http.answers([503, 400].map(|code| Answer { code, headers: Vec::new(), body: Vec::new() }));
    let grpc = Backend::start(0).await.expect("a backend");
    grpc.set_fault(BackendFault::Unavailable);
    let exporters = format!(
        "otlp_http/backend: {{traces_endpoint: '{}/t?key=s3cret-in-url', {RETRY}, {HEADERS}}}, \
         otlp/backend: {{endpoint: '{}', {RETRY}, {HEADERS}}}",
        http.url(),
        grpc.url()
    );
    says(exporters, &["503", "400", "Unavailable"]).await;
}
