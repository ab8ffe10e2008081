//! Scenario: configurations with mistakes, one or several, as operators make them.
//! Guarantees: all mistakes are told at once, in the order of the file, each with its path, its line, what is wrong and,
//! where there is something to say, what to do; secrets are never told. `validate` says the same and exits with 2.

use std::process::Command;

use tracestitch::{
    config::{self, ConfigError, Environment, Problem},
    pipeline::Config,
};

/// Path, line, part of the problem, part of the hint (empty: none).
type Expected<'a> = (&'a str, u64, &'a str, &'a str);

const SECRET: &str = "s3cret-token";

struct Variables;

impl Environment for Variables {
    fn variable(&self, name: &str) -> Option<String> {
        let value = match name {
            "SLOTS" => "16",
            "ENABLED" => "false",
            "IDLE" => "20s",
            "TOKEN" => SECRET,
            "TWO_LINES" => "s3cret-token\nof two lines",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        if path == "/token" { Ok(SECRET.to_owned()) } else { Err("no such file".to_owned()) }
    }
}

fn load(text: &str) -> Result<Config, ConfigError> {
    config::load("story.yaml", text, &Variables, Config::check)
}

fn problems(text: &str) -> Vec<Problem> {
    match load(text) {
        Err(ConfigError::Invalid { file, problems }) => {
            assert_eq!(file, "story.yaml");
            problems
        }
        other => panic!("{other:?}\n{text}"),
    }
}

fn check(text: &str, expected: &[Expected<'_>]) {
    let found = problems(text);
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n");
    assert_eq!(found.len(), expected.len(), "{text}\n{shown}");
    for (problem, (path, line, what, hint)) in found.iter().zip(expected) {
        assert_eq!(
            (problem.path.as_str(), problem.at.map(|at| at.0)),
            (*path, Some(*line)),
            "{shown}"
        );
        assert!(problem.problem.contains(what), "{what}:\n{shown}");
        match (&problem.hint, hint.is_empty()) {
            (None, true) => {}
            (Some(given), false) => assert!(given.contains(hint), "{hint}:\n{shown}"),
            _ => panic!("hint {hint:?}:\n{shown}"),
        }
    }
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn each_mistake_has_path_line_problem_and_hint() {
    let cases: &[(&str, &[Expected<'_>])] = &[
        // What YAML itself refuses.
        ("buffer: {idle: 1s", &[("", 1, "", "")]),
        ("buffer:\n  idle: 1s\n  max_age: 2m\n  idle: 2s\n", &[("", 4, "duplicate", "")]),
        // What a destination can't take.
        (
            "dead_letter: {enabled: false}\nexporters:\n  otlp/tempo:\n    on_outage: dead_letter\n",
            &[("exporters.otlp/tempo.on_outage", 4, "no dead-letter file", "dead_letter.enabled")],
        ),
        (
            "exporters: {debug: {on_outage: hide}}\n",
            &[("exporters.debug.on_outage", 1, "hide", "")],
        ),
        (
            "dead_letter:\n  directory: ''\n  max_file_size: 1kB\n  max_files: 0\n",
            &[
                ("dead_letter.directory", 2, "is empty", "enabled: false"),
                ("dead_letter.max_file_size", 3, "at least 1MiB", "64MiB"),
                ("dead_letter.max_files", 4, "between 1 and", "16"),
            ],
        ),
        // Keys.
        ("buffer:\n  idel: 5s\n", &[("buffer.idel", 2, "unknown key idel", "did you mean idle?")]),
        ("\nsampling: {}\n", &[("sampling", 2, "unknown key sampling", "known here: receivers, ")]),
        (
            "receivers:\n  otlp:\n    protocols:\n      grcp:\n",
            &[("receivers.otlp.protocols.grcp", 4, "unknown key", "did you mean grpc?")],
        ),
        (
            "exporters:\n  otlp/tempo:\n    endpont: http://tempo:4317\n",
            &[("exporters.otlp/tempo.endpont", 3, "unknown key", "did you mean endpoint?")],
        ),
        (
            "exporters:\n  kafka/main:\n    brokers: [a]\n",
            &[("exporters.kafka/main", 2, "there are otlp (gRPC), otlp_http and debug", "")],
        ),
        // What browsers may do, and where.
        (
            "receivers:\n  otlp:\n    protocols:\n      http:\n        logs_url_path: /v1/metrics\n",
            &[(
                "receivers.otlp.protocols.http.logs_url_path",
                5,
                "/v1/metrics is another signal's path",
                "",
            )],
        ),
        (
            "receivers:\n  otlp:\n    protocols:\n      http:\n        traces_url_path: v1\n        cors:\n          \
             max_age: 1h\n          allowed_headers: ['a b']\n",
            &[
                ("receivers.otlp.protocols.http.traces_url_path", 5, "`v1` is no path", ""),
                ("receivers.otlp.protocols.http.cors.allowed_origins", 6, "no page may", "name"),
                (
                    "receivers.otlp.protocols.http.cors.allowed_headers.0",
                    8,
                    "is no header name",
                    "",
                ),
            ],
        ),
        (
            "receivers: {otlp: {protocols: {http: {cors: {allowed_origins: [a.example.com]}}}}}\n",
            &[(
                "receivers.otlp.protocols.http.cors.allowed_origins.0",
                1,
                "`a.example.com` is no origin",
                "write https://",
            )],
        ),
        // Values.
        ("buffer:\n  idle: 15\n", &[("buffer.idle", 2, "`15` is no duration", "")]),
        ("buffer:\n  idle: 15 seconds\n", &[("buffer.idle", 2, "for example 15s", "")]),
        (
            "exporters:\n  otlp:\n    endpoint: tempo:4317\n",
            &[("exporters.otlp.endpoint", 3, "write http://host:port", "")],
        ),
        (
            "exporters:\n  otlp:\n    endpoint: http://tempo:4317/v1/traces\n",
            &[("exporters.otlp.endpoint", 3, "has a path", "otlp_http")],
        ),
        (
            "completion:\n  deepflow:\n    endpoint: [http://a:1, 'b:2']\n",
            &[("completion.deepflow.endpoint.1", 3, "is no URL", "")],
        ),
        ("memory: {limit: 120%}\n", &[("memory.limit", 1, "between 1% and 95%", "")]),
        ("memory:\n  limit: 64mb\n", &[("memory.limit", 2, "`64mb` is no size", "")]),
        ("logs:\n  level: warning\n", &[("logs.level", 2, "no level", "warn")]),
        (
            "exporters:\n  otlp:\n    headers:\n      x-key: '${env:NOBODY_SET_IT:-${env:HOME}}'\n",
            &[("exporters.otlp.headers.x-key", 4, "within another", "default")],
        ),
        (
            "admin:\n  auth:\n    tokens: 1234567890123456\n",
            &[("admin.auth.tokens", 3, "a number, expected", "")],
        ),
        ("admin:\n  endpoint: ':13133'\n", &[("admin.endpoint", 2, "0.0.0.0:13133", "")]),
        ("admin:\n  endpoint: 13133\n", &[("admin.endpoint", 2, "write host:port", "")]),
        (
            "weaving:\n  network_spans: some\n",
            &[("weaving.network_spans", 2, "unknown variant", "")],
        ),
        (
            "completion: {deepflow: {max_in_flight: lots}}\n",
            &[("completion.deepflow.max_in_flight", 1, "invalid type", "")],
        ),
        // Substitution.
        (
            "buffer:\n  idle: ${env:UNSET}\n",
            &[(
                "buffer.idle",
                2,
                "the environment variable UNSET is not set",
                "${env:UNSET:-default}",
            )],
        ),
        ("buffer:\n  idle: ${file:/no}\n", &[("buffer.idle", 2, "cannot read /no", "check path")]),
        ("buffer:\n  idle: ${IDLE}\n", &[("buffer.idle", 2, "is not known", "${env:NAME}")]),
        ("buffer:\n  idle: ${env:IDLE\n", &[("buffer.idle", 2, "without `}`", "${env:NAME}")]),
        // Relations.
        (
            "buffer:\n  idle: 30s\n  max_age: 10s\n",
            &[("buffer.max_age", 3, "is shorter than idle", "2m")],
        ),
        (
            "completion:\n  deepflow:\n    timeout: 10s\n    deadline: 5s\n",
            &[("completion.deepflow.deadline", 4, "is shorter than timeout", "all asks")],
        ),
        (
            "completion:\n  deepflow:\n    reask: [30s, 10s]\n",
            &[("completion.deepflow.reask", 3, "must grow", "from the first ask")],
        ),
        (
            "exporters:\n  otlp/a:\n    batch: {target_size: 8MiB}\n",
            &[("exporters.otlp/a.batch.target_size", 3, "is larger than max_size", "")],
        ),
        (
            "exporters:\n  otlp/a:\n    sending_queue: {max_size: 50%}\n",
            &[("exporters.otlp/a.sending_queue.max_size", 3, "must be below 50%", "25%")],
        ),
        (
            "exporters:\n  otlp/a:\n    sending_queue: {max_size: 1MiB}\n",
            &[("exporters.otlp/a.sending_queue.max_size", 3, "smaller than one request", "")],
        ),
        (
            "exporters:\n  otlp/a:\n    tls:\n      cert_file: a.pem\n      server_name_override: 'a b'\n",
            &[
                // The section's line: the key itself is not in the file.
                ("exporters.otlp/a.tls.key_file", 3, "is needed with cert_file", "go together"),
                ("exporters.otlp/a.tls.server_name_override", 5, "neither a host name", ""),
            ],
        ),
        (
            "receivers:\n  otlp:\n    protocols:\n      grpc:\n        tls: {key_file: a.pem}\n        max_connections: 0\n",
            &[
                (
                    "receivers.otlp.protocols.grpc.tls.cert_file",
                    5,
                    "is needed for TLS",
                    "go together",
                ),
                ("receivers.otlp.protocols.grpc.max_connections", 6, "at least 1", "4096"),
            ],
        ),
        (
            "admin:\n  tls: {client_ca_file: ca.pem}\n",
            &[
                ("admin.tls.cert_file", 2, "is needed for TLS", "go together"),
                ("admin.tls.key_file", 2, "is needed for TLS", "go together"),
            ],
        ),
        (
            "exporters:\n  otlp/a:\n    headers:\n      x-tenant: ${origin:x-org}\n",
            &[("exporters.otlp/a.headers.x-tenant", 4, "is not kept", "include_metadata")],
        ),
        ("exporters: {}\n", &[("exporters", 1, "no destination", "add otlp/tempo")]),
        (
            "receivers:\n  otlp:\n    protocols: {}\n",
            &[("receivers.otlp.protocols", 3, "no protocol", "add grpc: or http:")],
        ),
        (
            "receivers:\n  otlp:\n    protocols:\n      grpc: {endpoint: '0.0.0.0:4317'}\n      http: {endpoint: '0.0.0.0:4317'}\n",
            &[("receivers.otlp.protocols.http.endpoint", 5, "the same address", "4318")],
        ),
        (
            "receivers:\n  otlp:\n    include_metadata:\n      - x-good\n      - no header\n",
            &[("receivers.otlp.include_metadata.1", 5, "is no name", "")],
        ),
        ("memory:\n  limit: 1MiB\n", &[("memory.limit", 2, "at least 64MiB", "")]),
        (
            "shutdown:\n  drain_timeout: 0s\n",
            &[("shutdown.drain_timeout", 2, "longer than 0s", "25s")],
        ),
        // Waits of nothing would be asking, sending and pinging without a pause.
        (
            "completion:\n  deepflow:\n    retry: {initial_interval: 0s}\n",
            &[("completion.deepflow.retry.initial_interval", 3, "longer than 0s", "500ms")],
        ),
        (
            "exporters:\n  otlp/a:\n    retry_on_failure: {initial_interval: 0s}\n    keepalive: {time: 0s}\n",
            &[
                (
                    "exporters.otlp/a.retry_on_failure.initial_interval",
                    3,
                    "longer than 0s",
                    "500ms",
                ),
                ("exporters.otlp/a.keepalive.time", 4, "longer than 0s", "10s"),
            ],
        ),
        // What is sent would come back for ever.
        (
            "receivers:\n  otlp:\n    protocols: {grpc: {endpoint: '0.0.0.0:5000'}}\nexporters:\n  otlp:\n    endpoint: http://localhost:5000\n",
            &[("exporters.otlp.endpoint", 6, "would send to itself", "at another port")],
        ),
        (
            "exporters:\n  otlp_http:\n    traces_endpoint: http://127.0.0.1:4318/v1/traces\n",
            &[("exporters.otlp_http.traces_endpoint", 3, "would send to itself", "address")],
        ),
        // Several at once, in the order of the file.
        (
            "buffer:\n  idle: soon\n  max_spans: 5\nexporters:\n  otlp/a:\n    endpoint: nowhere\nmemory:\n  limit: 1MiB\n",
            &[
                ("buffer.idle", 2, "is no duration", ""),
                (
                    "buffer.max_spans",
                    3,
                    "unknown key",
                    "known here: idle, max_age, max_spans_per_trace",
                ),
                ("exporters.otlp/a.endpoint", 6, "is no URL", ""),
                ("memory.limit", 8, "at least 64MiB", ""),
            ],
        ),
    ];
    for (text, expected) in cases {
        check(text, expected);
    }
}

/// Scenario: values of headers that can't be used, written down or out of a variable or a file.
/// Guarantees: the message names the header, never its value.
#[test]
fn secrets_are_not_told() {
    let path = "exporters.otlp/a.headers";
    let with = |headers: &str| format!("exporters:\n  otlp/a:\n    headers: {headers}\n");
    let header = format!("{path}.authorization");
    check(&with("{authorization: '${env:TWO_LINES}'}"), &[(&header, 3, "can't be sent", "")]);
    check(&with("{authorization: ['s3cret-token']}"), &[(&header, 3, "invalid type", "")]);
    check(&with("{authorization: {s3cret: s3cret-token}}"), &[(&header, 3, "invalid type", "")]);
    check(&with("'authorization=s3cret-token'"), &[(path, 3, "invalid type", "")]);
    check(&with("'${env:TOKEN}'"), &[(path, 3, "invalid type", "")]);
    check(&with("'${file:/token}'"), &[(path, 3, "invalid type", "")]);
    check(&with("['${file:/token}']"), &[(path, 3, "invalid type", "")]);
    let tokens = |tokens: &str| format!("receivers:\n  otlp:\n    auth: {{tokens: {tokens}}}\n");
    let path = "receivers.otlp.auth.tokens";
    check(&tokens("'s3cret-token'"), &[(path, 3, "invalid type", "")]);
    check(&tokens("'${file:/token}'"), &[(path, 3, "invalid type", "")]);
    check(&tokens("['${env:TWO_LINES}']"), &[(&format!("{path}.0"), 3, "can't be sent", "use")]);
    check(&tokens("['']"), &[(&format!("{path}.0"), 3, "everybody would have it", "empty")]);
    let config = load(&with("{authorization: 'Bearer ${env:TOKEN}'}")).expect("all is well");
    assert!(!format!("{config:?}").contains(SECRET));
    let yaml = serde_json::to_string(&config).expect("JSON");
    assert!(!yaml.contains(SECRET));
}

/// Scenario: values out of variables, with and without defaults.
/// Guarantees: they count as if they stood in the file, numbers and switches included.
#[test]
fn variables_are_values() {
    let same = |one: &str, other: &str| {
        let [one, other] = [one, other].map(|text| load(text).expect("all is well"));
        assert_eq!(one, other);
    };
    same("buffer: {idle: '${env:IDLE}'}", "buffer: {idle: 20s}");
    same("buffer: {idle: '${env:UNSET:-7s}'}", "buffer: {idle: 7s}");
    same("buffer: {idle: '${env:IDLE:-7s}'}", "buffer: {idle: 20s}");
    same(
        "completion: {deepflow: {max_in_flight: '${env:SLOTS}'}}",
        "completion: {deepflow: {max_in_flight: 16}}",
    );
    same(
        "completion: {deepflow: {max_in_flight: '${env:UNSET:-3}'}}",
        "completion: {deepflow: {max_in_flight: 3}}",
    );
    same(
        "completion: {deepflow: {enabled: '${env:ENABLED}'}}",
        "completion: {deepflow: {enabled: false}}",
    );
    same(
        "exporters: {otlp: {endpoint: 'http://${env:UNSET:-tempo}:43${env:SLOTS}'}}",
        "exporters: {otlp: {endpoint: 'http://tempo:4316'}}",
    );
    // A text that looks like a number stays a text where one is wanted.
    same(
        "completion: {deepflow: {org_id: '${env:SLOTS}'}}",
        "completion: {deepflow: {org_id: '16'}}",
    );
    same("", "{}");
    same("# nothing\n", "buffer:\n");
    same("receivers: {otlp: {protocols: {grpc:, http:}}}", "{}");
}

#[test]
fn validate_tells_all_and_exits_with_2() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("story.yaml");
    let validate = |text: &str| {
        std::fs::write(&path, text).expect("a file");
        let mut program = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
        let output = program.arg("validate").arg("--config").arg(&path).output();
        let output = output.expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let file = path.display();
    let (code, stdout, stderr) = validate("buffer:\n  idel: 5s\nmemory: {limit: 1MiB}\n");
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    let expected = format!(
        "tracestitch: 2 problems in {file}:\n  \
         line 2, column 3: buffer.idel: unknown key idel (did you mean idle?)\n  \
         line 3, column 10: memory.limit: must be at least 64MiB\n"
    );
    assert_eq!(stderr, expected);

    let (code, stdout, stderr) = validate("buffer: {idle: 5s}\n");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, format!("{file}: no problems\n"));

    let mut program = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
    let missing = directory.path().join("missing.yaml");
    let output = program.args(["run", "--config"]).arg(missing).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(stderr.contains("cannot read ") && stderr.contains("missing.yaml"), "{stderr}");
}
