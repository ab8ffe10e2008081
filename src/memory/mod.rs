//! The process' memory budget: every stage that holds spans' bytes takes them from here and gives them back by drop.

pub mod brim;
pub mod machine;
mod pace;
pub mod rate;
pub mod resident;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use self::brim::Brim;

/// Who holds bytes. The label of `tracestitch_memory_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Requests being read.
    Receiving,
    /// Traces that are still open.
    Buffer,
    /// Traces that wait for DeepFlow, and its answers.
    Answers,
    /// Traces on their way to a destination.
    Export,
    /// What is kept of traces that wait in the journal for a destination without room.
    Parked,
    /// What is remembered of traces that went on, for spans that come later.
    Tombstones,
    /// The lives of the last traces, for people.
    Recent,
}

impl Stage {
    /// All stages, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Receiving,
        Self::Buffer,
        Self::Answers,
        Self::Export,
        Self::Parked,
        Self::Tombstones,
        Self::Recent,
    ];

    /// The stage as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Buffer => "buffer",
            Self::Answers => "answers",
            Self::Export => "export",
            Self::Parked => "parked",
            Self::Tombstones => "tombstones",
            Self::Recent => "recent",
        }
    }
}

/// What goes out, as the way in sees it.
pub trait WayOut: fmt::Debug + Send + Sync {
    /// The most bytes that wait for a destination which takes what it is sent: what waits for one that fails is not on its
    /// way.
    fn behind_bytes(&self) -> u64;

    /// The most bytes that wait for a destination which fails.
    fn stuck_bytes(&self) -> u64;
}

/// A part of the limit that is next to nothing.
const IDLE_SHARE: u64 = 8;

/// Bytes that may be held, and are.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    stages: [AtomicU64; Stage::ALL.len()],
    brim: Brim,
    way_out: OnceLock<Arc<dyn WayOut>>,
}

/// The budget has no room for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the memory limit is reached")]
pub struct Full {
    /// When there should be room again, as fast as memory comes free now.
    pub retry_after: Duration,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            stages: Default::default(),
            brim: Brim::new(limit_bytes),
            way_out: OnceLock::new(),
        })
    }

    /// What happens as it fills.
    pub fn brim(&self) -> &Brim {
        &self.brim
    }

    /// There is room for requests of traces that are not open yet: the last part of the budget is for those that are.
    pub fn takes_new_traces(&self) -> Result<(), Full> {
        if self.brim.takes_new_traces(self.used_bytes()) { Ok(()) } else { Err(self.full()) }
    }

    /// A request of new traces that takes more than this may never be taken, however empty the budget is.
    pub fn request_bytes_max(&self) -> u64 {
        self.brim.request_bytes_max()
    }

    /// So full that nothing more should be taken into memory that can wait outside.
    pub fn is_short(&self) -> bool {
        self.brim.is_short(self.used_bytes())
    }

    /// What goes out is to be seen here from now on; said once.
    pub fn goes_out_by(&self, way_out: Arc<dyn WayOut>) {
        let _said_before = self.way_out.set(way_out);
    }

    /// See [`WayOut::behind_bytes`].
    pub fn behind_bytes(&self) -> u64 {
        self.way_out.get().map_or(0, |way_out| way_out.behind_bytes())
    }

    /// Bytes on their way out, without what waits for a destination that fails.
    pub fn leaving_bytes(&self) -> u64 {
        let stuck = self.way_out.get().map_or(0, |way_out| way_out.stuck_bytes());
        self.stage_bytes(Stage::Export).saturating_sub(stuck)
    }

    /// How long the answer to a sender is to wait, so that what goes out keeps up with what comes in.
    pub fn pace(&self) -> Duration {
        // From that mark on senders of new traces are refused before long, and those of open ones are to come soon.
        if self.is_spilling() { Duration::ZERO } else { pace::pace(self.behind_bytes()) }
    }

    /// So full that spans leave memory.
    pub fn is_spilling(&self) -> bool {
        self.brim.is_spilling(self.used_bytes())
    }

    /// A refusal with its delay.
    pub fn full(&self) -> Full {
        Full { retry_after: self.brim.retry_after(self.used_bytes()) }
    }

    /// Bytes that may be held in all.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Bytes that the marks go by: the limit, or down to half of it while the process is close to its own.
    pub fn allowed_bytes(&self) -> u64 {
        self.brim.allowed_bytes()
    }

    /// So many bytes are resident of those that should be at most: what is beside spans (buffers of connections, pages
    /// the allocator keeps) has no reservations, but must find room.
    pub fn adjust(&self, resident_bytes: u64, resident_max_bytes: u64) {
        self.brim.adjust(self.used_bytes(), resident_bytes, resident_max_bytes);
    }

    /// Next to nothing is held, and all may be.
    pub fn is_idle(&self) -> bool {
        self.used_bytes() < self.limit_bytes / IDLE_SHARE
            && self.allowed_bytes() == self.limit_bytes
    }

    /// At least half of the limit is held.
    pub fn is_half_used(&self) -> bool {
        self.used_bytes() >= self.limit_bytes / 2
    }

    /// Bytes held now.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Relaxed)
    }

    /// Bytes held by one stage.
    pub fn stage_bytes(&self, stage: Stage) -> u64 {
        self.stages.get(stage as usize).map_or(0, |bytes| bytes.load(Relaxed))
    }

    /// Takes bytes at the door, where they can still be refused.
    pub fn reserve(self: &Arc<Self>, stage: Stage, bytes: u64) -> Result<Reservation, Full> {
        let mut reservation = Reservation { budget: Arc::clone(self), stage, bytes: 0 };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Takes bytes that are there already, whatever the limit: what was let in is never thrown away.
    pub fn claim(self: &Arc<Self>, stage: Stage, bytes: u64) -> Reservation {
        let reservation = Reservation { budget: Arc::clone(self), stage, bytes };
        self.add(stage, bytes);
        self.used_bytes.fetch_add(bytes, Relaxed);
        reservation
    }

    fn add(&self, stage: Stage, bytes: u64) {
        if let Some(gauge) = self.stages.get(stage as usize) {
            gauge.fetch_add(bytes, Relaxed);
        }
    }

    fn subtract(&self, stage: Stage, bytes: u64) {
        if let Some(gauge) = self.stages.get(stage as usize) {
            gauge.fetch_sub(bytes, Relaxed);
        }
    }
}

