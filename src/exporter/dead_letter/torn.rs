//! The torn line that a run leaves at the end of a file when it is killed while it writes.
//!
//! Its spans were not settled: where there is a journal they come again, as another letter. So it is cut off, and does not
//! make a replay of the file fail that lacks nothing.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use super::line;

/// Read at once while looking for where the line begins.
const STRIDE_BYTES: u64 = 64 * 1024;

/// Cuts off the torn line at the end of a file, then says to other programs that this one writes to it, until it is closed.
/// A whole letter that only lacks its end gets it, and so does a torn one when somebody else writes to the file.
///
/// Where the file system has no locks it is taken that nobody else does.
pub(super) fn mend_and_lock(file: &mut File, path: &Path) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => end_line(file)?,
        Ok(()) | Err(TryLockError::Error(_)) => {
            cut(file, path)?;
            let _unsupported = file.unlock();
        }
    }
    let _unsupported = file.try_lock_shared();
    Ok(())
}

/// Takes back a line of ours that could not be written to its end: it is cut off, or ended when somebody else writes to the
/// file, whose lines may be behind it.
pub(super) fn undo(file: &mut File) -> io::Result<()> {
    let undone = match file.try_lock() {
        Err(TryLockError::WouldBlock) => end_line(file),
        Ok(()) | Err(TryLockError::Error(_)) => last_line(file).and_then(|end| file.set_len(end)),
    };
    // Whether it was had or not: asking for a file's lock alone gives up that which is shared.
    let _unsupported = file.try_lock_shared();
    undone
}

fn cut(file: &mut File, path: &Path) -> io::Result<()> {
    let begin = last_line(file)?;
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
        "cut off an unfinished dead letter; of a run that was killed while it wrote, the journal has the spans, \
         if there is one"
    );
    Ok(())
}

/// What is written next must not become part of a line without an end.
fn end_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == last_line(file)? { Ok(()) } else { file.write_all(b"\n") }
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
    use std::{
        fs::{self, OpenOptions},
        path::PathBuf,
    };

    use tempfile::TempDir;

    use super::{super::line::Letterhead, *};

    /// What is left of these bytes.
    fn mended(bytes: &[u8]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("otlp-000001.jsonl");
        fs::write(&path, bytes).unwrap();
        mend_and_lock(&mut open(&path), &path).unwrap();
        fs::read(&path).unwrap()
    }

    fn open(path: &Path) -> File {
        OpenOptions::new().read(true).append(true).open(path).unwrap()
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

    /// A file with a whole line, in its directory, which one writes a torn line to, and another is about to.
    fn written_by_two() -> (TempDir, PathBuf, [File; 2]) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("otlp-000001.jsonl");
        fs::write(&path, "1\n").unwrap();
        let (mut one, other) = (open(&path), open(&path));
        mend_and_lock(&mut one, &path).unwrap();
        one.write_all(b"to").unwrap();
        (directory, path, [one, other])
    }

    #[test]
    fn in_a_file_that_somebody_writes_to_nothing_is_cut_off_and_nothing_glued_on() {
        let (_directory, path, [one, mut other]) = written_by_two();
        mend_and_lock(&mut other, &path).unwrap();
        other.write_all(b"2\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\nto\n2\n");
        // Both said so.
        drop(one);
        assert!(matches!(open(&path).try_lock(), Err(TryLockError::WouldBlock)));
    }

    #[test]
    fn a_line_is_taken_back_without_those_of_somebody_else() {
        let (_directory, path, [mut one, mut other]) = written_by_two();
        undo(&mut one).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\n");
        mend_and_lock(&mut other, &path).unwrap();
        other.write_all(b"2\n").unwrap();
        one.write_all(b"to").unwrap();
        undo(&mut one).unwrap();
        other.write_all(b"3\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\n2\nto\n3\n");
        for file in [one, other] {
            assert!(matches!(open(&path).try_lock(), Err(TryLockError::WouldBlock)));
            drop(file);
        }
        open(&path).try_lock().unwrap();
    }
}
