//! What would be said of every request, said once a minute.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Instant;

const EVERY: Duration = Duration::from_mins(1);
/// Of a message in a line of the log.
const MESSAGE_CHARS_MAX: usize = 500;

/// One kind of complaint about one destination.
#[derive(Debug, Default)]
pub(super) struct Complaint(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    /// Times that nothing was said since.
    unsaid: u64,
}

impl Complaint {
    /// It is to be said now, with how often it was not before; `None` when it was said within the last minute.
    pub(super) fn due(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        if said.last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }
}

/// What a destination says, as far as a line of the log has room.
pub(super) fn in_a_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
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
