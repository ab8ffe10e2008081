//! Reads the recorded exchanges.

use std::{fs, path::PathBuf};

use serde_json::Value;

/// All recorded exchanges of release v7.1: `fixtures/<situation>` and `random/<seed>`.
pub(crate) fn names() -> Vec<String> {
    let folders = ["fixtures", "random"].into_iter();
    let names = folders
        .flat_map(|folder| entries(folder).into_iter().map(move |name| format!("{folder}/{name}")));
    let is_v7_1 = |name: &String| {
        !name.starts_with("fixtures/v6.") && golden().join(name).join("request.json").exists()
    };
    names.filter(is_v7_1).collect()
}

/// `{"http_status", "body"}` of an exchange.
pub(crate) fn answer(name: &str) -> Value {
    read(&format!("{name}/answer.json"))
}

/// The body that was posted.
pub(crate) fn request(name: &str) -> String {
    read(&format!("{name}/request.json")).to_string()
}

/// All recorded errors whose name begins like this: (name, content).
pub(crate) fn errors(prefix: &str) -> Vec<(String, Value)> {
    let names = entries("fixtures/errors").into_iter().filter(|name| name.starts_with(prefix));
    names.map(|name| (name.clone(), read(&format!("fixtures/errors/{name}")))).collect()
}

fn entries(folder: &str) -> Vec<String> {
    let entries =
        fs::read_dir(golden().join(folder)).expect("the recordings are part of the repository");
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn read(path: &str) -> Value {
    let path = golden().join(path);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/deepflow")
}
