//! When a trace is whole, and where its spans are safe until it is delivered.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    journal::{self, Settings},
    quiet::Wait,
    tuning::Tuning,
};
use crate::{
    config::{ByteSize, Interval, Problems, SyncMode},
    telemetry::Watched,
};

/// When a trace is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A trace is quiet after so long without a new span. DeepFlow shows a request 5 to 20 s after its response, so a
    /// shorter wait would ask too early. 0s forwards at once and groups nothing.
    pub idle: Interval,
    /// A trace that never gets quiet is released after so long.
    pub max_age: Interval,
    /// A trace is released when it has so many spans; what comes later is its next part.
    pub max_spans_per_trace: u64,
    /// A trace is released when its spans take so much memory.
    pub max_bytes_per_trace: ByteSize,
    /// Where spans are safe until they are delivered.
    pub journal: JournalConfig,
}

/// Where spans are safe until they are delivered: files that survive the process. A sender is answered when its spans
/// are in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// Off: what is in memory is lost with the process.
    pub enabled: bool,
    /// For the files; made if it is not there. One process at a time.
    pub directory: PathBuf,
    /// When the files are made to survive a power loss: always (before a sender is answered), an interval, or never.
    /// A crash of the process, kill -9 too, loses nothing with any of them.
    pub sync: SyncMode,
    /// Beyond it senders are refused: nothing that was taken is thrown away.
    pub max_bytes: ByteSize,
    /// Bytes a second at which what had to wait is sent again, after an outage or a restart; 0B is as fast as the
    /// destination takes it.
    pub replay_rate: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            idle: Interval::from_secs(15),
            max_age: Interval::from_secs(120),
            max_spans_per_trace: 50_000,
            max_bytes_per_trace: ByteSize::from_mib(32),
            journal: JournalConfig::default(),
        }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: PathBuf::from("./tracestitch-data"),
            sync: SyncMode::Every(Interval::from_millis(200)),
            max_bytes: ByteSize::from_mib(10 * 1024),
            replay_rate: ByteSize::from_mib(64),
        }
    }
}

/// One trace takes at most one part in so many of the memory limit; it goes out in segments then.
const TRACE_SHARE: u64 = 16;

/// Two segments, so that there is always one to give back.
const JOURNAL_BYTES_MIN: u64 = 192 * 1024 * 1024;

impl Config {
    /// Notes what can't be used.
    pub fn check(&self, problems: &mut Problems) {
        if self.max_age < self.idle {
            problems.push("max_age", "is shorter than idle", Some("2m is the default"));
        }
        if self.idle > Interval::from_secs(3600) {
            problems.push("idle", "is longer than an hour", None);
        }
        if self.max_spans_per_trace == 0 {
            problems.push("max_spans_per_trace", "must be at least 1", None);
        }
        if self.max_bytes_per_trace.get() < 64 * 1024 {
            problems.push("max_bytes_per_trace", "must be at least 64KiB", None);
        }
        problems.within("journal", |problems| self.journal.check(problems));
    }

    /// What traces wait for; none takes more than its share of this memory.
    pub(super) fn wait(&self, memory_bytes: u64) -> Wait {
        Wait {
            idle: self.idle.get(),
            max_age: self.max_age.get(),
            max_spans: self.max_spans_per_trace,
            max_bytes: self.max_bytes_per_trace.get().min(memory_bytes / TRACE_SHARE),
        }
    }
}

impl JournalConfig {
    pub(super) fn settings(
        &self,
        tuning: Tuning,
        destinations: Vec<String>,
        watched: &Watched,
    ) -> Settings {
        let Tuning { files, segment_bytes, reserve_bytes, straggler_age } = tuning;
        let metrics = Arc::clone(&watched.metrics);
        Settings {
            sync: match self.sync {
                SyncMode::Always => journal::SyncMode::Always,
                SyncMode::Every(interval) => journal::SyncMode::Interval(interval.get()),
                SyncMode::Never => journal::SyncMode::Never,
            },
            max_bytes: self.max_bytes.get(),
            segment_bytes,
            reserve_bytes,
            straggler_age,
            files,
            watchdog: Arc::clone(&watched.watchdog),
            ..Settings::new(self.directory.clone(), destinations, metrics)
        }
    }

    fn check(&self, problems: &mut Problems) {
        if self.max_bytes.get() < JOURNAL_BYTES_MIN {
            problems.push("max_bytes", "must be at least 192MiB", Some("10GiB is the default"));
        }
        if self.enabled && self.directory.as_os_str().is_empty() {
            problems.push("directory", "is empty", Some("name a directory on a real disk"));
        }
    }
}
