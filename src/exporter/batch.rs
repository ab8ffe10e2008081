//! Whole traces gathered into requests.

use std::{collections::VecDeque, sync::Arc};

use super::{Profile, body::Pieces, profile::Fitted, queued::Queued};
use crate::{
    clock::Instant,
    trace::{Origin, Piece},
    wire::splice,
};

/// Pieces of one origin on their way into one request, each with whose it is.
#[derive(Debug)]
pub(super) struct Batch<O> {
    pub(super) origin: Origin,
    pub(super) items: Vec<(O, Piece)>,
    pub(super) bytes: usize,
    /// When the first trace came.
    pub(super) since: Instant,
}

impl<O> Batch<O> {
    /// The request.
    pub(super) fn pieces(&self) -> Pieces {
        self.items.iter().map(|(_, piece)| piece.bytes.clone()).collect()
    }

    /// It is more than one span: it can be halved.
    pub(super) fn is_divisible(&self) -> bool {
        self.app_spans() + self.added_spans() > 1
    }

    pub(super) fn app_spans(&self) -> u64 {
        self.items.iter().map(|(_, piece)| piece.app_spans).sum()
    }

    pub(super) fn added_spans(&self) -> u64 {
        self.items.iter().map(|(_, piece)| piece.added_spans).sum()
    }
}

impl<O: Clone + PartialEq> Batch<O> {
    /// In two: between owners, else between pieces, else between the spans of the one piece. A single span comes back
    /// as it is.
    pub(super) fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.items.len() > 1 {
            let at = self.middle();
            let second = self.items.split_off(at);
            return Ok((self.of(self.items.clone()), self.of(second)));
        }
        let Some((owner, piece)) = self.items.first() else { return Err(self) };
        let mut parts = cut(piece, piece.bytes.len() / 2);
        if parts.len() < 2 {
            return Err(self);
        }
        let second = parts.split_off(parts.len() / 2);
        let owned = |parts: Vec<Piece>| parts.into_iter().map(|part| (owner.clone(), part));
        Ok((self.of(owned(parts).collect()), self.of(owned(second).collect())))
    }

    /// In as many parts as it takes for none to be larger, as far as single spans allow; the first part comes last.
    pub(super) fn within(self, bytes_max: usize) -> Vec<Self> {
        let mut open = vec![self];
        let mut parts = Vec::new();
        while let Some(batch) = open.pop() {
            if batch.bytes <= bytes_max {
                parts.push(batch);
                continue;
            }
            match batch.halves() {
                Ok((first, second)) => open.extend([second, first]),
                Err(single) => parts.push(single),
            }
        }
        parts.reverse();
        parts
    }

    /// The boundary nearest to half of the bytes, between two owners if there are two.
    fn middle(&self) -> usize {
        let mut before = 0;
        let mut best = (true, usize::MAX, 1);
        for (index, pair) in self.items.windows(2).enumerate() {
            let [(left, piece), (right, _)] = pair else { continue };
            before += piece.bytes.len();
            best = best.min((left == right, before.abs_diff(self.bytes / 2), index + 1));
        }
        best.2
    }

    fn of(&self, items: Vec<(O, Piece)>) -> Self {
        let bytes = items.iter().map(|(_, piece)| piece.bytes.len()).sum();
        Self { origin: self.origin.clone(), items, bytes, since: self.since }
    }
}

/// Batches that are still growing, one for each origin, and those that are full.
#[derive(Debug)]
pub(super) struct Batches {
    target_bytes: usize,
    bytes_max: usize,
    profile: Profile,
    growing: Vec<Batch<Arc<Queued>>>,
    full: VecDeque<Batch<Arc<Queued>>>,
}

impl Batches {
    pub(super) fn new(target_bytes: usize, bytes_max: usize, profile: Profile) -> Self {
        Self { target_bytes, bytes_max, profile, growing: Vec::new(), full: VecDeque::new() }
    }

    /// Adds a trace, as the destination's profile will have it. It stays whole as far as a request can hold it.
    pub(super) fn add(&mut self, now: Instant, queued: Queued) -> Fitted {
        let queued = Arc::new(queued);
        let trace = &queued.share.trace;
        let origin = trace.key.origin.clone();
        let (pieces, fitted) = self.profile.fit(&trace.pieces);
        let trace_bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        self.make_room(&origin, trace_bytes.min(self.bytes_max));
        for piece in pieces.iter() {
            if piece.bytes.len() <= self.bytes_max {
                self.add_piece(now, &origin, &queued, piece.clone());
                continue;
            }
            for part in cut(piece, self.bytes_max) {
                self.add_piece(now, &origin, &queued, part);
            }
        }
        fitted
    }

    fn add_piece(&mut self, now: Instant, origin: &Origin, queued: &Arc<Queued>, piece: Piece) {
        self.make_room(origin, piece.bytes.len());
        let index = self.growing.iter().position(|batch| batch.origin == *origin);
        let index = index.unwrap_or_else(|| {
            let origin = origin.clone();
            self.growing.push(Batch { origin, items: Vec::new(), bytes: 0, since: now });
            self.growing.len() - 1
        });
        let Some(batch) = self.growing.get_mut(index) else { return };
        batch.bytes += piece.bytes.len();
        batch.items.push((Arc::clone(queued), piece));
        if batch.bytes >= self.target_bytes {
            let batch = self.growing.swap_remove(index);
            self.full.push_back(batch);
        }
    }

    fn make_room(&mut self, origin: &Origin, bytes: usize) {
        let too_full = |batch: &Batch<Arc<Queued>>| {
            batch.origin == *origin && batch.bytes + bytes > self.bytes_max
        };
        if let Some(index) = self.growing.iter().position(too_full) {
            let batch = self.growing.swap_remove(index);
            self.full.push_back(batch);
        }
    }

    /// The next request to send: the oldest if that is `due` already, before a full one that began later; else a full one. One
    /// origin that always has full ones holds up no other.
    pub(super) fn next(
        &mut self,
        due: impl Fn(&Batch<Arc<Queued>>) -> bool,
    ) -> Option<Batch<Arc<Queued>>> {
        let oldest = self.growing.iter().enumerate().min_by_key(|(_, batch)| batch.since);
        let full = self.full.front().map(|batch| batch.since);
        match oldest.filter(|(_, batch)| full.is_none_or(|full| batch.since < full) && due(batch)) {
            Some((index, _)) => Some(self.growing.swap_remove(index)),
            None => self.full.pop_front(),
        }
    }

    /// When the oldest growing batch began.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.growing.iter().map(|batch| batch.since).min()
    }

    pub(super) fn has_full(&self) -> bool {
        !self.full.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.growing.is_empty()
    }
}

/// In parts of so many bytes, as far as single spans allow.
pub(super) fn cut(piece: &Piece, bytes_max: usize) -> Vec<Piece> {
    // Our own bytes: the scan can't fail, and if it did the piece would go as it is.
    let Ok(parts) = splice::cut(&piece.bytes.to_bytes(), bytes_max) else {
        return vec![piece.clone()];
    };
    let part = |(bytes, spans): (Vec<u8>, usize)| {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        let (app_spans, added_spans) = if piece.app_spans > 0 { (spans, 0) } else { (0, spans) };
        Piece { bytes: bytes.into(), app_spans, added_spans }
    };
    parts.into_iter().map(part).collect()
}
