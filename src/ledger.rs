//! The account of every accepted span, once for each destination:
//! `accepted + recovered = delivered + dead_lettered + dropped{reason} + handed_back + held`.
//!
//! Double entry: `Books::transfer` alone moves spans from one account to another, under one short lock per fragment
//! or export request. What does not add up is shown as `unaccounted`, and must stay 0.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::Mutex;

/// Number of a destination, in the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination(pub usize);

/// Where an accepted span is, for one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// In the buffer, waiting for an answer, or on its way.
    Held,
    /// The destination has it.
    Delivered,
    /// In the dead-letter file, to be sent again by hand.
    DeadLettered,
    /// Left in the journal when the program ended; the next start recovers it.
    HandedBack,
    /// Given up, and why.
    Dropped(DropReason),
}

impl Account {
    /// The account in a word; why spans were dropped is [`DropReason::label`].
    pub fn label(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::DeadLettered => "dead_lettered",
            Self::HandedBack => "handed_back",
            Self::Dropped(_) => "dropped",
        }
    }
}

/// Why spans were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The destination took the request and refused these spans (OTLP partial success).
    Rejected,
    /// The destination answered that it will never take the request.
    Permanent,
    /// The destination's queue is full, and it may not hold up the others.
    QueueFull,
    /// Retried for `max_elapsed_time` without success.
    RetriesExhausted,
    /// The dead-letter files are full.
    DeadLetterFull,
    /// The dead-letter file can't be written.
    DeadLetterFailed,
    /// The program ended before they could be sent.
    Shutdown,
    /// The journal's copy of them can't be read any more.
    Damaged,
    /// They were let go without an account: a fault of this program.
    Lost,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Rejected,
        Self::Permanent,
        Self::QueueFull,
        Self::RetriesExhausted,
        Self::DeadLetterFull,
        Self::DeadLetterFailed,
        Self::Shutdown,
        Self::Damaged,
        Self::Lost,
    ];

    /// The reason as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Permanent => "permanent_error",
            Self::QueueFull => "queue_full",
            Self::RetriesExhausted => "retries_exhausted",
            Self::DeadLetterFull => "dead_letter_full",
            Self::DeadLetterFailed => "dead_letter_failed",
            Self::Shutdown => "shutdown",
            Self::Damaged => "damaged",
            Self::Lost => "lost",
        }
    }
}

/// The books of all destinations.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Vec<Books>>,
    destinations: usize,
    ending: AtomicBool,
}

/// One destination's accounts, as they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Books {
    /// The destination's name.
    pub destination: String,
    /// Spans taken at the door.
    pub accepted: i64,
    /// Spans that an earlier run left in the journal.
    pub recovered: i64,
    /// Spans somewhere in the program.
    pub held: i64,
    /// Spans the destination has.
    pub delivered: i64,
    /// Spans in the dead-letter file.
    pub dead_lettered: i64,
    /// Spans left in the journal for the next start.
    pub handed_back: i64,
    dropped: [i64; DropReason::ALL.len()],
}

impl Books {
    /// Spans given up for this reason.
    pub fn dropped(&self, reason: DropReason) -> i64 {
        self.dropped.get(reason as usize).copied().unwrap_or(0)
    }

    /// What does not add up: accepted spans in no account, and spans taken out of an account that did not hold them.
    pub fn unaccounted(&self) -> i64 {
        let dropped: i64 = self.dropped.iter().sum();
        let ended = self.delivered + self.dead_lettered + dropped + self.handed_back;
        let sum = self.accepted + self.recovered - ended - self.held;
        let overdrawn = self.held.min(0);
        sum.abs() - overdrawn
    }

    fn account(&mut self, account: Account) -> Option<&mut i64> {
        match account {
            Account::Held => Some(&mut self.held),
            Account::Delivered => Some(&mut self.delivered),
            Account::DeadLettered => Some(&mut self.dead_lettered),
            Account::HandedBack => Some(&mut self.handed_back),
            Account::Dropped(reason) => self.dropped.get_mut(reason as usize),
        }
    }

    fn transfer(&mut self, from: Account, to: Account, spans: i64) {
        if let Some(balance) = self.account(from) {
            *balance -= spans;
        }
        if let Some(balance) = self.account(to) {
            *balance += spans;
        }
    }
}

impl Ledger {
    /// Books for these destinations.
    pub fn new(destinations: impl IntoIterator<Item = String>) -> Arc<Self> {
        let books = destinations.into_iter();
        let books = books.map(|destination| Books { destination, ..Books::default() });
        let books: Vec<Books> = books.collect();
        let destinations = books.len();
        Arc::new(Self { books: Mutex::new(books), destinations, ending: AtomicBool::new(false) })
    }

    /// Spans came in through the door and are held, for every destination.
    pub fn accept(&self, spans: u64) {
        let spans = signed(spans);
        for books in self.books.lock().iter_mut() {
            books.accepted += spans;
            books.held += spans;
        }
    }

    /// Spans came back out of the journal and are held, for a destination that lacks them.
    pub fn recover(&self, destination: Destination, spans: u64) {
        if let Some(books) = self.books.lock().get_mut(destination.0) {
            books.recovered += signed(spans);
            books.held += signed(spans);
        }
    }

    /// Held spans found their end at one destination.
    pub fn settle(&self, destination: Destination, to: Account, spans: u64) {
        if let Some(books) = self.books.lock().get_mut(destination.0) {
            books.transfer(Account::Held, to, signed(spans));
        }
    }

    /// The program ends before all is sent: what is let go from now on is dropped for that reason.
    pub fn end(&self) {
        self.ending.store(true, Relaxed);
    }

    /// The program is ending.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    /// Why spans are dropped that are let go without an account.
    pub fn reason_for_letting_go(&self) -> DropReason {
        if self.is_ending() { DropReason::Shutdown } else { DropReason::Lost }
    }

    /// All books at one moment.
    pub fn snapshot(&self) -> Vec<Books> {
        self.books.lock().clone()
    }

    /// The destinations' names, in order.
    pub fn names(&self) -> Vec<String> {
        self.books.lock().iter().map(|books| books.destination.clone()).collect()
    }

    /// How many destinations there are.
    pub fn destinations(&self) -> usize {
        self.destinations
    }
}

fn signed(spans: u64) -> i64 {
    i64::try_from(spans).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_balance_and_overdrawing_shows() {
        let ledger = Ledger::new(["a".to_owned(), "b".to_owned()]);
        ledger.accept(10);
        ledger.settle(Destination(0), Account::Delivered, 7);
        ledger.settle(Destination(0), Account::Dropped(DropReason::Rejected), 3);
        let [a, b] = ledger.snapshot().try_into().expect("two destinations");
        assert_eq!(
            (a.held, a.delivered, a.dropped(DropReason::Rejected), a.unaccounted()),
            (0, 7, 3, 0)
        );
        assert_eq!((b.held, b.unaccounted()), (10, 0));
        ledger.settle(Destination(0), Account::Delivered, 1);
        assert_eq!(ledger.snapshot().first().map(Books::unaccounted), Some(1));
    }
}