/// Bytes taken from a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    stage: Stage,
    bytes: u64,
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the whole budget.
    pub fn limit_bytes(&self) -> u64 {
        self.budget.limit_bytes
    }

    /// Takes more, if the budget has room.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Full> {
        let limit = self.budget.brim.most_bytes();
        self.budget
            .used_bytes
            .fetch_update(Relaxed, Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= limit)
            })
            .map_err(|_| self.budget.full())?;
        self.budget.add(self.stage, bytes);
        self.bytes += bytes;
        Ok(())
    }

    /// Holds exactly this many from now on, whatever the limit.
    pub fn resize(&mut self, bytes: u64) {
        if bytes >= self.bytes {
            let more = bytes - self.bytes;
            self.budget.used_bytes.fetch_add(more, Relaxed);
            self.budget.add(self.stage, more);
        } else {
            let less = self.bytes - bytes;
            self.budget.used_bytes.fetch_sub(less, Relaxed);
            self.budget.subtract(self.stage, less);
            // What a request took ahead of being read says nothing about how fast traces leave.
            if self.stage != Stage::Receiving {
                self.budget.brim.given_back(less);
            }
        }
        self.bytes = bytes;
    }

    /// The same bytes, held by another stage.
    pub fn transfer(&mut self, stage: Stage) {
        self.budget.subtract(self.stage, self.bytes);
        self.budget.add(stage, self.bytes);
        self.stage = stage;
    }

    /// Takes over another reservation's bytes.
    pub fn absorb(&mut self, mut other: Self) {
        other.transfer(self.stage);
        self.bytes += other.bytes;
        other.bytes = 0;
    }

    /// Splits bytes off into a reservation of their own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Arc::clone(&self.budget), stage: self.stage, bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_whatever_way_they_went() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(Stage::Receiving, 60).expect("there is room");
        assert!(budget.reserve(Stage::Receiving, 41).is_err());
        let part = first.split(20);
        first.transfer(Stage::Buffer);
        assert_eq!(
            (budget.stage_bytes(Stage::Receiving), budget.stage_bytes(Stage::Buffer)),
            (20, 40)
        );
        first.absorb(part);
        let forced = budget.claim(Stage::Answers, 500);
        assert_eq!(budget.used_bytes(), 560);
        drop((first, forced));
        assert_eq!(budget.used_bytes(), 0);
        assert!(Stage::ALL.iter().all(|&stage| budget.stage_bytes(stage) == 0));
    }
}
