//! A segment whose parts are read one after the other: in large steps, so that a part costs no call of its own.

use std::{io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    files::{SegmentFile, read_exact},
    part::Source,
};

/// Read at once: a record or two …
const WINDOW_BYTES: u64 = 512 << 10;
/// … of which so many are before what is asked for: what is spliced into a part stands there.
const BEFORE_BYTES: u64 = 64 << 10;

/// See the module. Nothing may be written to the file meanwhile.
#[derive(Debug)]
pub(super) struct Ahead {
    file: Arc<dyn SegmentFile>,
    len: u64,
    window: Mutex<Window>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Bytes,
}

impl Ahead {
    pub(super) fn new(file: Arc<dyn SegmentFile>) -> io::Result<Self> {
        let len = file.size_bytes()?;
        Ok(Self { file, len, window: Mutex::default() })
    }

    /// A window with these bytes, which are in the file.
    fn read(&self, offset: u64, end: u64) -> io::Result<Window> {
        let start = offset.saturating_sub(BEFORE_BYTES);
        let end = end.max(start + WINDOW_BYTES).min(self.len);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
        read_exact(&*self.file, &mut bytes, start)?;
        Ok(Window { start, bytes: bytes.into() })
    }
}

impl Source for Ahead {
    fn bytes(&self, offset: u32, len: u32) -> io::Result<Option<Bytes>> {
        let (offset, end) = (u64::from(offset), u64::from(offset) + u64::from(len));
        if end > self.len {
            return Ok(None);
        }
        let mut window = self.window.lock();
        if let Some(bytes) = window.slice(offset, end) {
            return Ok(Some(bytes));
        }
        *window = self.read(offset, end)?;
        Ok(window.slice(offset, end))
    }
}

impl Window {
    fn slice(&self, offset: u64, end: u64) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(end.checked_sub(self.start)?).ok()?;
        (end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::buffer::journal::files::{Files, MemoryFiles};

    #[test]
    fn what_is_read_ahead_is_what_stands_there() {
        let files = MemoryFiles::new();
        let content: Vec<u8> =
            (0..3_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        files.put(Path::new("/segment"), content.clone());
        let file = files.open(Path::new("/segment")).expect("is there");
        let ahead = Ahead::new(file).expect("can be read");
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..2000_u32 {
            // Forward mostly, and back as stretches are; now and then more than a window.
            let offset = (round * 1500).saturating_sub(random.u32(..100_000));
            let len = if round % 100 == 0 { random.u32(..1_000_000) } else { random.u32(..3000) };
            let read = ahead.bytes(offset, len).expect("can be read");
            let range = offset as usize..(offset + len) as usize;
            assert_eq!(read.as_deref(), content.get(range), "{offset} {len}");
        }
    }
}
