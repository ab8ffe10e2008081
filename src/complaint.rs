//! What would be said of every request, or every append, said once a minute.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Instant;

const EVERY: Duration = Duration::from_mins(1);

/// One kind of complaint about one thing.
#[derive(Debug, Default)]
pub struct Complaint(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    /// Times that nothing was said since.
    unsaid: u64,
}

impl Complaint {
    /// It is to be said now, with how often it was not before; `None` when it was said within the last minute.
    pub fn due(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        if said.last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn it_is_made_once_a_minute_and_tells_of_the_others() {
        let (now, complaint) = (clock::now(), Complaint::default());
        let due = |after_s| complaint.due(now + Duration::from_secs(after_s));
        assert_eq!([0, 1, 59, 60, 61, 120].map(due), [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
