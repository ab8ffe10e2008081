//! Scenario: a backend and a DeepFlow that speak TLS alone and ask for a certificate, under another name than that of their
//! address; and one whose certificate is of an authority nobody knows.
//! Guarantees: traces are asked for and delivered; a new certificate of ours is used for new connections. Who has the wrong
//! certificate gets nothing, unless `insecure_skip_verify` says so.

use tracestitch::{
    demo::{
        backend::Backend,
        deepflow::{Deepflow, DeepflowConfig},
    },
    pipeline::Pipeline,
    tls::{Alpn, ServerTlsConfig},
};

use crate::support::{
    self, ANY_PORT, Setup,
    tls::{Authority, Front},
};

/// Asks for a certificate.
fn server(authority: &Authority) -> ServerTlsConfig {
    let (certificate, key) = authority.issue_for(vec!["backend.example".to_owned()]);
    authority.replace("backend.pem", &certificate);
    authority.replace("backend.key", &key);
    ServerTlsConfig {
        cert_file: Some(authority.path("backend.pem")),
        key_file: Some(authority.path("backend.key")),
        client_ca_file: Some(authority.path("ca.pem")),
        ..ServerTlsConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_and_deepflow_are_reached_by_tls() {
    let authority = Authority::new();
    let config = server(&authority);
    let deepflow = DeepflowConfig { synthesise: true, ..DeepflowConfig::default() };
    let deepflow = Deepflow::start(deepflow, ANY_PORT).await.expect("a free port");
    let backend = Backend::start(0).await.expect("a free port");
    let before_backend = Front::start(&config, Alpn::Http2, backend.address()).await;
    let address = deepflow.url().trim_start_matches("http://").parse().expect("an address");
    let before_deepflow = Front::start(&config, Alpn::Http1, address).await;
    authority.issue_into("us");
    let directory = authority.directory().display();
    let tls = format!(
        "tls: {{{}, ca_file: '{directory}/ca.pem', server_name_override: backend.example}}",
        authority.section("us")
    );
    let asking = format!("timeout: 2s, deadline: 5s, {tls}");
    let setup = Setup { deepflow: &asking, exporter: &tls, ..Setup::default() };
    let url = |front: &Front| format!("https://localhost:{}", front.address.port());
    let config = setup.config(&url(&before_deepflow), &url(&before_backend));
    let pipeline = Pipeline::start(&config).await.expect("a pipeline");
    let trace = support::trace(1, 3);
    support::sender(&pipeline).send(&trace).await.expect("taken");
    support::settled(&pipeline.watched, 3).await;
    let added = support::assert_arrived(&support::spans_of(&trace), support::spans_at(&backend));
    assert!(!added.is_empty(), "DeepFlow was asked");

    // Our own certificate is replaced.
    authority.issue_into("us");
    for place in ["otlp/backend", "deepflow"] {
        let series = format!("tracestitch_tls_reloads_total{{place=\"{place}\",outcome=\"ok\"}}");
        support::until("it is in use", || support::metric(&pipeline.watched, &series) > 0).await;
    }
    pipeline.end().await;
    deepflow.stop().await;
    backend.stop().await;
}

#[tokio::test]
async fn an_unknown_authority_is_trusted_only_if_told_so() {
    let (authority, unknown) = (Authority::new(), Authority::new());
    let backend = Backend::start(0).await.expect("a free port");
    let config = ServerTlsConfig { client_ca_file: None, ..server(&unknown) };
    let front = Front::start(&config, Alpn::Http2, backend.address()).await;
    let url = format!("https://localhost:{}", front.address.port());
    let trusted = format!("ca_file: '{}'", authority.path("ca.pem").display());
    for (trust, arrives) in [(trusted.as_str(), false), ("insecure_skip_verify: true", true)] {
        let exporter = format!(
            "tls: {{{trust}}}, retry_on_failure: {{initial_interval: 50ms, max_interval: 200ms}}"
        );
        let setup = Setup { exporter: &exporter, drain_timeout: "1s", ..Setup::without_deepflow() };
        let pipeline = Pipeline::start(&setup.config("http://localhost:9", &url)).await;
        let pipeline = pipeline.expect("a pipeline");
        support::sender(&pipeline).send(&support::trace(1, 3)).await.expect("taken");
        if arrives {
            support::settled(&pipeline.watched, 3).await;
        } else {
            let retried =
                "tracestitch_exporter_requests_total{exporter=\"otlp/backend\",outcome=\"retry\"}";
            support::until("it is tried", || support::metric(&pipeline.watched, retried) > 1).await;
        }
        pipeline.end().await;
        assert_eq!(backend.span_count(), if arrives { 3 } else { 0 });
    }
    backend.stop().await;
}
