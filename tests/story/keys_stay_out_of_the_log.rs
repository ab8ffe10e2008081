//! Scenario: a destination whose URL and headers hold keys, and which nobody answers for; the log tells everything.
//! Guarantees: it tells that and why the destination does not take spans, and no key, at any level.

use crate::support::{Setup, program::Program, until};

#[tokio::test]
async fn why_a_destination_fails_is_said_without_its_keys() {
    // Taken and given back: nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let nobody = nobody.expect("a free port");
    let retry = "retry_on_failure: {initial_interval: 20ms, max_interval: 50ms}";
    let only = format!(
        "otlp_http/backend: {{traces_endpoint: 'http://{nobody}/t?key=s3cret-in-url', {retry}, \
         headers: {{x-key: s3cret-in-header}}}}"
    );
    let setup = Setup { only, drain_timeout: "1s", ..Setup::without_deepflow() };
    let yaml = setup.yaml("http://127.0.0.1:9", "").replace("logs: {", "logs: {level: trace, ");
    let mut program = Program::run(&yaml);
    program.send_a_trace().await;
    until("the log says why", || program.said().contains("Connection refused")).await;
    program.terminate();
    program.ended().await;
    let said = program.said();
    let told: Vec<&str> = said.lines().filter(|line| line.contains("s3cret")).collect();
    assert_eq!(told, Vec::<&str>::new());
}
