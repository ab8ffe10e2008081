//! Scenario: `weave` with each recorded trace and answer, without a network.
//! Guarantees: it writes the enriched trace, in every format; it says so when nothing was found, and ends with 1 when the
//! answer is none and with 2 when it can't be used.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tracestitch::wire::json;

use crate::support;

fn recorded(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/deepflow").join(folder)
}

fn weave(trace: &Path, answer: &Path, more: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tracestitch"));
    program.arg("weave").arg("--trace").arg(trace).arg("--answer").arg(answer).args(more);
    program.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("golden data")).expect("JSON")
}

#[test]
fn every_recorded_answer_is_woven() {
    let mut woven = 0;
    for kind in ["fixtures", "random"] {
        for entry in fs::read_dir(recorded(kind)).expect("golden data") {
            let folder = entry.expect("golden data").path();
            let trace = folder.join("trace.otlp.json");
            if !trace.exists() {
                continue;
            }
            let output = weave(&trace, &folder.join("answer.json"), &[]);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{}: {said}", folder.display());
            let expected = read(&folder.join("expected.json"));
            let spans = support::spans_of(&json::request(&output.stdout).expect("OTLP/JSON")).len();
            assert_eq!(expected["spans"], spans, "{}", folder.display());
            let nothing = expected["outcome"] == "not_found";
            assert_eq!(said.contains("nothing was found"), nothing, "{}: {said}", folder.display());
            woven += 1;
        }
    }
    assert_eq!(woven, 29 + 30);
}

#[test]
fn trees_and_differences_are_for_people() {
    let folder = recorded("fixtures/a_two_services");
    let (trace, answer) = (folder.join("trace.otlp.json"), folder.join("answer.json"));
    let tree = text(&weave(&trace, &answer, &["--format", "tree"]).stdout);
    assert!(tree.contains("4 spans + 9 added") && tree.contains("(s-p)"), "{tree}");
    let off = ["--format", "tree", "--network-spans", "off"];
    let off = text(&weave(&trace, &answer, &off).stdout);
    assert!(off.contains("(s-p)") && !off.contains("(s-nd)"), "{off}");
    let diff = text(&weave(&trace, &answer, &["--format", "diff"]).stdout);
    let kept = diff.lines().filter(|line| line.starts_with("  ")).count();
    assert_eq!(kept, 4, "{diff}");
}

#[test]
fn a_bare_body_will_do_and_what_is_no_answer_is_refused() {
    let folder = recorded("fixtures/a_two_services");
    let trace = folder.join("trace.otlp.json");
    let directory = tempfile::tempdir().expect("a directory");
    let bare = directory.path().join("bare.json");
    let body = read(&folder.join("answer.json"))["body"].to_string();
    fs::write(&bare, body).expect("a file");
    let whole = weave(&trace, &folder.join("answer.json"), &[]);
    assert_eq!(weave(&trace, &bare, &[]).stdout, whole.stdout);

    let refused = weave(&trace, &recorded("fixtures/errors/bad_get.json"), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("DeepFlow did not answer: HTTP 405"));
    let missing = weave(&trace, &directory.path().join("missing.json"), &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("cannot read "));
}
