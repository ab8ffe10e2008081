//! What must not rot: who may use whom, which file may name which crate, generated pages, names of metrics.
//!
//! How: by reading the sources as text. The tables here are the ones ARCHITECTURE.md shows.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tracestitch::{
    cli,
    config::{self, Environment, reference::Reference},
    exporter::OtlpHttpConfig,
    pipeline::Config,
    receiver::CorsConfig,
    telemetry::{Metrics, reference},
};

/// Modules that any room may use; each of them may use those before it.
const VOCABULARY: &[&str] = &[
    "clock",
    "complaint",
    "watchdog",
    "wire",
    "ledger",
    "memory",
    "tree",
    "trace",
    "config",
    "auth",
    "retry",
    "telemetry",
    "tls",
    "http_client",
    "listen",
];

/// Room → what it may use beside itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("receiver", VOCABULARY),
    ("buffer", VOCABULARY),
    ("completion", VOCABULARY),
    ("weaving", &["trace", "wire"]),
    ("exporter", VOCABULARY),
];

/// The house: each may use the vocabulary and these.
const HOUSE: &[(&str, &[&str])] = &[
    ("admin", &[]),
    ("pipeline", &["receiver", "buffer", "completion", "weaving", "exporter", "admin"]),
    ("demo", &["pipeline"]),
    ("cli", &["completion", "weaving", "exporter", "pipeline", "demo"]),
];

/// Crate → the places that may name it.
const CRATES: &[(&str, &[&str])] = &[
    ("moka", &["buffer/store/"]),
    ("crc32c", &["buffer/journal/"]),
    ("reqwest", &["http_client/mod.rs", "exporter/otlp_http.rs", "cli/explain.rs"]),
    ("flate2", &["receiver/unpack.rs", "exporter/body.rs", "exporter/grpc_answer.rs"]),
    ("zstd", &["receiver/unpack.rs", "exporter/body.rs", "exporter/grpc_answer.rs"]),
    ("httpdate", &["retry.rs"]),
    ("percent_encoding", &["exporter/environment.rs"]),
    (
        "axum",
        &[
            "receiver/otlp_http.rs",
            "receiver/answer.rs",
            "receiver/rest.rs",
            "receiver/stranger.rs",
            "admin/",
            "demo/deepflow/",
        ],
    ),
    ("base64", &["wire/json/"]),
    (
        "tower",
        &[
            "tls/",
            "listen/",
            "http_client/server.rs",
            "receiver/otlp_grpc.rs",
            "receiver/services.rs",
            "exporter/otlp_grpc.rs",
        ],
    ),
    ("hyper", &["listen/", "http_client/"]),
    ("hyper_util", &["tls/", "listen/", "http_client/server.rs"]),
    ("tower_http", &["receiver/cors.rs"]),
    ("tonic_health", &["receiver/services.rs"]),
    ("tonic_reflection", &["receiver/services.rs"]),
    ("tonic", &["wire/", "receiver/", "exporter/", "demo/"]),
    ("rustls", &["tls/"]),
    ("tokio_rustls", &["tls/"]),
    ("rustls_platform_verifier", &["tls/"]),
    ("subtle", &["auth.rs"]),
    ("backon", &["retry.rs"]),
    ("fastrand", &["listen/", "demo/"]),
    ("serde_saphyr", &["config/load.rs", "config/headers.rs"]),
    ("serde_path_to_error", &["config/load.rs"]),
    ("strsim", &["config/load.rs"]),
    ("clap", &["cli/"]),
    ("metrics", &["telemetry/"]),
    ("metrics_exporter_prometheus", &["telemetry/"]),
    ("metrics_process", &["telemetry/"]),
    ("tracing_subscriber", &["telemetry/logs.rs"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                out.push(path);
            }
        }
    }
    out.sort();
    out
}

/// Sources as (path below src, text without comments).
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("UTF-8");
        // Unit tests stand at the end.
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let name = path.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
        (name, code.collect::<Vec<_>>().join("\n"))
    };
    let sources = files(&src, ".rs").into_iter().map(read);
    sources.filter(|(name, _)| !name.contains("tests")).collect()
}

/// The top-level modules a source names: `crate::x`, also inside `use crate::{…}`.
fn modules_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => used.extend(first_word(rest)),
            Some(list) => {
                used.extend(top_level_items(list).iter().filter_map(|item| first_word(item)));
            }
        }
    }
    used
}

fn first_word(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    Some(text[..end].to_owned()).filter(|word| !word.is_empty())
}

/// The items of a braced list, up to its end; nested lists stay within their item.
fn top_level_items(list: &str) -> Vec<String> {
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        items.last_mut().expect("never empty").push(c);
    }
    items
}

