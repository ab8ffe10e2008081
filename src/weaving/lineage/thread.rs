//! Syscall threads: system calls that one thread of execution made in a row, as the agent's eBPF saw them.

use foldhash::HashMap;

use super::{Few, call::Calls, row::Rows};

/// Which process rows belong to one thread, and which server row a client row was made for.
pub(super) struct Threads {
    /// Row → its thread; `None` for rows without system-call ids.
    of_row: Vec<Option<usize>>,
    /// Thread → its rows.
    rows: Vec<Few>,
    /// Thread → calls that it sent, at most three.
    sent: Vec<Few>,
    /// Client row → the server row during which it started.
    servers: Vec<Option<usize>>,
}

impl Threads {
    pub(super) fn new(rows: &Rows<'_>, calls: &Calls) -> Self {
        let mut threads = Self {
            of_row: vec![None; rows.len()],
            rows: Vec::new(),
            sent: Vec::new(),
            servers: Vec::new(),
        };
        threads.join(rows);
        threads.sent = threads.rows.iter().map(|mates| sent(mates, rows, calls)).collect();
        threads.servers =
            (0..rows.len()).map(|row| threads.find_server(row, rows, calls)).collect();
        threads
    }

    /// A client row's server: what its thread was answering when it made the call.
    pub(super) fn server(&self, row: usize) -> Option<usize> {
        self.servers[row]
    }

    pub(super) fn has_thread(&self, row: usize) -> bool {
        self.of_row[row].is_some()
    }

    /// All rows of a row's thread, itself too; none without a thread.
    pub(super) fn mates(&self, row: usize) -> &[usize] {
        self.of_row[row].map_or(&[], |thread| &self.rows[thread])
    }

    /// Three of the calls that a row's thread sent, or all: enough to know whether there are others than two.
    pub(super) fn some_sent_calls(&self, row: usize) -> &[usize] {
        self.of_row[row].map_or(&[], |thread| &self.sent[thread])
    }

    /// Per agent, rows that share a system-call id are of one thread.
    fn join(&mut self, rows: &Rows<'_>) {
        let mut sets = Sets::new(rows.len());
        let mut first_with = HashMap::default();
        for (place, row) in rows.iter().filter(|(_, row)| row.span.point.is_process()) {
            for id in row.span.syscall_ids.into_iter().filter(|&id| id != 0) {
                let first = *first_with.entry((row.span.agent_id, id)).or_insert(place);
                sets.join(first, place);
                self.of_row[place] = Some(0);
            }
        }
        let mut numbers = HashMap::default();
        for place in 0..rows.len() {
            if self.of_row[place].is_some() {
                let new = self.rows.len();
                let thread = *numbers.entry(sets.find(place)).or_insert(new);
                if thread == new {
                    self.rows.push(Few::new());
                }
                self.rows[thread].push(place);
                self.of_row[place] = Some(thread);
            }
        }
    }

    /// The shortest server row of the thread, of another call, during which the client row starts.
    fn find_server(&self, client: usize, rows: &Rows<'_>, calls: &Calls) -> Option<usize> {
        let row = rows.row(client);
        if !row.is_client_process() {
            return None;
        }
        let is_server = |mate: usize| {
            let other = rows.row(mate);
            other.is_server_process()
                && calls.of_row(mate) != calls.of_row(client)
                && row.time.starts_inside(other.reach, 0)
        };
        let servers = self.mates(client).iter().copied().filter(|&mate| is_server(mate));
        servers.min_by_key(|&mate| (rows.row(mate).reach.length(), mate))
    }
}

fn sent(mates: &[usize], rows: &Rows<'_>, calls: &Calls) -> Few {
    let mut sent = Few::new();
    for &mate in mates {
        let call = calls.of_row(mate);
        if sent.len() < 3 && rows.row(mate).is_client_process() && !sent.contains(&call) {
            sent.push(call);
        }
    }
    sent
}

/// Disjoint sets of places.
struct Sets(Vec<usize>);

impl Sets {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    fn find(&mut self, mut place: usize) -> usize {
        while self.0[place] != place {
            self.0[place] = self.0[self.0[place]];
            place = self.0[place];
        }
        place
    }

    fn join(&mut self, one: usize, other: usize) {
        let [one, other] = [self.find(one), self.find(other)];
        self.0[one.max(other)] = one.min(other);
    }
}
