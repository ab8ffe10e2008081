//! The nouns that travel between the rooms.

mod answer;
mod id;
mod span;

pub use answer::{
    Answer, Exchange, Found, FoundParent, FoundSpan, ObservationPoint, ResponseStatus, Skip,
};
pub use id::{NotAnId, SpanId, TraceId};
pub use span::{AppSpan, SpanKind, SpanRef};
