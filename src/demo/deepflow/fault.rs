//! [`Fault`]: what is wrong with the simulated DeepFlow right now.

use std::time::Duration;

/// One thing that can be wrong. Switched with [`super::Deepflow::set_fault`] while the server runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Fault {
    /// All is well.
    #[default]
    None,
    /// Every answer comes this much later.
    Latency(Duration),
    /// At most this many answers in a second, one after the other, as a single CPU-bound worker gives them.
    Capacity {
        /// Answers per second; 0 or less counts as none.
        answers_per_s: f64,
    },
    /// Nobody is there: connections are closed at once, also those that are open.
    Down,
    /// This status with this description.
    Status {
        /// HTTP status.
        status: u16,
        /// DESCRIPTION of the envelope.
        text: String,
    },
    /// 206 PARTIAL_RESULT: a later query of the service failed.
    PartialResult,
    /// 200 with something that is no JSON.
    Garbage,
    /// 200 with a body of this many bytes, streamed.
    Huge(u64),
    /// Never an answer.
    Hang,
    /// Nothing is ever found.
    Unknown,
}
