//! A trace as it leaves.

use super::{Lease, TraceKey};
use crate::wire::Spliced;

/// Every input span is in it, byte for byte but for `parent_span_id` and the attribute that keeps the former one.
#[derive(Debug)]
pub struct EnrichedTrace {
    /// Whose trace.
    pub key: TraceKey,
    /// Its bytes, piece by piece.
    pub pieces: Vec<Piece>,
    /// Ends when every destination has the trace or has given it up.
    pub lease: Lease,
}

/// An `ExportTraceServiceRequest` of some spans; pieces one after the other are one, too.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Wire bytes.
    pub bytes: Spliced,
    /// Received spans in it.
    pub app_spans: u64,
    /// Added spans in it.
    pub added_spans: u64,
}

/// What a piece costs beside its bytes: here, in a batch, in the request's list.
const PIECE_BYTES: usize = 2 * size_of::<Piece>() + size_of::<Spliced>();
/// What a trace costs beside its pieces: its lease, its lists, its place in a queue.
const OVERHEAD_BYTES: u64 = 500;

impl EnrichedTrace {
    /// Wire bytes of all pieces.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX)).sum()
    }

    /// Memory that the trace holds until every destination has it.
    pub fn held_bytes(&self) -> u64 {
        let pieces = u64::try_from(self.pieces.len() * PIECE_BYTES).unwrap_or(u64::MAX);
        self.bytes() + pieces + OVERHEAD_BYTES
    }

    /// Received spans.
    pub fn app_spans(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.app_spans).sum()
    }

    /// Added spans.
    pub fn added_spans(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.added_spans).sum()
    }
}
