//! What is to become of a trace, or of the next part of one: the parents of its spans, and the spans to add.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use super::{
    Config, Woven,
    added::{Added, Encoded},
    count, identity,
    lineage::{Lineage, lineage},
    network::{Above, Line, line},
    resource::{Header, Processes, Resources},
    ring,
    turn::{Turn, turns},
};
use crate::{
    trace::{
        AppSpan, Found, Fragment, NewParent, Plan, Sent, SentRow, SentSpan, SpanId, SpanRef,
        TraceId,
    },
    wire::{Level, layout::Layout},
};

/// Spans of a trace that go out together: all of them, if nothing went before and no more comes.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The trace.
    pub id: TraceId,
    /// The received spans.
    pub fragments: &'a [Fragment],
    /// What went out of the trace before.
    pub sent: Option<&'a Sent>,
    /// Further parts may come.
    pub more: bool,
}

/// What [`plan`] decided.
#[derive(Debug)]
pub struct Planned {
    /// What changes, and what is added.
    pub plan: Plan,
    /// What that comes to.
    pub woven: Woven,
    /// What the next part must know: all that went out, this part too.
    pub sent: Sent,
}

/// Decides over a part and what was found; `None` if nobody could be asked.
///
/// Every part is woven with all that is known of the trace: a later part's spans hang below those of earlier ones as if
/// all had come at once. Only what is new goes out, and what went out stays as it is.
pub fn plan(part: &Part<'_>, found: Option<&Found>, config: &Config) -> Planned {
    let first = Sent::default();
    let sent = part.sent.unwrap_or(&first);
    let mut processes = Processes::default();
    let mut app: Vec<AppSpan> =
        sent.spans().iter().map(|span| known(span, sent, &mut processes)).collect();
    let mut received = Vec::new();
    for fragment in part.fragments {
        put_spans(fragment, &mut processes, &mut app, &mut received);
    }
    let nothing = Found::default();
    let found_spans = found.unwrap_or(&nothing);
    let evidence = Evidence {
        part,
        sent,
        app: &app,
        received: &received,
        processes,
        found: found_spans,
        config,
    };
    match found {
        None if part.sent.is_none() => evidence.unchanged(),
        _ => evidence.plan(found.is_some()),
    }
}

/// All that a part is woven of: `app` has the spans that went out, then the new ones.
struct Evidence<'a> {
    part: &'a Part<'a>,
    sent: &'a Sent,
    app: &'a [AppSpan],
    /// The new spans' messages.
    received: &'a [(SpanId, &'a [u8])],
    processes: Processes,
    found: &'a Found,
    config: &'a Config,
}

