//! The promise to a sender: it is answered when its spans are safe.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Fragment, Origin, TraceId, TraceKey};
use crate::memory::{Full, Reservation};

/// One request's spans on their way from a receiver into the buffer.
#[derive(Debug)]
pub struct Arrival {
    /// Whose spans.
    pub origin: Origin,
    /// One fragment per trace.
    pub fragments: Vec<(TraceId, Fragment)>,
    /// The memory they hold.
    pub memory: Reservation,
    /// Settled when they are safe.
    pub receipt: Receipt,
}

/// Takes spans in. The buffer is one; receivers know nothing else of it.
pub trait Intake: Send + Sync {
    /// Says before a request is read why it can't be kept.
    fn refuses(&self) -> Option<Refused>;

    /// Spans of this trace are waiting: a request with more of it is taken as long as there is any room.
    fn is_open(&self, key: &TraceKey) -> bool;

    /// Keeps these spans, or says why not through the receipt.
    fn take(&self, arrival: Arrival);
}

/// Why spans were not kept: always a matter of the moment, the sender may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no memory for them.
    #[error("the memory limit is reached, try again later")]
    MemoryFull,
    /// What memory is left is kept for traces that are open already.
    #[error("memory is short and kept for traces that are open already, try again later")]
    NewTraces,
    /// The program is shutting down.
    #[error("shutting down, try again at another instance")]
    Closing,
    /// The journal has its full size: destinations do not take what it holds.
    #[error("the journal is full, try again later")]
    JournalFull,
    /// The journal can't be written to: nothing can be kept safe.
    #[error("the journal failed and nothing can be kept safe, try again at another instance")]
    JournalFailed,
    /// The request's next bytes did not come for too long: others wait for their turn.
    #[error("the request came too slowly, try again")]
    TooSlow,
    /// Too many other requests are being read, and none of them got on meanwhile.
    #[error("too many requests are being read at once, try again later")]
    Crowded,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::MemoryFull,
        Self::NewTraces,
        Self::Closing,
        Self::JournalFull,
        Self::JournalFailed,
        Self::TooSlow,
        Self::Crowded,
    ];

    /// The reason as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::MemoryFull => "memory_full",
            Self::NewTraces => "new_traces",
            Self::Closing => "closing",
            Self::JournalFull => "journal_full",
            Self::JournalFailed => "journal_failed",
            Self::TooSlow => "too_slow",
            Self::Crowded => "crowded",
        }
    }

    /// With when the sender should come again.
    pub fn after(self, retry_after: Duration) -> Refused {
        Refused { why: self, retry_after }
    }
}

/// A refusal, with when the sender should come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The reason.
    pub why: Refusal,
    /// For `RetryInfo` and `Retry-After`.
    pub retry_after: Duration,
}

impl From<Full> for Refused {
    fn from(full: Full) -> Self {
        Refusal::MemoryFull.after(full.retry_after)
    }
}

/// As soon as the sender likes.
pub const TOO_SLOW: Refused =
    Refused { why: Refusal::TooSlow, retry_after: Duration::from_secs(1) };

/// At another instance, or when this one is back.
pub const CLOSING: Refused = Refused { why: Refusal::Closing, retry_after: Duration::from_secs(1) };

/// Dropped without being settled it is a refusal: nothing is acknowledged that nobody kept.
#[derive(Debug)]
pub struct Receipt(oneshot::Sender<Result<(), Refused>>);

/// Resolves when the receipt is settled.
#[derive(Debug)]
pub struct Safe(oneshot::Receiver<Result<(), Refused>>);

/// A receipt and its other half.
pub fn receipt() -> (Receipt, Safe) {
    let (sender, receiver) = oneshot::channel();
    (Receipt(sender), Safe(receiver))
}

impl Receipt {
    /// The spans are safe, or refused. The sender may have gone meanwhile: then nobody needs to know.
    pub fn settle(self, outcome: Result<(), Refused>) {
        let _gone = self.0.send(outcome);
    }
}

impl Safe {
    /// Waits for the receipt.
    pub async fn wait(self) -> Result<(), Refused> {
        self.0.await.unwrap_or(Err(CLOSING))
    }
}
