//! [`Correction`]: how far the clocks of the agents' hosts differ, guessed from the edges between them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Row, Signal};

/// What the edges say about the clocks: a child should lie inside its parent.
#[derive(Debug, Default)]
pub(super) struct Correction {
    /// Host of the parent → hosts of its children.
    below: BTreeMap<u64, BTreeSet<u64>>,
    /// Host of a child → least and greatest shift that puts it inside.
    shifts_us: BTreeMap<u64, (i64, i64)>,
}

impl Correction {
    /// Takes an edge into account.
    pub(super) fn learn(&mut self, child: &Row, parent: &Row) {
        if child.agent_id == parent.agent_id {
            return;
        }
        let mut start_us = parent.start_us.saturating_sub(child.start_us);
        let mut end_us = parent.end_us.saturating_sub(child.end_us);
        if (child.signal == Signal::Otel) != (parent.signal == Signal::Otel) {
            if child.point == "app" || parent.point == "app" {
                return;
            }
            // Between an application and an agent only whole milliseconds count: the rest is overhead, not clocks.
            start_us = start_us / 1000 * 1000;
            end_us = end_us / 1000 * 1000;
        }
        self.note(parent.agent_id, child.agent_id, start_us, end_us);
    }

    /// Microseconds to add to each agent's times, where not zero.
    pub(super) fn settle(&self) -> BTreeMap<u64, i64> {
        let mut settled = BTreeMap::new();
        for (&base, children) in &self.below {
            if self.shifts_us.contains_key(&base) {
                continue;
            }
            settled.entry(base).or_insert(0);
            let mut stack: Vec<(u64, i64)> = children.iter().map(|&child| (child, 0)).collect();
            while let Some((host, parent_us)) = stack.pop() {
                let shift_us = self.least_shift_us(host) + parent_us;
                let kept_us = settled.get(&host).map_or(shift_us, |&known| nearer(known, shift_us));
                settled.insert(host, kept_us);
                let below = self.below.get(&host).into_iter().flatten();
                stack.extend(
                    below.filter(|host| !settled.contains_key(host)).map(|&host| (host, shift_us)),
                );
            }
        }
        settled.retain(|_, shift_us| *shift_us != 0);
        settled
    }

    fn note(&mut self, parent: u64, child: u64, start_us: i64, end_us: i64) {
        let turned = self.below.get(&child).is_some_and(|hosts| hosts.contains(&parent));
        let (parent, child, sign) = if turned { (child, parent, -1) } else { (parent, child, 1) };
        let (start_us, end_us) = (start_us.saturating_mul(sign), end_us.saturating_mul(sign));
        self.below.entry(parent).or_default().insert(child);

        let (mut least, mut greatest) = (start_us.min(end_us), start_us.max(end_us));
        if let Some(known) = self.shifts_us.get(&child) {
            least = least.max(known.0);
            greatest = greatest.min(known.1);
            // Edges that contradict each other: the first ones stay.
            if least > greatest {
                return;
            }
        }
        self.shifts_us.insert(child, (least, greatest));
    }

    fn least_shift_us(&self, host: u64) -> i64 {
        match self.shifts_us.get(&host) {
            Some(&(least, greatest)) if greatest < 0 => greatest.max(least),
            Some(&(least, _)) if least > 0 => least,
            _ => 0,
        }
    }
}

/// Of two shifts the smaller; none when they point in different directions.
fn nearer(one: i64, other: i64) -> i64 {
    match (one.signum(), other.signum()) {
        (-1, -1) => one.max(other),
        (1, 1) => one.min(other),
        _ => 0,
    }
}
