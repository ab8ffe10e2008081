//! The files of one destination: `otlp_tempo-000001.jsonl` and so on.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::torn;

/// How much is kept for one destination, and where.
#[derive(Debug, Clone)]
pub(super) struct FileLimits {
    pub(super) directory: PathBuf,
    pub(super) file_bytes_max: u64,
    pub(super) files_max: usize,
}

/// A line that could not be appended.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// The last file is full, and there may be no further one.
    #[error("{files} dead-letter files are full: move files out of {}, or replay and delete them", directory.display())]
    Full {
        /// How many there are.
        files: usize,
        /// Where.
        directory: PathBuf,
    },
    /// The spans can't be written as OTLP/JSON.
    #[error("no line can be made of the spans: {0}")]
    Line(String),
    /// The operating system refused; mostly a full disk or missing rights.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The files of one destination.
#[derive(Debug)]
pub(super) struct Series {
    limits: FileLimits,
    stem: String,
    open: Option<OpenFile>,
    /// What was written to a file that is closed by now and could not be made safe.
    unsafe_file: Option<AppendError>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    is_safe: bool,
}

/// A destination's name as the beginning of file names.
pub(super) fn stem(destination: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    destination.chars().map(plain).collect()
}

impl Series {
    pub(super) fn new(limits: FileLimits, stem: String) -> Self {
        Self { limits, stem, open: None, unsafe_file: None }
    }

    /// Cuts off what an earlier run did not finish, which can only be at the end of the last file.
    pub(super) fn mend(&self) -> Result<(), AppendError> {
        let last = self.numbers().ok().and_then(|numbers| numbers.into_iter().max());
        let Some(path) = last.map(|last| self.path(last)) else { return Ok(()) };
        match OpenFile::open(path.clone()) {
            Ok(_) => Ok(()),
            Err(source) => Err(AppendError::Io { path, source }),
        }
    }

    /// Appends a line, to the next file if this one is full.
    pub(super) fn append(&mut self, line: &[u8]) -> Result<(), AppendError> {
        let line_bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let max = self.limits.file_bytes_max;
        let is_usable =
            |file: &OpenFile| file.is_in_place() && has_room(file.bytes, line_bytes, max);
        if !self.open.as_ref().is_some_and(is_usable) {
            self.close();
            self.open = Some(self.next_file(line_bytes)?);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Err(source) = open.append(line, line_bytes) {
            let path = open.path.clone();
            self.close();
            return Err(AppendError::Io { path, source });
        }
        Ok(())
    }

    /// Makes all lines safe that were appended.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        if let Some(error) = self.unsafe_file.take() {
            return Err(error);
        }
        self.open.as_mut().map_or(Ok(()), OpenFile::sync)
    }

    fn close(&mut self) {
        if let Some(mut open) = self.open.take()
            && let Err(error) = open.sync()
        {
            self.unsafe_file = Some(error);
        }
    }

    /// The last file while it has room, else a new one.
    fn next_file(&self, line_bytes: u64) -> Result<OpenFile, AppendError> {
        let FileLimits { directory, file_bytes_max, files_max } = &self.limits;
        let failed = |path: &Path, source| AppendError::Io { path: path.to_owned(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| failed(directory, error))?;
        let numbers = self.numbers().map_err(|error| failed(directory, error))?;
        let last = numbers.iter().max().copied().unwrap_or(0);
        if last > 0 {
            let path = self.path(last);
            let bytes = fs::metadata(&path).map_err(|error| failed(&path, error))?.len();
            if has_room(bytes, line_bytes, *file_bytes_max) {
                return OpenFile::open(path.clone()).map_err(|error| failed(&path, error));
            }
        }
        if numbers.len() >= *files_max {
            return Err(AppendError::Full { files: numbers.len(), directory: directory.clone() });
        }
        let path = self.path(last.saturating_add(1));
        OpenFile::open(path.clone()).map_err(|error| failed(&path, error))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.limits.directory.join(format!("{}-{number:06}.jsonl", self.stem))
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.limits.directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| {
                let name = name.strip_prefix(&self.stem)?.strip_prefix('-')?;
                name.strip_suffix(".jsonl")?.parse::<u64>().ok()
            });
            numbers.extend(number);
        }
        Ok(numbers)
    }
}

