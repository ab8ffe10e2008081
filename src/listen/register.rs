//! Who is here: so many connections at most. When one more comes, those leave that have been silent for longest.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::activity::{Activity, Rank};
use crate::clock::Instant;

/// All connections of one listener.
#[derive(Debug)]
pub(super) struct Register {
    guests: Mutex<Guests>,
    max: usize,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    here: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    activity: Arc<Activity>,
    leave: Arc<Notify>,
}

/// A connection's place; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    number: u64,
    register: Arc<Register>,
    pub(super) activity: Arc<Activity>,
    /// Its place is needed.
    pub(super) leave: Arc<Notify>,
}

impl Register {
    pub(super) fn new(max: usize) -> Self {
        Self { guests: Mutex::default(), max: max.max(1) }
    }

    /// A place for one more, for which others may have to leave; `None` when all are at work.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Option<Guest> {
        let mut guests = self.guests.lock();
        if guests.here.len() >= self.max {
            guests.make_room(self.max);
        }
        if guests.here.len() >= self.max {
            return None;
        }
        let (activity, leave) = (Arc::new(Activity::new(now)), Arc::new(Notify::new()));
        let number = guests.next;
        guests.next += 1;
        let entry = Entry { activity: Arc::clone(&activity), leave: Arc::clone(&leave) };
        guests.here.insert(number, entry);
        Some(Guest { number, register: Arc::clone(self), activity, leave })
    }

    /// Those leave that have been silent for longest.
    pub(super) fn make_room(&self) {
        self.guests.lock().make_room(self.max);
    }
}

/// So many leave at once: each time all must be looked at.
const ROOM_SHARE: usize = 64;

impl Guests {
    fn make_room(&mut self, max: usize) {
        let rank = |(number, entry): (&u64, &Entry)| Some((entry.activity.rank()?, *number));
        let mut idle: Vec<(Rank, u64)> = self.here.iter().filter_map(rank).collect();
        idle.sort_unstable();
        for (_, number) in idle.into_iter().take(1 + max / ROOM_SHARE) {
            if let Some(entry) = self.here.remove(&number) {
                entry.leave.notify_one();
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.register.guests.lock().here.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    fn is_told_to_leave(guest: &Guest) -> bool {
        let mut told = std::pin::pin!(guest.leave.notified());
        told.as_mut().enable()
    }

    #[test]
    fn who_never_asked_goes_before_who_is_idle() {
        let (register, start) = (Arc::new(Register::new(3)), clock::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let enter = |seconds| register.enter(after(seconds));
        let sender = enter(0).expect("room");
        sender.activity.begin();
        sender.activity.end(after(1));
        let silent = enter(2).expect("room");
        let busy = enter(3).expect("room");
        busy.activity.begin();
        let next = enter(4).expect("the silent one goes");
        assert!(is_told_to_leave(&silent));
        next.activity.begin();
        let last = enter(5).expect("the idle one goes");
        assert!(is_told_to_leave(&sender) && !is_told_to_leave(&busy));
        last.activity.begin();
        assert!(enter(6).is_none(), "all are at work");
        drop((silent, sender));
        assert!(enter(6).is_none(), "their places were given away");
        drop(busy);
        assert!(enter(6).is_some());
    }
}
