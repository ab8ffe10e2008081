//! Scenario: SDKs send metrics and logs to a pipeline that forwards none, as by default, and operators name an exporter
//! for them that is none.
//! Guarantees: senders are told that only traces are taken and what to do, in the form of their request, and never come
//! again for it; `validate` names the exporters there are.

use tonic::{Code, metadata::MetadataMap};
use tracestitch::{
    config::{self, ConfigError},
    pipeline::Config,
    trace::Signal,
};

use crate::support::{
    self, NoEnvironment, Setup, World,
    http::{self, JSON},
};

#[tokio::test]
async fn senders_are_told_what_to_do() {
    let world = World::start(Setup::without_deepflow()).await;
    for (signal, name) in [(Signal::Metrics, "metrics"), (Signal::Logs, "logs")] {
        let sender = support::sender(&world.pipeline);
        let refused =
            sender.call(signal.grpc_path(), b"".as_slice().into(), MetadataMap::new()).await;
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(refused.message().contains("forward_other_signals"), "{refused}");

        let url = http::url(&world).replace("traces", name);
        let post = http::client().post(url).header("content-type", JSON);
        let response = http::send(post, "{}").await;
        assert_eq!(
            (response.status().as_u16(), http::header(&response, "content-type")),
            (404, JSON)
        );
        let said = response.text().await.expect("a body");
        assert!(said.contains("forward_other_signals"), "{said}");
        let labels = format!("receiver=\"otlp\",signal=\"{name}\",outcome=\"not_forwarded\"");
        let series = format!("tracestitch_receiver_passed_requests_total{{{labels}}}");
        assert_eq!(world.metric(&series), 2);
    }
    world.end(&[]).await;
}

#[test]
fn a_name_must_be_an_exporter_that_takes_them() {
    for (name, exporters, hint) in [
        ("otlp/other", "{otlp/tempo: {}, otlp_http/b: {}}", "otlp/tempo, otlp_http/b"),
        ("debug", "{debug: {}}", "say none"),
    ] {
        let text = format!(
            "receivers: {{otlp: {{forward_other_signals: {name}}}}}\nexporters: {exporters}\n"
        );
        let read = config::load::<Config>("story.yaml", &text, &NoEnvironment, Config::check);
        let Err(ConfigError::Invalid { problems, .. }) = read else { panic!("{read:?}") };
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!(problem.path, "receivers.otlp.forward_other_signals");
        assert!(problem.hint.as_ref().is_some_and(|given| given.contains(hint)), "{problem}");
    }
}
