//! Dead letters sent again, by hand: lines become requests to the exporter that they name, or to another one.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::{
    Config, ExporterConfig, OtlpConfig, StartError,
    batch::Batch,
    courier::{Courier, Transport},
    dead_letter::line::{self, Letterhead, LineError},
    queue::Limits,
};
use crate::{
    clock,
    config::HttpUrl,
    ledger::DropReason,
    telemetry::Metrics,
    tls::Reloads,
    trace::{Origin, Origins, Piece},
    wire::{PartialSuccess, layout::Layout},
};

/// Where lines are sent.
#[derive(Debug)]
pub struct Replay {
    destinations: Vec<Outlet>,
    /// For lines that name no destination, or whatever they name.
    chosen: Chosen,
    origins: Origins,
}

#[derive(Debug)]
struct Outlet {
    name: String,
    courier: Courier,
    target_bytes: usize,
    bytes_max: usize,
}

/// Which destination a line goes to.
#[derive(Debug, Clone, Copy)]
enum Chosen {
    /// This one, whatever the line says.
    Always(usize),
    /// The one that the line names, else this one.
    Else(usize),
    /// The one that the line names.
    Named,
}

/// Why a line can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum BadLine {
    /// It is damaged, or of another kind.
    #[error("{0}")]
    Unreadable(String),
    /// It is whole, but none of its spans is there.
    #[error("no spans")]
    Empty,
    /// It says where to, and the configuration does not.
    #[error(
        "the configuration has no exporter {0}; name another one with --exporter, or a URL with --to"
    )]
    Unknown(String),
    /// It does not say where to.
    #[error("the line names no destination; name one with --exporter or --to")]
    Nowhere,
}

