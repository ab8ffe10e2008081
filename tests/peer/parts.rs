//! [`Parts`]: the real programs, as `parts.sh` has built them, and what to do where one is absent.

use std::{
    env, fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use self::Part::{Go, Jaeger, Java, Node, Otelcol, Python, Telemetrygen};

/// A program that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Go,
    Jaeger,
    Java,
    Node,
    Otelcol,
    Python,
    Telemetrygen,
}

const ALL: [Part; 7] = [Go, Jaeger, Java, Node, Otelcol, Python, Telemetrygen];
/// Built within minutes on any machine.
const LIGHT: [Part; 4] = [Node, Otelcol, Python, Telemetrygen];

/// Parts that are there.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    cache: PathBuf,
}

/// Which parts have to be there.
enum Demand {
    /// Those that are there are used.
    None,
    /// These; the others are not used.
    These(Vec<Part>),
}

impl Parts {
    /// All of these; else the reason is printed, and the test has nothing to do.
    ///
    /// # Panics
    /// When one is absent that has to be there.
    pub(crate) fn here(needed: &[Part]) -> Option<Self> {
        let demand = Demand::from_environment();
        for part in needed {
            match &demand {
                Demand::These(named) if !named.contains(part) => {
                    return skip(&format!("TRACESTITCH_PEERS does not name {part}"));
                }
                Demand::These(_) => {
                    if let Err(why) = part.check() {
                        panic!("{why}");
                    }
                }
                Demand::None => {
                    if let Err(why) = part.check() {
                        return skip(&why);
                    }
                }
            }
        }
        Some(Self { cache: cache() })
    }

    /// A file of a part.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.cache.join(file)
    }
}

impl Demand {
    fn from_environment() -> Self {
        let peers = env::var("TRACESTITCH_PEERS").unwrap_or_default();
        match peers.trim() {
            "" if env::var_os("CI").is_some() => Self::These(LIGHT.to_vec()),
            "" => Self::None,
            "require" => Self::These(ALL.to_vec()),
            names => Self::These(names.split_whitespace().map(Part::named).collect()),
        }
    }
}

impl Part {
    fn named(name: &str) -> Self {
        let part = ALL.into_iter().find(|part| part.to_string() == name);
        part.unwrap_or_else(|| panic!("TRACESTITCH_PEERS names {name:?}, which is no part"))
    }

    fn check(self) -> Result<(), String> {
        let mut script = Command::new(here("parts.sh"));
        let check = script.args(["--check", &self.to_string()]).stdin(Stdio::null()).output();
        match check {
            Ok(check) if check.status.success() => Ok(()),
            Ok(check) => Err(format!(
                "{}{}run tests/peer/parts.sh {self}",
                String::from_utf8_lossy(&check.stdout),
                String::from_utf8_lossy(&check.stderr)
            )),
            Err(error) => Err(format!("tests/peer/parts.sh does not run: {error}")),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Go => "go",
            Jaeger => "jaeger",
            Java => "java",
            Node => "node",
            Otelcol => "otelcol",
            Python => "python",
            Telemetrygen => "telemetrygen",
        })
    }
}

/// A file of this folder.
pub(crate) fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer").join(file)
}

/// As in `parts.sh`.
fn cache() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = || {
        set("XDG_CACHE_HOME").unwrap_or_else(|| set("HOME").expect("a home folder").join(".cache"))
    };
    set("TRACESTITCH_PEER_CACHE").unwrap_or_else(|| caches().join("tracestitch-peers"))
}

/// Past the capture of test output, which hides what passing tests print.
fn skip(why: &str) -> Option<Parts> {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{test} is left out: {}\n", why.trim().replace('\n', "; "));
    io::stderr().write_all(line.as_bytes()).expect("standard error");
    None
}
