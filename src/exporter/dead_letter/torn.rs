//! The torn line that a run leaves at the end of a file when it is killed while it writes.
//!
//! Its spans were not settled: what the journal has of them comes again, as another letter. So it is cut off, and does
//! not make a replay of the file fail that lacks nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use super::line;

/// Read at once while looking for where the line begins.
const STRIDE_BYTES: u64 = 64 * 1024;

/// Mends all files of a directory, when there is one. What can't be mended now is, before it is written to.
pub(super) fn mend_all(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "jsonl")
            && let Err(error) = mend(&path)
        {
            let path = path.display().to_string();
            tracing::warn!(path, %error, "cannot look for a torn line at the end of a dead-letter file");
        }
    }
}

/// Cuts off the torn line at the end of a file; a whole letter that only lacks its end gets it.
///
/// A file that somebody else has open for writing (see [`lock`]) is left alone.
pub(super) fn mend(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    if file.try_lock().is_err() {
        return Ok(());
    }
    let begin = last_line(&mut file)?;
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(begin))?;
    file.read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok(());
    }
    // Somebody may have edited the file.
    if line::read(&text).is_ok() {
        return file.write_all(b"\n");
    }
    file.set_len(begin)?;
    let path = path.display().to_string();
    tracing::warn!(
        path,
        bytes = text.len(),
        "cut off a dead letter that an earlier run was killed while writing; its spans are still in the journal, \
         if there is one"
    );
    Ok(())
}

/// Says to other programs that this one writes to the file, until it is closed. Where file systems have no locks
/// nobody is told, and nobody asks.
pub(super) fn lock(file: &File) {
    let _unsupported = file.try_lock_shared();
}

/// Where the line begins that has no end; the end of the file when all have one.
fn last_line(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut stride = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(STRIDE_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        stride.clear();
        file.take(end.saturating_sub(begin)).read_to_end(&mut stride)?;
        if let Some(newline) = stride.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin.saturating_add(u64::try_from(newline).unwrap_or(0)).saturating_add(1));
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::{super::line::Letterhead, *};

    /// What is left of these bytes.
    fn mended(bytes: &[u8]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("otlp-000001.jsonl");
        fs::write(&path, bytes).unwrap();
        mend(&path).unwrap();
        fs::read(&path).unwrap()
    }

    #[test]
    fn whole_lines_are_left_alone() {
        for text in ["", "\n", "1\n", "1\n2\n"] {
            assert_eq!(mended(text.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn a_torn_line_is_cut_off_wherever_it_begins() {
        let stride = usize::try_from(STRIDE_BYTES).unwrap();
        for torn in [1, 100, stride - 1, stride, stride + 1, 3 * stride] {
            for whole in ["", "1\n", "1\n2\n"] {
                let bytes = [whole.as_bytes(), &vec![b'x'; torn]].concat();
                assert_eq!(mended(&bytes), whole.as_bytes(), "{torn} torn after {whole:?}");
            }
        }
    }

    #[test]
    fn a_whole_letter_without_its_end_gets_it() {
        let line = line::write(b"", &Letterhead::default()).unwrap();
        let (_, edited) = line.split_last().unwrap();
        assert_eq!(mended(&[b"1\n", edited].concat()), [b"1\n", line.as_slice()].concat());
    }

    #[test]
    fn a_file_that_somebody_writes_to_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("otlp-000001.jsonl");
        fs::write(&path, "1\nto").unwrap();
        let writer = File::open(&path).unwrap();
        lock(&writer);
        mend(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\nto");
        drop(writer);
        mend(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\n");
    }
}
