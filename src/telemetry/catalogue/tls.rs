//! Series of TLS files.

use metrics::Counter;

use super::{
    connections::Listening,
    declare::{Declare, Family},
};

/// See [`Metrics::tls`](super::Metrics::tls).
#[derive(Debug)]
pub struct TlsMetrics {
    reloads: Vec<(String, Family<Counter>)>,
}

/// As metrics name who asks DeepFlow.
pub const DEEPFLOW: &str = "deepflow";

impl TlsMetrics {
    pub(super) fn declare(declare: &mut Declare<'_>, exporters: &[String]) -> Self {
        let fixed = Listening::ALL.map(Listening::label).into_iter().chain([DEEPFLOW]);
        let places = fixed.chain(exporters.iter().map(String::as_str));
        let mut family = |place: &str| {
            declare.counters(
                "tracestitch_tls_reloads_total",
                &[("place", place)],
                "outcome",
                &ReloadOutcome::LABELS,
                "TLS files that changed: ok (in use for new connections), failed (can't be used, the former ones stay; the log says why). place: grpc, http, admin, deepflow, or an exporter.",
            )
        };
        let reloads = places.map(|place| (place.to_owned(), family(place))).collect();
        Self { reloads }
    }

    /// Files of this place were read again.
    pub fn reloaded(&self, place: &str, outcome: ReloadOutcome) {
        if let Some((_, reloads)) = self.reloads.iter().find(|(known, _)| known == place) {
            reloads.add(outcome as usize, 1);
        }
    }
}

/// What became of files that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// They are in use.
    Ok,
    /// They can't be used.
    Failed,
}

impl ReloadOutcome {
    const LABELS: [&str; 2] = ["ok", "failed"];
}
