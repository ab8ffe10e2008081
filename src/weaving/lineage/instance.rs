//! Which received spans ran in an instance: a pod, or a host.

use foldhash::HashMap;

use super::{Evidence, Few, clock::Clocks};

/// The spans of the processes that were seen as an instance.
pub(super) struct Instances {
    processes: HashMap<u64, Few>,
    /// By process.
    spans: Vec<Vec<usize>>,
}

impl Instances {
    pub(super) fn new(evidence: &Evidence<'_>, clocks: &Clocks) -> Self {
        let mut processes = HashMap::<_, Few>::default();
        for (instance, process) in clocks.seen() {
            processes.entry(instance).or_default().push(process);
        }
        let count = evidence.apps.nodes().map(|(_, node)| node.process + 1).max().unwrap_or(0);
        let mut spans = vec![Vec::new(); count];
        for (span, node) in evidence.apps.nodes() {
            spans[node.process].push(span);
        }
        Self { processes, spans }
    }

    pub(super) fn spans(&self, instance_id: u64) -> impl Iterator<Item = usize> {
        let processes = self.processes.get(&instance_id).into_iter().flatten();
        processes.flat_map(|&process| &self.spans[process]).copied()
    }
}