fn module_of(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

#[test]
fn no_room_uses_a_sibling() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let module = module_of(&path);
        let room = ROOMS.iter().find(|(room, _)| *room == module).map(|(_, may)| may.to_vec());
        let house = HOUSE
            .iter()
            .find(|(name, _)| *name == module)
            .map(|(_, may)| [VOCABULARY, may].concat());
        let place = VOCABULARY.iter().position(|name| *name == module);
        let vocabulary = place.map(|place| VOCABULARY[..place].to_vec());
        let Some(may) = room.or(house).or(vocabulary) else {
            assert!(["lib", "main"].contains(&module), "src/{path} is in no table of this test");
            continue;
        };
        for used in modules_used(&code) {
            if used != module && !may.contains(&used.as_str()) {
                wrong.push(format!("src/{path}: `{module}` may not use `{used}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn weaving_neither_waits_nor_knows_the_time() {
    for (path, code) in sources().iter().filter(|(path, _)| path.starts_with("weaving/")) {
        for word in ["tokio", "std::time", "crate::clock", "std::fs", "std::net", "async "] {
            assert!(!code.contains(word), "src/{path} names {word}");
        }
    }
}

#[test]
fn each_crate_is_named_where_it_may_be() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for (name, places) in CRATES {
            let named = code.match_indices(&format!("{name}::")).any(|(at, _)| {
                let before = code[..at].chars().next_back().unwrap_or(' ');
                // `x::tonic::…` is a module of that name, `crate::…` is ours.
                !before.is_alphanumeric() && before != '_' && before != ':'
            });
            if named && !places.iter().any(|place| path.starts_with(place)) {
                wrong.push(format!("src/{path} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn architecture_shows_every_room() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for (room, _) in ROOMS.iter().chain(HOUSE) {
        assert!(page.contains(&format!("`{room}`")), "ARCHITECTURE.md does not show `{room}`");
    }
}

#[test]
fn no_word_says_nothing() {
    for (path, _) in sources() {
        for word in ["utils", "helpers", "common", "misc", "manager"] {
            assert!(!path.contains(word), "src/{path}: name it for what is in it");
        }
    }
}

/// The repository is complete in itself and says nothing of the machine it was written on.
#[test]
fn no_path_of_a_machine_is_in_here() {
    let folders = ["src", "tests", "deploy", "proto", ".ci"];
    let mut paths: Vec<PathBuf> =
        folders.iter().flat_map(|folder| files(&root().join(folder), "")).collect();
    paths.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
            .map(|file| root().join(file)),
    );
    let needles = ["/wo", "/ho", "/ro"].into_iter().zip(["rk/", "me/", "ot/"]);
    let needles: Vec<String> = needles.map(|(start, end)| format!("{start}{end}")).collect();
    for path in paths.iter().filter(|path| !path.to_string_lossy().ends_with(".json")) {
        let text = String::from_utf8_lossy(&fs::read(path).expect("a file of the repository"))
            .into_owned();
        for needle in &needles {
            assert!(!text.contains(needle.as_str()), "{} has {needle}", path.display());
        }
    }
}

struct NoEnvironment;

impl Environment for NoEnvironment {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(path.to_owned())
    }
}

#[test]
fn config_yaml_says_the_defaults() {
    let text = fs::read_to_string(root().join("config.yaml")).unwrap_or_default();
    let read: Config =
        config::load("config.yaml", &text, &NoEnvironment, Config::check).expect("valid");
    assert_eq!(read, Config::default());
}

/// Everything that is there by default, and then the sections that are not.
fn configuration(config: &Reference) -> String {
    let title = "# Configuration\n\nGenerated from the types. `tracestitch config defaults` prints the same as YAML.";
    let otlp_http = "\n## exporters.otlp_http\n\nOTLP/HTTP: what `otlp` has, but for `keepalive`, and two keys more.";
    let cors = "\n## receivers.otlp.protocols.http.cors\n\nFor SDKs in browsers.";
    [
        config.markdown(title, ""),
        Reference::of::<OtlpHttpConfig>().markdown(otlp_http, "exporters.otlp_http."),
        Reference::of::<CorsConfig>().markdown(cors, "receivers.otlp.protocols.http.cors."),
    ]
    .concat()
}

/// `UPDATE=1 cargo test --test tidy` writes them anew.
#[test]
fn generated_pages_are_fresh() {
    let config = Reference::of::<Config>();
    let pages = [
        ("config.yaml", cli::default_yaml()),
        ("deploy/reference/configuration.md", configuration(&config)),
        ("deploy/reference/config.schema.json", config.json_schema()),
        ("deploy/reference/metrics.md", reference::markdown()),
    ];
    let mut stale = Vec::new();
    for (path, fresh) in pages {
        let path = root().join(path);
        if fs::read_to_string(&path).unwrap_or_default() == fresh {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
            fs::write(&path, fresh).expect("writable");
        } else {
            stale.push(path.display().to_string());
        }
    }
    assert!(stale.is_empty(), "run `UPDATE=1 cargo test --test tidy`: {}", stale.join(", "));
}

#[test]
fn every_metric_that_is_named_exists() {
    let metrics = Metrics::new(&["otlp/tempo".to_owned()]);
    let known: BTreeSet<&str> = metrics.entries().iter().map(|entry| entry.name).collect();
    let mut pages = files(&root().join("deploy"), ".yaml");
    pages.extend(["README.md", "ARCHITECTURE.md"].map(|page| root().join(page)));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap_or_default();
        for (at, _) in text.match_indices("tracestitch_") {
            let rest = &text[at..];
            let end =
                rest.find(|c: char| !c.is_ascii_lowercase() && c != '_' && !c.is_ascii_digit());
            let name = &rest[..end.unwrap_or(rest.len())];
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
            let is_prefix = name.ends_with('_');
            let exists = known.contains(name) || base.is_some_and(|base| known.contains(base));
            assert!(exists || is_prefix, "{}: no metric {name}", page.display());
        }
    }
}
