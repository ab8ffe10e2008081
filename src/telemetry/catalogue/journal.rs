//! Series of the journal.

use metrics::{Counter, Gauge, Histogram};

use super::declare::{Declare, Family};

/// See [`Metrics::journal`](super::Metrics::journal).
#[derive(Debug)]
pub struct JournalMetrics {
    /// Bytes of all segments.
    pub bytes: Gauge,
    /// Bytes they may have.
    pub max_bytes: Gauge,
    /// Files.
    pub segments: Gauge,
    /// Segments begun over an earlier one.
    pub reused_segments: Counter,
    /// Bytes written.
    pub appended_bytes: Counter,
    /// Records written: 0 spans, 1 plans, 2 done, 3 moved.
    pub records: Family<Counter>,
    /// Time of one flush.
    pub sync_duration_seconds: Histogram,
    /// Records and parts that can't be read.
    pub damaged_records: Counter,
    /// Parts copied out of old segments.
    pub moved_parts: Counter,
    /// Appends not kept, by [`WriteFailure`].
    pub write_failures: Family<Counter>,
}

impl JournalMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>) -> Self {
        Self {
            bytes: declare.gauge("tracestitch_journal_bytes", &[], "Bytes of the journal's files."),
            max_bytes: declare.gauge(
                "tracestitch_journal_max_bytes",
                &[],
                "Bytes the journal's files may have; then senders are refused.",
            ),
            segments: declare.gauge(
                "tracestitch_journal_segments",
                &[],
                "Files of the journal; the oldest one is given up when nothing in it is needed.",
            ),
            reused_segments: declare.counter(
                "tracestitch_journal_reused_segments_total",
                &[],
                "Files of the journal that were written over ones which nobody needed any more. Up to 16 of those are kept for it, for ten seconds.",
            ),
            appended_bytes: declare.counter(
                "tracestitch_journal_appended_bytes_total",
                &[],
                "Bytes written to the journal.",
            ),
            records: declare.counters(
                "tracestitch_journal_records_total",
                &[],
                "kind",
                &["spans", "plans", "done", "moved"],
                "Records written to the journal.",
            ),
            sync_duration_seconds: declare.histogram(
                "tracestitch_journal_sync_duration_seconds",
                &[],
                "Time of one flush of a journal's file to the disk.",
            ),
            damaged_records: declare.counter(
                "tracestitch_journal_damaged_records_total",
                &[],
                "Records and parts of the journal that can't be read; the log names file and offset.",
            ),
            moved_parts: declare.counter(
                "tracestitch_journal_moved_parts_total",
                &[],
                "Parts copied out of an old file of the journal, so that it could be deleted.",
            ),
            write_failures: declare.counters(
                "tracestitch_journal_write_failures_total",
                &[],
                "reason",
                &WriteFailure::LABELS,
                "Appends to the journal that were not kept. full passes; poisoned stays until a restart.",
            ),
        }
    }
}

/// Why the journal did not keep an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFailure {
    /// No room, by `max_bytes` or on the disk.
    Full,
    /// A write or a flush failed, now or before.
    Poisoned,
}

impl WriteFailure {
    const LABELS: [&str; 2] = ["full", "poisoned"];
}
