//! Scenario: TLS files that are missing, empty, of another kind, cut, or do not belong together; of receivers, admin pages,
//! exporters and for DeepFlow.
//! Guarantees: the program does not start, and says which file, and why; a key's content is not told.

use std::error::Error;

use tracestitch::pipeline::Pipeline;

use crate::support::{Setup, tls::Authority};

/// Starts, and says all of why not.
async fn refusal(setup: Setup<'_>) -> String {
    let config = setup.config("https://localhost:9", "https://localhost:9");
    let Err(error) = Pipeline::start(&config).await else { panic!("it started") };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn bad_tls_files_are_named_at_start() {
    let authority = Authority::new();
    authority.issue_into("good");
    authority.issue_into("other");
    let directory = authority.directory().display().to_string();
    authority.replace("empty.pem", "");
    let key = std::fs::read_to_string(authority.path("good.key")).expect("a key");
    let (start, end) = key.split_at(key.len() / 2);
    authority.replace("cut.key", start);
    let der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    authority.replace("garbage.pem", der);

    let receiver = |certificate: &str, key: &str, more: &str| {
        let tls = format!(
            "tls: {{cert_file: '{directory}/{certificate}', key_file: '{directory}/{key}', {more}}}"
        );
        Setup { grpc: tls, ..Setup::without_deepflow() }
    };
    let strangers = format!("client_ca_file: '{directory}/empty.pem'");
    let garbage = format!("client_ca_file: '{directory}/garbage.pem'");
    for (setup, file, why) in [
        (receiver("missing.pem", "good.key", ""), "missing.pem", "No such file"),
        (receiver("good.pem", "missing.key", ""), "missing.key", "No such file"),
        (receiver("empty.pem", "good.key", ""), "empty.pem", "there is no certificate in"),
        (receiver("good.key", "good.key", ""), "good.key", "there is no certificate in"),
        (receiver("good.pem", "good.pem", ""), "good.pem", "there is no private key in"),
        (receiver("good.pem", "cut.key", ""), "cut.key", "cut or garbled"),
        (receiver("garbage.pem", "good.key", ""), "garbage.pem", "cannot use"),
        (receiver("good.pem", "other.key", ""), "other.key", "does not belong to"),
        (receiver("good.pem", "good.key", &strangers), "empty.pem", "there is no certificate in"),
        (receiver("good.pem", "good.key", &garbage), "garbage.pem", "cannot use"),
    ] {
        let text = refusal(setup).await;
        assert!(text.contains(&format!("{directory}/{file}")) && text.contains(why), "{text}");
        assert!(text.starts_with("cannot receive OTLP/gRPC by TLS"), "{text}");
        assert!(!text.contains(start.trim()) && !text.contains(end.trim()), "{text}");
    }

    let tls = format!("tls: {{ca_file: '{directory}/missing.pem'}}");
    let exporter = Setup { exporter: &tls, ..Setup::without_deepflow() };
    let text = refusal(exporter).await;
    assert!(text.contains("exporter otlp/backend") && text.contains("missing.pem"), "{text}");
    let trusted = format!("tls: {{ca_file: '{directory}/ca.pem'}}");
    let deepflow = Setup { deepflow: &tls, exporter: &trusted, ..Setup::default() };
    let text = refusal(deepflow).await;
    assert!(text.contains("DeepFlow by TLS") && text.contains("missing.pem"), "{text}");
    let admin =
        format!("tls: {{cert_file: '{directory}/good.pem', key_file: '{directory}/other.key'}}");
    let text = refusal(Setup { admin, ..Setup::without_deepflow() }).await;
    assert!(text.contains("admin pages by TLS") && text.contains("other.key"), "{text}");
}
