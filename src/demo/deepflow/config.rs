//! [`DeepflowConfig`]: how the double behaves from the start.

use std::{fmt, sync::Arc, time::Duration};

use super::{Fault, Row};

/// How the double behaves from the start.
#[derive(Debug, Clone)]
pub struct DeepflowConfig {
    /// What the agents saw, to begin with.
    pub rows: Vec<Row>,
    /// A row can be found this long after the end of its exchange.
    pub visible_after: Duration,
    /// What "now" is for `visible_after`; the default is the end of time, when all rows are there.
    pub clock: WallClock,
    /// Traces of which there are no rows get some, made up from the posted spans.
    pub synthesise: bool,
    /// The first ask of a trace finds half of its rows, each later one all of them: rows are written while it is asked.
    pub grows: bool,
    /// Seed of all chance.
    pub seed: u64,
    /// What is wrong from the start.
    pub fault: Fault,
}

impl Default for DeepflowConfig {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            visible_after: Duration::ZERO,
            clock: WallClock::default(),
            synthesise: false,
            grows: false,
            seed: 1,
            fault: Fault::None,
        }
    }
}

/// Tells the wall time in microseconds since 1970.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// A clock that asks this function.
    pub fn new(now_us: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_us))
    }

    /// The time.
    pub fn now_us(&self) -> u64 {
        (self.0)()
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new(|| u64::MAX)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}