impl Evidence<'_> {
    fn plan(&self, has_answer: bool) -> Planned {
        let spans = &self.found.spans;
        let taken: HashSet<SpanId> = self.app.iter().map(|span| span.id).collect();
        let ids = identity::identities_after(self.sent, spans, |id| taken.contains(&id));
        let lineage = lineage(self.app, self.found, &ids);
        let turns =
            turns(self.sent, self.part.more, self.config.network_spans, &lineage, spans, &ids);
        let deferred = deferred(&turns, &lineage);
        let line = line(self.config.network_spans, &lineage, spans, &ids);
        let mut line = visible(&line, &turns, &ids, self.app);
        let (stale_spans, stale_rows) =
            if has_answer { self.stale(&line, &turns, &ids) } else { Default::default() };
        if self.part.sent.is_some() || deferred > 0 {
            ring::untangle(self.sent, self.app, &mut line, &ids);
        }
        // Whose a row is says where it was seen, not what it hangs below where rows between are left out.
        let resources = Resources::new(&self.processes, self.app, &lineage, spans, &ids);
        let added = Added {
            trace_id: self.part.id,
            received: self.received,
            found: self.found,
            ids: &ids,
            line: &line,
            config: self.config,
        };
        let Encoded { bytes, system, network, texts } = added.encode(&resources);
        let parents = self.changes(&line);
        let mut woven = Woven {
            system,
            network,
            omitted: times(&turns, Turn::Omitted),
            reparented: count(parents.len()),
            stale_parents: count(stale_spans.len() + stale_rows.len()),
            deferred_calls: deferred,
            beyond_limit: times(&turns, Turn::Never),
            texts,
            ..self.late(has_answer)
        };
        let mut sent = self.sent.clone();
        sent.mark_stale(&stale_spans, &stale_rows);
        self.remember(&mut sent, &line, &ids, &mut woven);
        Planned {
            plan: Plan { parents, added: bytes.into(), added_spans: system + network },
            woven,
            sent,
        }
    }

    /// The first part of a trace for which there is no answer.
    fn unchanged(&self) -> Planned {
        let app_parents = self.app.iter().map(|span| span.parent).collect();
        let line = Line { app_parents, found_parents: Vec::new(), kept: Vec::new() };
        let (mut sent, mut woven) = (Sent::default(), self.late(false));
        self.remember(&mut sent, &line, &[], &mut woven);
        Planned { plan: Plan::default(), woven, sent }
    }

    /// The spans that are new, with the parents they go out with.
    fn new_spans<'l>(
        &'l self,
        line: &'l Line,
    ) -> impl Iterator<Item = (&'l AppSpan, Option<SpanId>)> {
        let spans = self.app.iter().zip(line.app_parents.iter().copied());
        spans.skip(self.sent.spans().len())
    }

    /// The new spans whose parent is another one now.
    fn changes(&self, line: &Line) -> Vec<NewParent> {
        let spans = self.new_spans(line).zip(0..);
        spans
            .filter(|((span, parent), _)| span.parent != *parent)
            .map(|((_, parent), span)| NewParent { span, parent })
            .collect()
    }

    /// Places of spans and rows that went out below another parent than this answer shows. Where it does not show the
    /// former parent any more, nothing is said against it.
    fn stale(&self, line: &Line, turns: &[Turn], ids: &[SpanId]) -> (Vec<usize>, Vec<usize>) {
        if self.part.sent.is_none() {
            return (Vec::new(), Vec::new());
        }
        let shown: HashSet<SpanId> = ids.iter().copied().collect();
        let gone: HashSet<SpanId> =
            self.sent.rows().iter().map(|row| row.id).filter(|id| !shown.contains(id)).collect();
        let is_wrong = |sent: Option<SpanId>, now: Option<SpanId>| {
            sent != now && sent.is_none_or(|parent| !gone.contains(&parent))
        };
        let spans = self.sent.spans().iter().zip(&line.app_parents).enumerate();
        let spans = spans.filter(|(_, (span, now))| !span.is_stale && is_wrong(span.parent, **now));
        let now: HashMap<SpanId, Option<SpanId>> = ids
            .iter()
            .zip(&line.found_parents)
            .zip(turns)
            .filter(|(_, turn)| **turn == Turn::Before)
            .map(|((id, parent), _)| (*id, *parent))
            .collect();
        let rows = self.sent.rows().iter().enumerate().filter(|(_, row)| {
            let now = now.get(&row.id);
            !row.is_stale && now.is_some_and(|now| is_wrong(row.parent, *now))
        });
        (spans.map(|(place, _)| place).collect(), rows.map(|(place, _)| place).collect())
    }

    fn late(&self, is_enriched: bool) -> Woven {
        let spans =
            if self.sent.is_ended() { count(self.app.len() - self.sent.spans().len()) } else { 0 };
        let (late_enriched, late_forwarded) = if is_enriched { (spans, 0) } else { (0, spans) };
        Woven { late_enriched, late_forwarded, ..Woven::default() }
    }

    fn remember(&self, sent: &mut Sent, line: &Line, ids: &[SpanId], woven: &mut Woven) {
        let spans = self.new_spans(line).map(|(span, parent)| SentSpan {
            id: span.id,
            parent,
            original: span.parent,
            kind: span.kind,
            is_stale: false,
            start_ns: span.start_ns,
            end_ns: span.end_ns,
            process: self.processes.key(span.process),
        });
        let rows = self.found.spans.iter().zip(ids).zip(&line.found_parents).zip(&line.kept);
        let rows = rows.filter(|(_, kept)| **kept).map(|(((span, id), parent), _)| {
            let (row, region) = identity::key(span);
            SentRow { row, region, id: *id, parent: *parent, is_stale: false }
        });
        for (key, service) in self.processes.services() {
            sent.add_service(key, service);
        }
        let mut new_rows = Vec::with_capacity(ids.len());
        new_rows.extend(rows);
        let forgotten = sent.add(spans.collect(), new_rows, !self.part.more);
        woven.forgotten_spans = count(forgotten.spans);
    }
}

