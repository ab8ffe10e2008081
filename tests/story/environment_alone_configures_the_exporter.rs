//! Scenario: no configuration file; the variables that every OpenTelemetry exporter knows say where traces go. And a file
//! beside them.
//! Guarantees: traces go there, with the headers and in the form that they say; `validate` tells what would be done; what
//! can't be used is an error that names its variable and ends with exit code 2; a file wins, and it is said.

use std::{
    fs,
    process::{Command, Output},
};

use tracestitch::{
    config::Environment,
    exporter::{self, FromEnvironment},
    pipeline::{Config, Pipeline},
    wire::json,
};

use crate::support::{self, Setup, http::JSON, http_backend::HttpBackend};

struct Variables(Vec<(&'static str, String)>);

impl Environment for Variables {
    fn variable(&self, name: &str) -> Option<String> {
        let known = self.0.iter().find(|(known, _)| *known == name);
        known.map(|(_, value)| value.clone())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(path.to_owned())
    }
}

#[tokio::test]
async fn traces_go_where_it_says() {
    let backend = HttpBackend::start().await;
    let variables = Variables(vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9".to_owned()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{}/own/path", backend.url())),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20secret".to_owned()),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned()),
    ]);
    let read = exporter::from_environment(&variables).expect("usable").expect("set");
    let FromEnvironment { config: exporters, variables } = read;
    assert_eq!(variables.len(), 5);
    let config = Setup::without_deepflow().config("http://127.0.0.1:9", "http://127.0.0.1:9");
    let pipeline = Pipeline::start(&Config { exporters, ..config }).await.expect("a pipeline");
    let request = support::trace(1, 3);
    support::sender(&pipeline).send(&request).await.expect("taken");
    support::settled(&pipeline.watched, 3).await;
    let requests = backend.requests();
    let [received] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!((received.path.as_str(), received.header("x-key")), ("/own/path", "a secret"));
    assert_eq!(
        (received.header("content-type"), received.header("content-encoding")),
        (JSON, "gzip")
    );
    let arrived = json::request(&received.plain()).expect("OTLP/JSON");
    let arrived = support::spans_of(&arrived);
    assert_eq!(support::assert_arrived(&support::spans_of(&request), arrived), []);
    support::assert_balanced(&pipeline.end().await, &[]);
}

/// The program in an empty directory, or one with this file, with nothing but these variables.
fn program(command: &str, file: Option<&str>, variables: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    if let Some(text) = file {
        fs::write(directory.path().join("config.yaml"), text).expect("a file");
    }
    let mut program = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
    program.arg(command).current_dir(directory.path());
    program.env_clear().envs(variables.iter().copied());
    program.output().expect("the program runs")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn validate_tells_what_would_be_done() {
    let grpc = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector.example:4317"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret"),
    ];
    let output = program("validate", None, &grpc);
    let text = said(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", said(&output.stderr));
    assert!(text.contains("traces go to otlp: http://collector.example:4317"), "{text}");
    assert!(text.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && !text.contains("s3cret"), "{text}");
    let text = said(&program("validate", None, &[]).stdout);
    assert!(text.starts_with("the defaults: no problems"), "{text}");
}

#[test]
fn keys_in_urls_are_not_shown() {
    let key = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a.example:4318/t?key=s3cret")];
    let output = program("validate", None, &key);
    let text = said(&output.stdout);
    assert!(text.contains("traces go to otlp_http: http://a.example:4318/t"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_file_wins_and_it_is_said() {
    let file = "exporters: {otlp/tempo: {endpoint: 'http://tempo.example:4317'}}\n";
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "not even a URL")];
    let text = said(&program("validate", Some(file), &variables).stdout);
    assert!(text.starts_with("config.yaml: no problems"), "{text}");
    assert!(text.contains("not used") && text.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{text}");
}

#[test]
fn what_can_not_be_used_ends_the_start() {
    for command in ["run", "validate"] {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift"),
        ];
        let output = program(command, None, &variables);
        let text = said(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("2 problems in the environment"), "{text}");
        assert!(text.contains("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: is no number"), "{text}");
        assert!(text.contains("OTEL_EXPORTER_OTLP_PROTOCOL: is none of grpc"), "{text}");
    }
}
