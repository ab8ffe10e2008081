//! `replay`: dead letters, sent again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    CliError,
    run::Signals,
    say,
    source::{ConfigFile, Loaded},
};
use crate::{
    clock::{self, Instant},
    config::HttpUrl,
    exporter::replay::{BadLine, Line, Lines, Replay, Sent},
    telemetry::logs,
};

/// Which files, and where they go.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Dead-letter files, or other files of OTLP/JSON lines. What is not taken of FILE is written to FILE.rest
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    /// Send to this OTLP/gRPC receiver, for example http://tempo:4317, instead of the configuration's exporters
    #[arg(long, value_name = "URL", conflicts_with = "exporter")]
    to: Option<HttpUrl>,
    /// Send to this exporter of the configuration, whatever the lines say
    #[arg(long, value_name = "NAME")]
    exporter: Option<String>,
}

/// Sends all lines of all files; an error unless every line was taken.
pub(super) fn run(options: &Options) -> Result<(), CliError> {
    for file in &options.files {
        check(file)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::runtime(&error))?;
    runtime.block_on(async {
        let replay = options.replay()?;
        let mut signals = Signals::new().map_err(|error| CliError::runtime(&error))?;
        let mut tally = Tally::default();
        for file in &options.files {
            tally.add(&replay_file(&replay, file, &mut signals).await?);
            if tally.interrupted {
                let text = "ended by a signal; what was not sent is in FILE.rest, later files were not begun";
                return Err(CliError::Runtime(text.to_owned()));
            }
        }
        tally.verdict()
    })
}

impl Options {
    fn replay(&self) -> Result<Replay, CliError> {
        let replay = if let Some(url) = &self.to {
            logs::Config::default().start();
            Replay::to_url(url.clone())
        } else {
            let Loaded { config, .. } = self.config.load()?;
            config.logs.start();
            Replay::to_exporters(&config.exporters, self.exporter.as_deref())
        };
        replay.map_err(|error| CliError::Usage(super::chain(&error)))
    }
}

/// What an earlier replay left must not be overwritten: it may be the only copy by now.
fn check(file: &Path) -> Result<(), CliError> {
    let rest = with_ending(file, ".rest");
    if rest.exists() {
        let (file, rest) = (file.display(), rest.display());
        return Err(CliError::Usage(format!(
            "{rest} is what an earlier replay of {file} did not send: replay or remove it first"
        )));
    }
    match File::open(file) {
        Ok(_) => Ok(()),
        Err(error) => Err(CliError::Usage(format!("cannot read {}: {error}", file.display()))),
    }
}

fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What became of lines and spans.
#[derive(Debug, Default)]
struct Tally {
    lines: u64,
    spans: u64,
    refused_spans: u64,
    untaken_lines: u64,
    interrupted: bool,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.spans += other.spans;
        self.refused_spans += other.refused_spans;
        self.untaken_lines += other.untaken_lines;
        self.interrupted |= other.interrupted;
    }

    fn sent(&mut self, lines: usize, sent: &Sent) {
        self.lines += count(lines);
        self.spans += sent.spans;
        self.refused_spans += sent.refused_spans;
        self.untaken_lines += count(sent.untaken.len());
    }

    fn text(&self, file: &Path) -> String {
        let Self { lines, spans, refused_spans, untaken_lines, .. } = self;
        let file = file.display();
        format!(
            "{file}: {lines} lines, {spans} spans sent, {refused_spans} of them refused, {untaken_lines} lines not taken\n"
        )
    }

    fn verdict(&self) -> Result<(), CliError> {
        match (self.untaken_lines, self.refused_spans) {
            (0, 0) => Ok(()),
            (0, spans) => Err(CliError::Runtime(format!(
                "the destination refused {spans} spans; it does not say which"
            ))),
            (lines, _) => Err(CliError::Runtime(format!(
                "{lines} lines were not taken, they are in FILE.rest"
            ))),
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

async fn replay_file(
    replay: &Replay,
    file: &Path,
    signals: &mut Signals,
) -> Result<Tally, CliError> {
    let failed = |error: io::Error| CliError::Runtime(format!("{}: {error}", file.display()));
    let mut letters = Letters::open(file).map_err(failed)?;
    let mut errand = Errand {
        replay,
        file,
        lines: Lines::default(),
        texts: Vec::new(),
        rest: Rest::of(file),
        tally: Tally::default(),
        progress: clock::now(),
    };
    while let Some((number, text)) = letters.next(&mut errand.rest).map_err(failed)? {
        match text.map(|text| (replay.read(&text), text)) {
            Some((Ok(line), text)) => {
                let is_full = !replay.fits(&errand.lines, &line);
                if is_full && !errand.send(signals).await.map_err(failed)? {
                    errand.rest.keep(&text).map_err(failed)?;
                    letters.keep_all(&mut errand.rest).map_err(failed)?;
                    break;
                }
                errand.add(line, text);
            }
            Some((Err(bad), text)) => {
                errand.bad(number, &bad);
                errand.rest.keep(&text).map_err(failed)?;
            }
            None => errand.bad(number, &too_long()),
        }
    }
    errand.send(signals).await.map_err(failed)?;
    errand.rest.end().map_err(failed)?;
    say(&errand.tally.text(file))?;
    Ok(errand.tally)
}

fn too_long() -> BadLine {
    BadLine::Unreadable(format!("longer than {} MiB", LINE_BYTES_MAX / (1024 * 1024)))
}

/// One file under way.
struct Errand<'a> {
    replay: &'a Replay,
    file: &'a Path,
    lines: Lines,
    texts: Vec<Vec<u8>>,
    rest: Rest,
    tally: Tally,
    progress: Instant,
}

/// Between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

impl Errand<'_> {
    fn add(&mut self, line: Line, text: Vec<u8>) {
        self.lines.push(line);
        self.texts.push(text);
    }

    /// Sends what has gathered; false when a signal came first.
    async fn send(&mut self, signals: &mut Signals) -> io::Result<bool> {
        let lines = std::mem::take(&mut self.lines);
        let texts = std::mem::take(&mut self.texts);
        if lines.is_empty() {
            return Ok(!self.tally.interrupted);
        }
        let sent = tokio::select! {
            sent = self.replay.send(&lines) => sent,
            () = signals.next() => {
                self.tally.interrupted = true;
                // Whether the destination has taken them is not known: better twice than never.
                texts.iter().try_for_each(|text| self.rest.keep(text))?;
                return Ok(false);
            }
        };
        for (number, lacking) in &sent.untaken {
            let whole = texts.get(*number).map(Vec::as_slice).unwrap_or_default();
            self.rest.keep(lacking.as_deref().unwrap_or(whole))?;
        }
        self.tally.sent(lines.len(), &sent);
        self.tell();
        Ok(true)
    }

    fn bad(&mut self, number: u64, bad: &BadLine) {
        self.tally.lines += 1;
        self.tally.untaken_lines += 1;
        complain(&format!("{}:{number}: {bad}", self.file.display()));
    }

    fn tell(&mut self) {
        let now = clock::now();
        if now.duration_since(self.progress) >= PROGRESS_INTERVAL {
            self.progress = now;
            complain(self.tally.text(self.file).trim_end());
        }
    }
}