fn times(turns: &[Turn], wanted: Turn) -> u64 {
    count(turns.iter().filter(|turn| **turn == wanted).count())
}

/// Calls that wait for the next part.
fn deferred(turns: &[Turn], lineage: &Lineage) -> u64 {
    let rows = turns.iter().zip(&lineage.calls).filter(|(turn, _)| **turn == Turn::Later);
    count(rows.map(|(_, call)| call).collect::<HashSet<_>>().len())
}

/// Only found spans that are in the trace can be parents: over all others goes the nearest above. With nothing above it
/// a received span keeps what it came with. `kept` says from now on what goes out with this part.
fn visible(line: &Line, turns: &[Turn], ids: &[SpanId], app: &[AppSpan]) -> Line {
    let rows = ids.iter().zip(&line.found_parents).zip(turns);
    let hidden = rows.filter(|(_, turn)| !turn.is_in_trace());
    let above = Above::over(hidden.map(|((id, parent), _)| (*id, *parent)));
    let apps = line.app_parents.iter().zip(app);
    Line {
        app_parents: apps.map(|(parent, span)| above.nearest(*parent).or(span.parent)).collect(),
        found_parents: line.found_parents.iter().map(|parent| above.nearest(*parent)).collect(),
        kept: turns.iter().map(|turn| *turn == Turn::Now).collect(),
    }
}

/// A span that went out, as it came.
fn known(span: &SentSpan, sent: &Sent, processes: &mut Processes) -> AppSpan {
    AppSpan {
        id: span.id,
        parent: span.original,
        kind: span.kind,
        start_ns: span.start_ns,
        end_ns: span.end_ns,
        process: processes.known(span.process, sent.service(span.process)),
    }
}

/// Appends a fragment's spans, and the message of each.
fn put_spans<'a>(
    fragment: &'a Fragment,
    processes: &mut Processes,
    app: &mut Vec<AppSpan>,
    received: &mut Vec<(SpanId, &'a [u8])>,
) {
    let own = fragment.span_refs();
    let headers = headers(fragment, own.last().map_or(0, |span| span.resource));
    let mut last = None;
    for span in &own {
        // In wire order those of one resource stand together.
        let process = match last {
            Some((resource, process)) if resource == span.resource => process,
            _ => {
                let resource = usize::try_from(span.resource).unwrap_or(usize::MAX);
                processes.number(headers.get(resource).cloned().unwrap_or_default(), span.id)
            }
        };
        last = Some((span.resource, process));
        app.push(AppSpan {
            id: span.id,
            parent: span.parent,
            kind: span.kind,
            start_ns: span.start_ns,
            end_ns: span.end_ns,
            process,
        });
        received.push((span.id, body(fragment, span)));
    }
}

fn body<'a>(fragment: &'a Fragment, span: &SpanRef) -> &'a [u8] {
    let [start, len] = [span.offset, span.len].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
    fragment.bytes.own().get(start..start.saturating_add(len)).unwrap_or_default()
}

/// The header of each of the fragment's resources, up to the one with this number.
fn headers(fragment: &Fragment, last: u32) -> Vec<Header> {
    // Mostly there is one, and it is shared.
    let shared = fragment.bytes.shared(Level::Resource);
    let shared: Vec<_> = shared.map(|shared| Header::Shared(Arc::clone(shared))).collect();
    if usize::try_from(last).is_ok_and(|last| last + 1 == shared.len()) {
        return shared;
    }
    let bytes = fragment.bytes.to_bytes();
    // The bytes were scanned before: this can't fail.
    let layout = Layout::trusted(&bytes).unwrap_or_default();
    let header = |resource| {
        let pieces = layout.resource_header(resource).iter();
        let pieces = pieces.filter_map(|piece| bytes.get(piece.clone()));
        Header::Own(pieces.collect::<Vec<_>>().concat())
    };
    (0..layout.resources.len()).map(header).collect()
}
