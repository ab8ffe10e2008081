//! How a series is declared: registered, described, and remembered for the reference.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;

/// One metric, as the reference lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `tracestitch_…`
    pub name: &'static str,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Names of the labels, and their values where these are a closed set.
    pub labels: Vec<(&'static str, Vec<String>)>,
    /// One sentence.
    pub help: &'static str,
}

/// One series for each value of a closed set.
#[derive(Debug)]
pub struct Family<H>(Vec<H>);

impl<H> Family<H> {
    /// The series of the value with this number.
    pub fn of(&self, number: usize) -> Option<&H> {
        self.0.get(number)
    }
}

impl Family<Counter> {
    /// Counts for the value with this number.
    pub fn add(&self, number: usize, count: u64) {
        if let Some(counter) = self.of(number) {
            counter.increment(count);
        }
    }
}

/// Registers, describes and remembers.
pub(super) struct Declare<'a> {
    pub(super) recorder: &'a PrometheusRecorder,
    pub(super) entries: Vec<Entry>,
}

pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Declare<'_> {
    pub(super) fn counter(
        &mut self,
        name: &'static str,
        labels: Labels<'_>,
        help: &'static str,
    ) -> Counter {
        self.recorder.describe_counter(name.into(), None, help.into());
        self.remember(name, "counter", labels, help);
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }

    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        labels: Labels<'_>,
        help: &'static str,
    ) -> Gauge {
        self.recorder.describe_gauge(name.into(), None, help.into());
        self.remember(name, "gauge", labels, help);
        let gauge = self.recorder.register_gauge(&key(name, labels), &METADATA);
        gauge.set(0.0);
        gauge
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        labels: Labels<'_>,
        help: &'static str,
    ) -> Histogram {
        self.recorder.describe_histogram(name.into(), None::<Unit>, help.into());
        self.remember(name, "histogram", labels, help);
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
        labels: Labels<'_>,
        label: &'static str,
        values: &[&str],
        help: &'static str,
    ) -> Family<Counter> {
        let with = |value| [labels, &[(label, value)]].concat();
        Family(values.iter().map(|value| self.counter(name, &with(value), help)).collect())
    }

    pub(super) fn gauges(
        &mut self,
        name: &'static str,
        label: &'static str,
        values: &[&str],
        help: &'static str,
    ) -> Family<Gauge> {
        Family(values.iter().map(|value| self.gauge(name, &[(label, value)], help)).collect())
    }

    fn remember(
        &mut self,
        name: &'static str,
        kind: &'static str,
        labels: Labels<'_>,
        help: &'static str,
    ) {
        let entry = if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry
        } else {
            let labels = labels.iter().map(|(label, _)| (*label, Vec::new())).collect();
            self.entries.push(Entry { name, kind, labels, help });
            let Some(entry) = self.entries.last_mut() else { return };
            entry
        };
        for ((_, values), (_, value)) in entry.labels.iter_mut().zip(labels) {
            if !values.iter().any(|known| known == value) {
                values.push((*value).to_owned());
            }
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("tracestitch", Level::INFO, None);

fn key(name: &'static str, labels: Labels<'_>) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(label, value)| Label::new(*label, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}
