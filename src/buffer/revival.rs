//! Parked traces come back from the journal, as far as they can be read.

use std::{collections::HashMap, sync::Arc};

use prost::Message as _;

use super::{
    journal::ReadError,
    keeper::{Keeper, fragment},
    record::{PlanRecord, origin},
};
use crate::{
    clock,
    ledger::{Account, Destination, DropReason},
    memory::Stage,
    trace::{Event, Fragment, Lease, Parked, Place, Plan, TraceKey},
};

/// A parked trace, back in memory.
#[derive(Debug)]
pub struct Revived {
    /// Whose trace.
    pub key: TraceKey,
    /// Its spans, as far as they can be read.
    pub fragments: Vec<Fragment>,
    /// How they go out.
    pub plan: Plan,
    /// With the destinations that have it already settled.
    pub lease: Lease,
    /// The destinations that lack it.
    pub lacking: Vec<Destination>,
}

/// A parked trace, read.
struct Back {
    key: TraceKey,
    fragments: Vec<Fragment>,
    record: PlanRecord,
    /// Which of its parts are there.
    there: Vec<bool>,
}

/// Why a parked trace does not come back.
enum NotBack {
    /// The disk does not answer; it may do so later.
    Unanswered,
    /// Its plan is damaged.
    Planless,
    /// None of its parts can be read.
    Lost,
}

/// So many parked traces in a row that the disk does not give: the others are tried later.
const UNANSWERED_MAX: usize = 8;

impl Keeper {
    /// The oldest trace of those that one of these destinations lacks, back in memory. One that the disk does not give
    /// back stays parked; others may be had meanwhile.
    pub fn revive(&self, ready: impl Fn(Destination) -> bool) -> Option<Revived> {
        let mut unanswered = Vec::new();
        let mut revived = None;
        while revived.is_none() && unanswered.len() < UNANSWERED_MAX {
            let Some(parked) = self.parked.lock().pop(&ready) else { break };
            match self.bring_back(&parked) {
                Ok(back) => revived = Some(self.revived(parked, back)),
                Err(NotBack::Unanswered) => unanswered.push(parked),
                Err(NotBack::Planless) => self.leave(&parked),
                Err(NotBack::Lost) => self.lost(&parked),
            }
        }
        let mut parked = self.parked.lock();
        for trace in unanswered {
            parked.push(trace);
        }
        revived
    }

    fn revived(&self, parked: Parked, back: Back) -> Revived {
        let Back { key, fragments, record, there } = back;
        let is_there = |part: usize| there.get(part).copied().unwrap_or(false);
        let plan = record.plan_for(is_there).unwrap_or_default();
        let readable = fragments.iter().map(|fragment| u64::from(fragment.spans)).sum();
        let lease = self.lease_of(parked, &record, readable);
        let held = fragments.iter().map(Fragment::held_bytes).sum();
        lease.hold(Stage::Export, held);
        let lacking = lease.lacking();
        let lacking = lacking.into_iter().map(|(destination, _)| destination).collect();
        Revived { key, fragments, plan, lease, lacking }
    }

    fn bring_back(&self, parked: &Parked) -> Result<Back, NotBack> {
        let record = match self.read(&parked.plan) {
            Ok(bytes) => PlanRecord::decode(bytes.to_bytes()).map_err(|_| NotBack::Planless)?,
            Err(ReadError::Io { .. }) => return Err(NotBack::Unanswered),
            Err(_) => return Err(NotBack::Planless),
        };
        let origin = origin(record.origin.clone(), &self.origins);
        let places: HashMap<u64, &Place> =
            parked.places.iter().map(|place| (place.number, place)).collect();
        let mut key = None;
        let mut fragments = Vec::with_capacity(record.parts.len());
        let mut there = Vec::with_capacity(record.parts.len());
        for number in &record.parts {
            let read = |place: &&Place| fragment(place, self.journal.read(place));
            let fragment = places.get(number).map(read);
            match fragment {
                Some(Err(ReadError::Io { .. })) => return Err(NotBack::Unanswered),
                Some(Ok((id, fragment))) => {
                    key.get_or_insert_with(|| TraceKey { id, origin: origin.clone() });
                    fragments.push(fragment);
                    there.push(true);
                }
                Some(Err(_)) | None => there.push(false),
            }
        }
        key.map(|key| Back { key, fragments, record, there }).ok_or(NotBack::Lost)
    }

    fn lease_of(&self, parked: Parked, record: &PlanRecord, readable: u64) -> Lease {
        let Parked { durable, places, plan, lacking, life } = parked;
        let memory = self.budget.claim(Stage::Export, 0);
        let spans = record.all_spans();
        let places = places.into_iter().filter(|place| *place != plan).collect();
        let lease = Lease::new(Arc::clone(&self.ledger), spans, memory).kept(durable, places);
        let lease = lease.remembered(life.and_then(|number| self.lives.again(number)).as_ref());
        lease.planned(plan);
        for destination in (0..self.ledger.destinations()).map(Destination) {
            let lacks = lacking.iter().find(|(lacking, _)| *lacking == destination);
            lease.settled_before(destination, spans - lacks.map_or(0, |(_, lacks)| *lacks));
        }
        for (destination, lacks) in lacking {
            // What was given up when it came back before is lacking no more.
            let gone = lacks.saturating_sub(readable);
            if gone > 0 {
                lease.settle(destination, Account::Dropped(DropReason::Damaged), gone);
            }
        }
        lease
    }

    /// How a parked trace was to go out can't be read any more, but its spans may be: they go their own way at the next start.
    fn leave(&self, parked: &Parked) {
        tracing::error!(
            "the journal's record of how a trace goes out is damaged; its spans are sent after the next start"
        );
        self.settle(parked, Account::HandedBack);
    }

    /// Nothing of a parked trace can be read any more.
    fn lost(&self, parked: &Parked) {
        self.settle(parked, Account::Dropped(DropReason::Damaged));
        for (destination, _) in &parked.lacking {
            self.journal.done(destination.0, &parked.places);
        }
        self.journal.release(&parked.places);
    }

    fn settle(&self, parked: &Parked, account: Account) {
        for &(destination, spans) in &parked.lacking {
            self.ledger.settle(destination, account, spans);
            if let Some(life) = parked.life.and_then(|number| self.lives.again(number)) {
                life.note(clock::now(), Event::Settled(destination, account, spans));
            }
        }
    }
}
