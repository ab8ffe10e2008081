//! The thread that writes dead letters.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
};

use super::{
    Letter, Posted,
    line::{self, Letterhead},
    series::{self, AppendError, FileLimits, Series},
};
use crate::{
    clock::{self, Instant},
    complaint::Complaint,
    exporter::{accounts::Accounts, batch, share::Share},
    ledger::{Account, DropReason},
    trace::Piece,
    watchdog::{BEAT_EVERY, Beat},
};

/// Letters that are made safe with one sync.
const GROUP_MAX: usize = 64;

/// Wire bytes of a line, as far as single spans allow: readers take lines whole.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The files of all destinations.
pub(super) struct Writer {
    limits: FileLimits,
    /// All that may ever be written for.
    destinations: Vec<String>,
    beat: Beat,
    series: HashMap<String, Series>,
    complaints: Complaints,
}

/// Pieces whose spans find their end together.
type Parts = Vec<(Arc<Share>, Piece)>;

/// Parts that were written, or could not be.
struct Written {
    accounts: Arc<Accounts>,
    parts: Parts,
    end: Result<(), DropReason>,
}

impl Writer {
    pub(super) fn new(limits: FileLimits, destinations: Vec<String>, beat: Beat) -> Self {
        let (series, complaints) = (HashMap::new(), Complaints::default());
        Self { limits, destinations, beat, series, complaints }
    }

    /// Writes until nobody can send any more.
    pub(super) fn run(mut self, letters: &Receiver<Posted>) {
        for destination in &self.destinations {
            self.beat.beat();
            let series = Series::new(self.limits.clone(), series::stem(destination));
            if let Err(error) = series.mend() {
                tracing::warn!(destination, %error, "cannot look for an unfinished dead letter");
            }
        }
        loop {
            self.beat.beat();
            match letters.recv_timeout(BEAT_EVERY) {
                Ok(first) => {
                    let group = std::iter::once(first).chain(letters.try_iter()).take(GROUP_MAX);
                    self.write_group(group.collect());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write_group(&mut self, group: Vec<Posted>) {
        // Given back after the settling: until then the bytes are here.
        let (letters, _held): (Vec<Letter>, Vec<_>) = group.into_iter().unzip();
        let mut written: Vec<Written> =
            letters.into_iter().flat_map(|letter| self.write(letter)).collect();
        let unsafe_series = self.sync();
        for Written { accounts, parts, end } in &mut written {
            if end.is_ok() && unsafe_series.contains(&series::stem(&accounts.name)) {
                *end = Err(DropReason::DeadLetterFailed);
            }
            let account = end.map_or_else(Account::Dropped, |()| Account::DeadLettered);
            for (share, piece) in parts {
                share.end(piece, account);
            }
        }
    }

    fn write(&mut self, letter: Letter) -> Vec<Written> {
        let Letter { accounts, reason, origin, parts } = letter;
        let head = Letterhead::new(&accounts.name, reason.label(), &origin);
        let write = |parts: Parts| {
            // The disk may be slow without hanging.
            self.beat.beat();
            let end = self.write_line(&accounts.name, &head, &parts);
            Written { accounts: Arc::clone(&accounts), parts, end }
        };
        lines(parts).into_iter().map(write).collect()
    }

    fn write_line(
        &mut self,
        destination: &str,
        head: &Letterhead,
        parts: &Parts,
    ) -> Result<(), DropReason> {
        let wire: Vec<&[u8]> =
            parts.iter().flat_map(|(_, piece)| piece.bytes.stretches()).collect();
        let appended = line::write(&wire.concat(), head)
            .map_err(|error| AppendError::Line(error.to_string()))
            .and_then(|line| self.series(destination).append(&line));
        appended.map_err(|error| {
            let reason = match error {
                AppendError::Full { .. } => DropReason::DeadLetterFull,
                AppendError::Line(_) | AppendError::Io { .. } => DropReason::DeadLetterFailed,
            };
            self.complaints.say(clock::now(), reason, destination, &error);
            reason
        })
    }

    fn series(&mut self, destination: &str) -> &mut Series {
        let stem = series::stem(destination);
        let limits = &self.limits;
        self.series.entry(stem.clone()).or_insert_with(|| Series::new(limits.clone(), stem))
    }

    /// Makes what was written safe; gives those series for which that failed.
    fn sync(&mut self) -> Vec<String> {
        let mut failed = Vec::new();
        for (stem, series) in &mut self.series {
            if let Err(error) = series.sync() {
                self.complaints.say(clock::now(), DropReason::DeadLetterFailed, stem, &error);
                failed.push(stem.clone());
            }
        }
        failed
    }
}

/// The parts of a letter, a line each.
fn lines(parts: Parts) -> Vec<Parts> {
    let mut lines: Vec<Parts> = Vec::new();
    let mut bytes = usize::MAX;
    for (share, piece) in parts {
        let small = if piece.bytes.len() > LINE_BYTES_MAX {
            batch::cut(&piece, LINE_BYTES_MAX)
        } else {
            vec![piece]
        };
        for piece in small {
            let part = (Arc::clone(&share), piece);
            bytes = bytes.saturating_add(part.1.bytes.len());
            match lines.last_mut() {
                Some(line) if bytes <= LINE_BYTES_MAX => line.push(part),
                _ => {
                    bytes = part.1.bytes.len();
                    lines.push(vec![part]);
                }
            }
        }
    }
    lines
}

/// By what they are about.
#[derive(Debug, Default)]
struct Complaints(HashMap<(usize, String), Complaint>);

impl Complaints {
    fn say(&mut self, now: Instant, reason: DropReason, destination: &str, error: &AppendError) {
        if let Some(unsaid) = self.of(reason, destination).due(now) {
            let reason = reason.label();
            tracing::error!(
                exporter = destination,
                reason,
                unsaid,
                %error,
                "spans are dropped that belong into the dead-letter file"
            );
        }
    }

    fn of(&mut self, reason: DropReason, destination: &str) -> &Complaint {
        self.0.entry((reason as usize, destination.to_owned())).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_complaint_does_not_silence_another() {
        let (now, mut complaints) = (clock::now(), Complaints::default());
        let mut is_due = |reason, name| complaints.of(reason, name).due(now).is_some();
        assert!(is_due(DropReason::DeadLetterFull, "a"));
        assert!(!is_due(DropReason::DeadLetterFull, "a"));
        assert!(is_due(DropReason::DeadLetterFailed, "a"));
        assert!(is_due(DropReason::DeadLetterFull, "b"));
    }
}
