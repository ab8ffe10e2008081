//! The program with a journal of small segments that go by quickly: a process of its own, which other tests start and kill.

use std::{env, fs, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tracestitch::{
    config::{self, Environment},
    pipeline::{Config, Pipeline, Tuning},
};

use crate::steps::{SteppedFiles, Target};

/// Names the file that holds the [`Role`].
pub(crate) const ROLE: &str = "TRACESTITCH_CRASH_ROLE";

const SEGMENT_BYTES: u32 = 256 * 1024;
/// Of a disk of a dozen segments.
const RESERVE_BYTES: u64 = 512 * 1024;
const STRAGGLER_AGE: Duration = Duration::from_millis(300);

/// What such a process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) config: PathBuf,
    /// Where it ends, if it is to end by itself.
    pub(crate) target: Option<Target>,
    /// Where it then says so.
    pub(crate) hit: PathBuf,
    /// Of the disk, for segments.
    pub(crate) capacity_bytes: Option<u64>,
}

/// No variables, no files.
struct NoEnvironment;

impl Environment for NoEnvironment {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(format!("{path} is not read here"))
    }
}

#[test]
#[ignore = "it is a role that other tests start"]
fn program_with_small_segments() {
    let role = env::var(ROLE).expect("another test starts it");
    let role: Role = serde_json::from_str(&fs::read_to_string(role).expect("the role"))
        .expect("written by another test");
    let text = fs::read_to_string(&role.config).expect("the configuration");
    let config = config::load("the test's configuration", &text, &NoEnvironment, Config::check)
        .expect("a configuration");
    config.logs.start();
    let directory = &config.buffer.journal.directory;
    let files = SteppedFiles::new(role.target, role.hit, directory, role.capacity_bytes);
    let tuning = Tuning {
        files: Arc::new(files),
        segment_bytes: SEGMENT_BYTES,
        reserve_bytes: RESERVE_BYTES,
        straggler_age: STRAGGLER_AGE,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let _pipeline = Pipeline::start_on(&config, tuning).await.expect("a pipeline");
        tracing::info!("tracestitch is ready");
        // Until it is killed.
        std::future::pending::<()>().await;
    });
}
