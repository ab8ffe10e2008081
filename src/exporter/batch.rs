//! Whole traces gathered into requests.

use std::{collections::VecDeque, sync::Arc};

use super::queue::Queued;
use crate::{
    clock::Instant,
    trace::{Origin, Piece},
    wire::{Pieces, splice},
};

/// Traces of one origin on their way into one request.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) origin: Origin,
    pub(super) items: Vec<(Arc<Queued>, Piece)>,
    pub(super) bytes: usize,
    /// When the first trace came.
    pub(super) since: Instant,
}

impl Batch {
    /// The request.
    pub(super) fn pieces(&self) -> Pieces {
        self.items.iter().map(|(_, piece)| piece.bytes.clone()).collect()
    }

    pub(super) fn app_spans(&self) -> u64 {
        self.items.iter().map(|(_, piece)| piece.app_spans).sum()
    }

    pub(super) fn added_spans(&self) -> u64 {
        self.items.iter().map(|(_, piece)| piece.added_spans).sum()
    }
}

/// Batches that are still growing, one for each origin, and those that are full.
#[derive(Debug)]
pub(super) struct Batches {
    target_bytes: usize,
    bytes_max: usize,
    growing: Vec<Batch>,
    full: VecDeque<Batch>,
}

impl Batches {
    pub(super) fn new(target_bytes: usize, bytes_max: usize) -> Self {
        Self { target_bytes, bytes_max, growing: Vec::new(), full: VecDeque::new() }
    }

    /// Adds a trace. It stays whole as far as a request can hold it.
    pub(super) fn add(&mut self, now: Instant, queued: Queued) {
        let queued = Arc::new(queued);
        let trace = &queued.trace;
        let origin = trace.key.origin.clone();
        let trace_bytes: usize = trace.pieces.iter().map(|piece| piece.bytes.len()).sum();
        self.make_room(&origin, trace_bytes.min(self.bytes_max));
        for piece in &trace.pieces {
            if piece.bytes.len() <= self.bytes_max {
                self.add_piece(now, &origin, &queued, piece.clone());
                continue;
            }
            for part in cut(piece, self.bytes_max) {
                self.add_piece(now, &origin, &queued, part);
            }
        }
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
        let too_full =
            |batch: &Batch| batch.origin == *origin && batch.bytes + bytes > self.bytes_max;
        if let Some(index) = self.growing.iter().position(too_full) {
            let batch = self.growing.swap_remove(index);
            self.full.push_back(batch);
        }
    }

    /// The next request to send: a full one, else the oldest, if that is `due` already.
    pub(super) fn next(&mut self, due: impl Fn(&Batch) -> bool) -> Option<Batch> {
        if let Some(batch) = self.full.pop_front() {
            return Some(batch);
        }
        let oldest = self.growing.iter().enumerate().min_by_key(|(_, batch)| batch.since);
        let (index, _) = oldest.filter(|(_, batch)| due(batch))?;
        Some(self.growing.swap_remove(index))
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

fn cut(piece: &Piece, bytes_max: usize) -> Vec<Piece> {
    // Our own bytes: the scan can't fail, and if it did the piece would go as it is.
    let Ok(parts) = splice::cut(&piece.bytes, bytes_max) else { return vec![piece.clone()] };
    let part = |(bytes, spans): (Vec<u8>, usize)| {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        let (app_spans, added_spans) = if piece.app_spans > 0 { (spans, 0) } else { (0, spans) };
        Piece { bytes: bytes.into(), app_spans, added_spans }
    };
    parts.into_iter().map(part).collect()
}
