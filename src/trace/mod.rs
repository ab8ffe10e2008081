//! The nouns that travel between the rooms.
//!
//! A request is [`split`] into [`Fragment`]s, one per trace. The buffer keeps fragments until the trace is a
//! [`QuietTrace`], completion gives it an [`Answer`], weaving makes both an [`EnrichedTrace`]. A [`Receipt`] follows
//! every request until its spans are safe, a [`Lease`] every trace until it is delivered. A trace may go out in parts: what
//! went out of it already is [`Sent`].

mod answer;
mod enriched;
mod fragment;
mod lease;
mod life;
mod lives;
mod origin;
mod place;
mod plan;
mod quiet;
mod receipt;
mod relay;
mod sent;
mod settlement;
mod sharing;
mod span;
mod split;
mod text;
pub mod told;

pub use crate::wire::{NotAnId, SpanId, SpanKind, TraceId};
pub use answer::{
    Answer, AskOutcome, Exchange, Found, FoundParent, FoundSpan, ObservationPoint, ResponseStatus,
    Skip,
};
pub use enriched::{EnrichedTrace, Piece};
pub use fragment::{Fragment, Rejected, Split, SplitError};
pub use lease::{Durable, Lease, Parked};
pub use life::{Additions, Arrivals, Event, Life};
pub use lives::Lives;
pub use origin::{HEADERS_MAX, Origin, Origins, TraceKey, VALUE_BYTES_MAX};
pub use place::Place;
pub use plan::{NewParent, Plan, PlanError};
pub use quiet::{QuietTrace, Release};
pub use receipt::{Arrival, CLOSING, Intake, Receipt, Refusal, Refused, Safe, TOO_SLOW, receipt};
pub use relay::{Parcel, Relay, Relayed, Signal};
pub use sent::{Forgotten, Sent, SentRow, SentSpan};
pub use settlement::Settlement;
pub use span::{AppSpan, SpanRef};
pub use split::{Scanned, index_bytes, scan, scan_counted, split, written};
pub use text::Text;