#[allow(clippy::print_stderr, reason = "progress is for people; standard output has the result")]
fn complain(text: &str) {
    eprintln!("tracestitch: {text}");
}

/// Longer lines are not taken into memory.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The lines of a file.
struct Letters {
    reader: BufReader<File>,
    number: u64,
}

impl Letters {
    fn open(file: &Path) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(File::open(file)?), number: 0 })
    }

    /// The next line that is not empty, with its number from 1; one that is too long goes to the rest.
    fn next(&mut self, rest: &mut Rest) -> io::Result<Option<(u64, Option<Vec<u8>>)>> {
        loop {
            let mut text = Vec::new();
            let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX);
            if limited.read_until(b'\n', &mut text)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            let is_cut = count(text.len()) == LINE_BYTES_MAX && text.last() != Some(&b'\n');
            if is_cut {
                rest.write(&text)?;
                self.keep_line(rest)?;
                return Ok(Some((self.number, None)));
            }
            if !text.trim_ascii().is_empty() {
                return Ok(Some((self.number, Some(text))));
            }
        }
    }

    /// Copies what is left of a line.
    fn keep_line(&mut self, rest: &mut Rest) -> io::Result<()> {
        loop {
            let part = self.reader.fill_buf()?;
            let end = part.iter().position(|&byte| byte == b'\n');
            let len = end.map_or(part.len(), |end| end + 1);
            if len == 0 {
                return rest.write(b"\n");
            }
            rest.write(part.get(..len).unwrap_or_default())?;
            self.reader.consume(len);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// Copies all lines that are left.
    fn keep_all(&mut self, rest: &mut Rest) -> io::Result<()> {
        while let Some((_, text)) = self.next(rest)? {
            text.map_or(Ok(()), |text| rest.keep(&text))?;
        }
        Ok(())
    }
}

/// FILE.rest. It has another name until it is whole, and is made only when there is something to write.
struct Rest {
    path: PathBuf,
    part: PathBuf,
    writer: Option<BufWriter<File>>,
}

impl Rest {
    fn of(file: &Path) -> Self {
        let [path, part] = [".rest", ".rest.part"].map(|ending| with_ending(file, ending));
        Self { path, part, writer: None }
    }

    /// Keeps a line, with or without its end.
    fn keep(&mut self, line: &[u8]) -> io::Result<()> {
        self.write(line)?;
        if line.ends_with(b"\n") { Ok(()) } else { self.write(b"\n") }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.writer.is_none() {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            self.writer = Some(BufWriter::new(options.open(&self.part)?));
        }
        self.writer.as_mut().map_or(Ok(()), |writer| writer.write_all(bytes))
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&self.part, &self.path)
    }
}
