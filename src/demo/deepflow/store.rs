//! The row store: what the agents have written so far, and the search that a trace-completion ask starts.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Row, Signal};
use crate::trace::Exchange;

/// The service finds no more rows in one query (contract fact 5, `l7_tracing_limit`).
const QUERY_ROWS_MAX: usize = 1000;

/// Rows with the indexes that the search needs.
#[derive(Debug, Default)]
pub(super) struct Store {
    rows: Vec<Row>,
    by_key: HashMap<Key, Vec<usize>>,
}

/// What one row can be reached by from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Trace(String),
    RequestSeq(u64),
    ResponseSeq(u64),
    Syscall { agent_id: u64, id: u64 },
    XRequest(String),
}

/// What a search may see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// First and last second in which a row may end.
    pub window_s: (i64, i64),
    /// Rows that end later are not written yet.
    pub written_until_us: i64,
    /// How often the search widens.
    pub iterations_max: usize,
}

impl Store {
    pub(super) fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            let place = self.rows.len();
            for key in own_keys(&row) {
                self.by_key.entry(key).or_default().push(place);
            }
            self.rows.push(row);
        }
    }

    pub(super) fn forget_before(&mut self, time_us: i64) {
        let rows = std::mem::take(self).rows;
        self.add(rows.into_iter().filter(|row| row.end_us >= time_us));
    }

    /// The rows of the trace and those that hang on them by tcp sequence, system call or request id.
    pub(super) fn search(&self, trace_id: &str, reach: Reach) -> Vec<Row> {
        let mut found: BTreeSet<usize> =
            self.visible(&Key::Trace(trace_id.to_owned()), reach).take(QUERY_ROWS_MAX).collect();
        let mut fresh: Vec<usize> = found.iter().copied().collect();
        let mut asked = HashSet::new();
        for _ in 0..reach.iterations_max {
            let keys = fresh.iter().flat_map(|&place| linking_keys(&self.rows[place]));
            let keys: Vec<Key> = keys.filter(|key| asked.insert(key.clone())).collect();
            let mut next = BTreeSet::new();
            for key in &keys {
                next.extend(self.visible(key, reach).filter(|place| !found.contains(place)));
            }
            fresh = next.into_iter().take(QUERY_ROWS_MAX).collect();
            if fresh.is_empty() {
                break;
            }
            found.extend(&fresh);
        }
        found.into_iter().take(QUERY_ROWS_MAX).map(|place| self.rows[place].clone()).collect()
    }

    fn visible(&self, key: &Key, reach: Reach) -> impl Iterator<Item = usize> {
        let places = self.by_key.get(key).map_or(&[][..], Vec::as_slice);
        places.iter().copied().filter(move |&place| {
            let row = &self.rows[place];
            let end_s = row.end_us.div_euclid(1_000_000);
            (reach.window_s.0..=reach.window_s.1).contains(&end_s)
                && row.end_us <= reach.written_until_us
        })
    }
}

fn own_keys(row: &Row) -> Vec<Key> {
    let traces = row.trace_ids().map(|id| Key::Trace(id.to_owned()));
    traces.chain(linking_keys(row)).collect()
}

/// UDP has no sequence numbers, so DNS packets are never reached (contract section 10, 15).
fn linking_keys(row: &Row) -> Vec<Key> {
    if row.signal == Signal::Otel {
        return Vec::new();
    }
    let mut keys = Vec::new();
    if row.exchange != Exchange::Response && row.tcp_seqs[0] != 0 {
        keys.push(Key::RequestSeq(row.tcp_seqs[0]));
    }
    if row.exchange != Exchange::Request && row.tcp_seqs[1] != 0 {
        keys.push(Key::ResponseSeq(row.tcp_seqs[1]));
    }
    // One id for both halves marks the first or last process of a chain: nothing passes through it.
    if row.syscall_ids[0] != row.syscall_ids[1] {
        let ids = row.syscall_ids.iter().filter(|id| **id != 0);
        keys.extend(ids.map(|&id| Key::Syscall { agent_id: row.agent_id, id }));
    }
    let x_request_ids = row.x_request_ids.iter().filter(|id| !id.is_empty());
    keys.extend(x_request_ids.map(|id| Key::XRequest(id.clone())));
    keys
}
