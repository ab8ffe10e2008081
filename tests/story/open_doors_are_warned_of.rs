//! Scenario: configurations that can be used, and leave doors open: receivers beyond loopback without TLS or tokens, tokens
//! in plain text or too short, admin pages beyond loopback, whoever answers trusted, TLS that is not used.
//! Guarantees: `validate` names each, with what to do, and exits with 0; of a configuration that is closed it says nothing.

use std::process::Command;

use tracestitch::{config, pipeline::Config};

use crate::support::NoEnvironment;

fn check(text: &str, expected: &[(&str, &str)]) {
    let config = config::load("story.yaml", text, &NoEnvironment, Config::check);
    let warnings = config.expect("it can be used").warnings();
    let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), expected.len(), "{text}\n{shown:#?}");
    for (warning, (path, what)) in warnings.iter().zip(expected) {
        assert_eq!(warning.path, *path, "{shown:#?}");
        assert!(warning.problem.contains(what), "{what}: {shown:#?}");
        assert!(warning.hint.is_some(), "{shown:#?}");
    }
}

const TOKEN: &str = "0123456789abcdef";

#[test]
fn each_open_door_is_named() {
    let grpc = |inside: &str, auth: &str| {
        format!("receivers: {{otlp: {{protocols: {{grpc: {{{inside}}}}}, auth: {{{auth}}}}}}}\n")
    };
    let tokens = format!("tokens: ['{TOKEN}']");
    let tls = "tls: {cert_file: a.pem, key_file: a.key}";
    let mutual = "tls: {cert_file: a.pem, key_file: a.key, client_ca_file: ca.pem}";
    let all = "endpoint: '0.0.0.0:4317'";
    let protocol = "receivers.otlp.protocols.grpc";
    let (endpoint, section) = (format!("{protocol}.endpoint"), format!("{protocol}.tls"));
    check("", &[]);
    check(&grpc("", ""), &[]);
    check(
        &grpc(all, ""),
        &[(&endpoint, "whoever reaches it"), (&section, "spans come in plain text")],
    );
    check(&grpc(all, &tokens), &[(&section, "tokens and spans come in plain text")]);
    check(&grpc(&format!("{all}, {tls}"), ""), &[(&endpoint, "whoever reaches it")]);
    check(&grpc(&format!("{all}, {mutual}"), ""), &[]);
    check(&grpc(&format!("{all}, {tls}"), &tokens), &[]);
    check(
        &grpc("", "tokens: [short]"),
        &[("receivers.otlp.auth.tokens.0", "fewer than 16 characters")],
    );
    let admin = |inside: &str| format!("admin: {{endpoint: '0.0.0.0:13133', {inside}}}\n");
    check(&admin(""), &[("admin.auth.tokens", "nobody sees /ledger")]);
    let with_tokens = format!("auth: {{{tokens}}}");
    check(&admin(&with_tokens), &[("admin.tls", "plain text")]);
    check(&admin(&format!("{with_tokens}, {tls}")), &[]);
    check(
        "exporters: {otlp/a: {endpoint: 'https://a:1', tls: {insecure_skip_verify: true}}}\n\
         completion: {deepflow: {endpoint: 'https://b:1', tls: {insecure_skip_verify: true}}}\n",
        &[
            ("completion.deepflow.tls.insecure_skip_verify", "whoever answers is trusted"),
            ("exporters.otlp/a.tls.insecure_skip_verify", "whoever answers is trusted"),
        ],
    );
    check(
        "exporters: {otlp_http/a: {endpoint: 'http://a:1', tls: {ca_file: ca.pem}}}\n\
         completion: {deepflow: {endpoint: 'http://b:1', tls: {insecure_skip_verify: true}}}\n",
        &[("completion.deepflow.tls", "is not used"), ("exporters.otlp_http/a.tls", "is not used")],
    );
}

#[test]
fn validate_warns_and_exits_with_0() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("story.yaml");
    let text = "receivers: {otlp: {protocols: {grpc: {endpoint: '0.0.0.0:4317'}}, auth: {tokens: [s3cret]}}}\n";
    std::fs::write(&path, text).expect("a file");
    let mut program = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
    let output = program.arg("validate").arg("--config").arg(&path).output().expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    let first = format!("{}: no problems, 2 warnings:\n", path.display());
    assert!(stdout.starts_with(&first), "{stdout}");
    assert!(stdout.contains("\n  receivers.otlp.protocols.grpc.tls: tokens and spans"), "{stdout}");
    assert!(stdout.contains("\n  receivers.otlp.auth.tokens.0: has fewer"), "{stdout}");
    assert!(!stdout.contains("s3cret"), "{stdout}");
}