impl From<LineError> for BadLine {
    fn from(error: LineError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// A line that can be sent.
#[derive(Debug)]
pub struct Line {
    /// Number of its destination.
    destination: usize,
    origin: Origin,
    head: Letterhead,
    piece: Piece,
}

/// Lines on their way into one request.
#[derive(Debug, Default)]
pub struct Lines(Vec<Line>);

/// What became of some lines.
#[derive(Debug, Default)]
pub struct Sent {
    /// Spans that the destination took.
    pub spans: u64,
    /// Of these, spans that it refused by partial success; which ones it does not say.
    pub refused_spans: u64,
    /// Numbers of the lines that were not taken, counted from 0, each with what it lacks: `None` is all of it.
    pub untaken: Vec<(usize, Option<Vec<u8>>)>,
}

impl Replay {
    /// To the exporters of a configuration: each line to the one that it names, or all to `only`.
    pub fn to_exporters(config: &Config, only: Option<&str>) -> Result<Self, ReplayError> {
        let names = config.names();
        let metrics = Metrics::new(&names);
        let mut destinations = Vec::new();
        for (number, (name, exporter)) in config.0.iter().enumerate() {
            destinations.extend(Outlet::new(name, number, exporter, &metrics, false)?);
        }
        let chosen = match only {
            Some(only) => {
                let place = names.iter().position(|name| name == only);
                Chosen::Always(place.ok_or_else(|| ReplayError::NoSuchExporter {
                    name: only.to_owned(),
                    names: names.join(", "),
                })?)
            }
            None if names.len() == 1 => Chosen::Else(0),
            None => Chosen::Named,
        };
        Ok(Self { destinations, chosen, origins: Origins::default() })
    }

    /// To any OTLP/gRPC receiver; headers of a line's origin are sent as they came.
    pub fn to_url(url: HttpUrl) -> Result<Self, ReplayError> {
        let name = url.to_string();
        let otlp = OtlpConfig { endpoint: url, ..OtlpConfig::default() };
        let exporter = ExporterConfig::Otlp(Box::new(otlp));
        let metrics = Metrics::new(std::slice::from_ref(&name));
        let destinations = Outlet::new(&name, 0, &exporter, &metrics, true)?.into_iter().collect();
        Ok(Self { destinations, chosen: Chosen::Always(0), origins: Origins::default() })
    }

    /// Reads a line.
    pub fn read(&self, text: &[u8]) -> Result<Line, BadLine> {
        let (head, bytes) = line::read(text)?;
        let named =
            |name: &String| self.destinations.iter().position(|outlet| outlet.name == *name);
        let destination = match (self.chosen, &head.destination) {
            (Chosen::Always(number), _) | (Chosen::Else(number), None) => number,
            (Chosen::Else(_) | Chosen::Named, Some(name)) => {
                named(name).ok_or_else(|| BadLine::Unknown(name.clone()))?
            }
            (Chosen::Named, None) => return Err(BadLine::Nowhere),
        };
        let origin = self.origins.intern(head.origin.clone().into_iter().collect());
        let piece = piece(bytes)?;
        Ok(Line { destination, origin, head, piece })
    }

    /// The line has room among these: the same destination and origin, and not too many bytes.
    pub fn fits(&self, lines: &Lines, line: &Line) -> bool {
        let Some(first) = lines.0.first() else { return true };
        let target =
            self.destinations.get(first.destination).map_or(0, |outlet| outlet.target_bytes);
        let bytes: usize = lines.0.iter().map(|line| line.piece.bytes.len()).sum();
        (first.destination, &first.origin) == (line.destination, &line.origin)
            && bytes.saturating_add(line.piece.bytes.len()) <= target
    }

    /// Sends lines that fit together, as the exporter does: until they are taken, or given up.
    pub async fn send(&self, lines: &Lines) -> Sent {
        let mut sent = Sent::default();
        let Some(first) = lines.0.first() else { return sent };
        let Some(outlet) = self.destinations.get(first.destination) else { return sent };
        let items: Vec<(usize, Piece)> =
            lines.0.iter().enumerate().map(|(number, line)| (number, line.piece.clone())).collect();
        let batch = Batch {
            origin: first.origin.clone(),
            bytes: items.iter().map(|(_, piece)| piece.bytes.len()).sum(),
            items,
            since: clock::now(),
        };
        let mut lacking: HashMap<usize, Lacking> = HashMap::new();
        let mut rest = batch.within(outlet.bytes_max);
        let ended = |batch: Batch<usize>, end: Result<PartialSuccess, DropReason>| match end {
            Ok(partial) => {
                sent.spans += batch.app_spans();
                sent.refused_spans += partial.rejected_spans.min(batch.app_spans());
            }
            Err(_) => {
                for (number, piece) in batch.items {
                    lacking.entry(number).or_default().add(&piece);
                }
            }
        };
        outlet.courier.deliver(&mut rest, ended).await;
        let mut untaken: Vec<_> = lacking
            .into_iter()
            .map(|(number, lacking)| (number, lines.rest_of(number, &lacking)))
            .collect();
        untaken.sort_by_key(|(number, _)| *number);
        sent.untaken = untaken;
        sent
    }
}

impl Lines {
    /// Adds a line that fits.
    pub fn push(&mut self, line: Line) {
        self.0.push(line);
    }

    /// No line at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A line of what is lacking of a line; `None` is all of it, and so is what can't be written.
    fn rest_of(&self, number: usize, lacking: &Lacking) -> Option<Vec<u8>> {
        let line = self.0.get(number)?;
        // Bytes don't tell: each part of a line that was cut repeats the resource.
        (lacking.spans < line.piece.app_spans).then_some(())?;
        line::write(&lacking.bytes.concat(), &line.head).ok()
    }
}

/// The parts of a line that were not taken.
#[derive(Debug, Default)]
struct Lacking {
    bytes: Vec<Bytes>,
    spans: u64,
}

impl Lacking {
    fn add(&mut self, part: &Piece) {
        part.bytes.put_into(&mut self.bytes);
        self.spans += part.app_spans;
    }
}

impl Outlet {
    fn new(
        name: &str,
        number: usize,
        exporter: &ExporterConfig,
        metrics: &Metrics,
        passes_origin: bool,
    ) -> Result<Option<Self>, StartError> {
        let Some(metrics) = metrics.exporter(number) else { return Ok(None) };
        let limits = Limits::of(exporter);
        let transport = match Transport::new(name, exporter, &Reloads::default())? {
            Transport::Grpc(otlp) if passes_origin => {
                Transport::Grpc(Arc::new(otlp.passing_origin()))
            }
            transport => transport,
        };
        let courier = Courier::new(name, transport, &limits, Arc::clone(&metrics));
        let (target_bytes, bytes_max) = (limits.target_bytes, limits.batch_bytes_max);
        Ok(Some(Self { name: name.to_owned(), courier, target_bytes, bytes_max }))
    }
}

/// A replay that can't begin.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// See the source.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The configuration has others.
    #[error("the configuration has no exporter {name}; it has {names}")]
    NoSuchExporter {
        /// What was asked for.
        name: String,
        /// What there is.
        names: String,
    },
}

fn piece(bytes: Bytes) -> Result<Piece, BadLine> {
    let layout =
        Layout::validated(&bytes).map_err(|error| BadLine::Unreadable(error.to_string()))?;
    match u64::try_from(layout.spans.len()).unwrap_or(u64::MAX) {
        0 => Err(BadLine::Empty),
        app_spans => Ok(Piece { bytes: bytes.into(), app_spans, added_spans: 0 }),
    }
}