/// An empty file takes any line.
fn has_room(bytes: u64, line_bytes: u64, max: u64) -> bool {
    bytes == 0 || bytes.saturating_add(line_bytes) <= max
}

impl OpenFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path)?;
        // The program may have ended in the middle of a line: what follows must not become part of it.
        torn::mend_and_lock(&mut file, &path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, path, bytes, is_safe: false })
    }

    /// A line is there whole or not at all, as far as that is in our hands.
    fn append(&mut self, line: &[u8], line_bytes: u64) -> io::Result<()> {
        self.is_safe = false;
        if let Err(error) = self.file.write_all(line) {
            // Opening looks for a torn line again, should this fail, too.
            let _torn = torn::undo(&mut self.file);
            return Err(error);
        }
        self.bytes += line_bytes;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        if !self.is_safe {
            let failed = |source| AppendError::Io { path: self.path.clone(), source };
            self.file.sync_data().map_err(failed)?;
            self.is_safe = true;
        }
        Ok(())
    }

    /// Nobody moved or deleted it: what would be written now would be lost with it.
    fn is_in_place(&self) -> bool {
        let same = || {
            let (ours, there) = (self.file.metadata().ok()?, fs::metadata(&self.path).ok()?);
            Some(ours.ino() == there.ino() && ours.dev() == there.dev())
        };
        same().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(directory: &Path) -> Series {
        let limits = FileLimits {
            directory: directory.join("new/letters"),
            file_bytes_max: 10,
            files_max: 2,
        };
        Series::new(limits, stem("otlp/tempo"))
    }

    fn files(directory: &Path) -> Vec<(String, String)> {
        let read = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        };
        let mut files: Vec<_> =
            fs::read_dir(directory.join("new/letters")).unwrap().map(read).collect();
        files.sort();
        files
    }

    #[test]
    fn files_are_rotated_and_the_last_one_is_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut series = series(directory.path());
        for line in ["1234\n", "5678\n", "9\n", "0123\n"] {
            series.append(line.as_bytes()).unwrap();
        }
        let refused = series.append(b"abcdef\n");
        assert!(matches!(refused, Err(AppendError::Full { files: 2, .. })), "{refused:?}");
        series.sync().unwrap();
        let expected =
            [("otlp_tempo-000001.jsonl", "1234\n5678\n"), ("otlp_tempo-000002.jsonl", "9\n0123\n")];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(files(directory.path()), expected);
        let mode = fs::metadata(directory.path().join("new/letters")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);

        // Room again, and the numbers go on.
        fs::remove_file(series.path(1)).unwrap();
        series.append(b"abcdef\n").unwrap();
        assert_eq!(
            files(directory.path())[1],
            ("otlp_tempo-000003.jsonl".to_owned(), "abcdef\n".to_owned())
        );
    }

    #[test]
    fn a_torn_line_of_an_earlier_run_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = series(directory.path());
        first.append(b"0\n").unwrap();
        first.append(b"torn").unwrap();
        drop(first);
        let mut second = series(directory.path());
        second.append(b"1\n").unwrap();
        second.append(b"2\n").unwrap();
        assert_eq!(files(directory.path())[0].1, "0\n1\n2\n");
    }

    #[test]
    fn a_torn_line_is_cut_off_before_anything_is_written() {
        let directory = tempfile::tempdir().unwrap();
        series(directory.path()).mend().unwrap();
        let mut first = series(directory.path());
        for line in ["1234\n", "5678\n", "9\n", "torn"] {
            first.append(line.as_bytes()).unwrap();
        }
        drop(first);
        series(directory.path()).mend().unwrap();
        let texts: Vec<_> = files(directory.path()).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["1234\n5678\n", "9\n"]);
    }

    #[test]
    fn a_file_that_was_moved_away_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mut series = series(directory.path());
        series.append(b"1\n").unwrap();
        let away = directory.path().join("away");
        fs::rename(series.path(1), &away).unwrap();
        series.append(b"2\n").unwrap();
        assert_eq!(fs::read_to_string(away).unwrap(), "1\n");
        assert_eq!(files(directory.path())[0].1, "2\n");
    }
}
