//! What holds for any input, however wild: no new cycle, no new absent parent, spans in cycles left alone, and the
//! same tree whatever the order. Ids, times and links come from small sets, so that they often meet.

use std::collections::{HashMap, HashSet};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::trace::{
    Exchange, FoundParent, FoundSpan,
    ObservationPoint::{
        self, ClientGateway, ClientNic, ClientProcess, Rest, ServerGateway, ServerNic,
        ServerProcess,
    },
    SpanKind,
};

/// Received ids are 1 to 12, ids of found spans begin here.
const FOUND_IDS_FROM: u64 = 1_000;

mod rules;

fn id(number: u64) -> SpanId {
    SpanId::from_number(number).expect("not zero")
}

fn app_span() -> impl Strategy<Value = AppSpan> {
    let kind = (0..6_u64).prop_map(SpanKind::from_wire);
    // Spans woven before name found spans as their parents.
    let parent = prop_oneof![6 => 0..16_u64, 1 => FOUND_IDS_FROM..FOUND_IDS_FROM + 40];
    (1..13_u64, parent, kind, time_us(), time_us(), 0..4_usize).prop_map(
        |(own, parent, kind, start, end, process)| AppSpan {
            id: id(own),
            parent: SpanId::from_number(parent),
            kind,
            start_ns: start.saturating_mul(1_000),
            end_ns: end.saturating_mul(1_000),
            process,
        },
    )
}

/// Mostly within a few milliseconds, sometimes at the ends of all time.
fn time_us() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1_000_000..1_040_000_u64, 1 => Just(0), 1 => Just(u64::MAX)]
}

fn found_spans() -> impl Strategy<Value = Vec<FoundSpan>> {
    vec(found_span(), 0..40).prop_map(|mut spans| {
        for (row, span) in (1..).zip(&mut spans) {
            span.row = row;
        }
        spans
    })
}

fn found_span() -> impl Strategy<Value = FoundSpan> {
    let points = vec![
        ClientProcess,
        ClientProcess,
        ClientNic,
        ClientGateway,
        ServerGateway,
        ServerNic,
        ServerProcess,
        ServerProcess,
        Rest,
    ];
    let parent = prop_oneof![
        Just(FoundParent::Root),
        (0..45_usize).prop_map(FoundParent::Found),
        Just(FoundParent::Found(usize::MAX)),
        (1..16_u64).prop_map(|number| FoundParent::App(id(number))),
    ];
    let header = ((0..16_u64).prop_map(SpanId::from_number), select(vec!["", "", "12ab"]));
    let links = (
        small(4),
        small(4),
        small(6),
        small(6),
        select(vec!["", "x", "y"]),
        select(vec!["", "x", "y"]),
    );
    let place = (
        0..3_u64,
        0..3_u64,
        select(vec![0_u16, 20, 60]),
        select(vec![Exchange::Request, Exchange::Session]),
    );
    (select(points), parent, header, links, place, time_us(), time_us()).prop_map(
        |(point, parent, header, links, place, start, end)| FoundSpan {
            parent,
            span_id: header.0,
            foreign_span_id: header.1.into(),
            tcp_seqs: [links.0, links.1],
            syscall_ids: [links.2, links.3],
            x_request_ids: [links.4.into(), links.5.into()],
            agent_id: place.0,
            instance_id: place.1,
            protocol: place.2,
            exchange: place.3,
            start_us: start,
            end_us: end.max(start),
            ..blank(point)
        },
    )
}

/// Half of the time 0, "none".
fn small(below: u64) -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..below]
}

fn blank(point: ObservationPoint) -> FoundSpan {
    FoundSpan { row: 1, point, is_ebpf: point.is_process(), ..FoundSpan::default() }
}

prop_compose! {
    fn evidence()(
        app in vec(app_span(), 0..25),
        spans in found_spans(),
        edges in vec((1..16_u64, prop_oneof![0..45_usize, Just(usize::MAX)]), 0..6),
    ) -> (Vec<AppSpan>, Found) {
        let app_edges = edges.into_iter().map(|(app, row)| (id(app), row)).collect();
        (app, Found { spans, app_edges, ..Found::default() })
    }
}

fn ids(found: &Found) -> Vec<SpanId> {
    found.spans.iter().map(|span| id(FOUND_IDS_FROM + span.row)).collect()
}

/// (child, parent) of all copies.
fn edges(
    children: impl IntoIterator<Item = SpanId>,
    parents: &[Option<SpanId>],
) -> Vec<(SpanId, SpanId)> {
    children
        .into_iter()
        .zip(parents)
        .filter_map(|(child, parent)| Some((child, (*parent)?)))
        .collect()
}

/// Spans that are above themselves.
fn looped(edges: &[(SpanId, SpanId)]) -> HashSet<SpanId> {
    let mut above: HashMap<SpanId, HashSet<SpanId>> = HashMap::new();
    for &(child, parent) in edges {
        above.entry(child).or_default().insert(parent);
    }
    let is_above_itself = |&start: &SpanId| {
        let mut seen = HashSet::new();
        let mut waiting = vec![start];
        while let Some(next) = waiting.pop() {
            waiting.extend(
                above.get(&next).into_iter().flatten().filter(|&&parent| seen.insert(parent)),
            );
        }
        seen.contains(&start)
    };
    above.keys().copied().filter(is_above_itself).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_cycle_is_made_and_those_that_came_stay((app, found) in evidence()) {
        let ids = ids(&found);
        let Lineage { app_parents, found_parents, .. } = lineage(&app, &found, &ids);
        let app_ids = || app.iter().map(|span| span.id);
        let before: Vec<_> = app.iter().map(|span| span.parent).collect();
        let came = looped(&edges(app_ids(), &before));
        let all = [edges(app_ids(), &app_parents), edges(ids, &found_parents)].concat();
        let left = looped(&all);
        prop_assert!(left.is_subset(&came), "{left:?} beyond {came:?}");
        for (span, parent) in app.iter().zip(&app_parents) {
            if came.contains(&span.id) {
                prop_assert_eq!(span.parent, *parent);
            }
        }
    }

    #[test]
    fn no_parent_is_absent_that_was_not_named_before((app, found) in evidence()) {
        let ids = ids(&found);
        let Lineage { app_parents, found_parents, .. } = lineage(&app, &found, &ids);
        prop_assert_eq!(app_parents.len(), app.len());
        prop_assert_eq!(found_parents.len(), found.spans.len());
        let here: HashSet<_> = app.iter().map(|span| span.id).chain(ids).collect();
        let named: HashSet<_> = app.iter().filter_map(|span| span.parent).collect();
        for parent in app_parents.iter().chain(&found_parents).flatten() {
            prop_assert!(here.contains(parent) || named.contains(parent), "{parent}");
        }
    }

    #[test]
    fn a_received_span_moves_only_below_a_found_one((app, found) in evidence()) {
        let ids = ids(&found);
        let new = lineage(&app, &found, &ids).app_parents;
        for (span, parent) in app.iter().zip(new) {
            prop_assert!(parent == span.parent || parent.is_some_and(|parent| ids.contains(&parent)));
        }
    }

    #[test]
    fn order_does_not_matter((app, found) in evidence(), app_shift in 0..25_usize, row_shift in 0..40_usize) {
        let ids = ids(&found);
        let straight = lineage(&app, &found, &ids);
        let (turned_app, turned) = turned(&app, &found, app_shift, row_shift);
        let other = lineage(&turned_app, &turned, &self::ids(&turned));
        let back = |mut parents: Vec<_>, shift: usize| {
            let len = parents.len().max(1);
            parents.rotate_right(shift % len);
            parents.reverse();
            parents
        };
        prop_assert_eq!(back(other.app_parents, app_shift), straight.app_parents);
        prop_assert_eq!(back(other.found_parents, row_shift), straight.found_parents);
    }
}

/// The same evidence, backwards and begun elsewhere.
fn turned(
    app: &[AppSpan],
    found: &Found,
    app_shift: usize,
    row_shift: usize,
) -> (Vec<AppSpan>, Found) {
    let mut app = app.to_vec();
    app.reverse();
    let app_len = app.len().max(1);
    app.rotate_left(app_shift % app_len);
    let len = found.spans.len();
    let mut order: Vec<_> = (0..len).rev().collect();
    order.rotate_left(row_shift % len.max(1));
    let place = |row: usize| order.iter().position(|&other| other == row).unwrap_or(row);
    let mut turned = found.clone();
    turned.spans = order.iter().map(|&row| found.spans[row].clone()).collect();
    for span in &mut turned.spans {
        if let FoundParent::Found(row) = &mut span.parent {
            *row = place(*row);
        }
    }
    turned.app_edges = found.app_edges.iter().rev().map(|&(app, row)| (app, place(row))).collect();
    (app, turned)
}

/// Shapes in which everything is a candidate for everything.
fn crowds(apps: u64, rows: u64) -> Vec<(&'static str, Vec<AppSpan>, Found)> {
    let app = |parent: fn(u64) -> u64, kind| {
        let span = move |number| AppSpan {
            id: id(number),
            parent: SpanId::from_number(parent(number)),
            kind,
            start_ns: 1_000_000_000 + number * 1_000,
            end_ns: 3_000_000_000 - number * 1_000,
            process: 0,
        };
        (1..=apps).map(span).collect::<Vec<_>>()
    };
    let found = |change: fn(&mut FoundSpan, u64)| {
        let span = |row: u64| {
            let point = if row.is_multiple_of(2) { ClientProcess } else { ServerProcess };
            let mut span = FoundSpan { row, instance_id: 1, ..blank(point) };
            (span.start_us, span.end_us) = (1_000_000 + row, 3_000_000 - row);
            change(&mut span, row);
            span
        };
        Found { spans: (1..=rows).map(span).collect(), ..Found::default() }
    };
    vec![
        ("one header", app(|_| 1, SpanKind::Server), found(|span, _| span.span_id = Some(id(1)))),
        (
            "one header of a stranger",
            app(|_| 1, SpanKind::Server),
            found(|span, _| span.foreign_span_id = "z".into()),
        ),
        (
            "one thread",
            app(|number| number - 1, SpanKind::Internal),
            found(|span, _| span.syscall_ids = [7, 7]),
        ),
        (
            "one thread below a chain",
            app(|number| number - 1, SpanKind::Client),
            found(|span, row| {
                span.syscall_ids = [7, 7];
                span.span_id = row.is_multiple_of(2).then(|| id(row));
            }),
        ),
        (
            "a fan of spans below one thread's server",
            app(|number| u64::from(number > 1), SpanKind::Internal),
            found(|span, row| {
                span.syscall_ids = [7, 7];
                span.span_id = (row == 2).then(|| id(1));
            }),
        ),
        (
            "one X-Request-ID",
            app(|_| 0, SpanKind::Internal),
            found(|span, _| span.x_request_ids = ["x".into(), "x".into()]),
        ),
        (
            "one long call",
            app(|_| 0, SpanKind::Internal),
            found(|span, row| {
                span.tcp_seqs = [1, 1];
                span.parent = FoundParent::Found(usize::try_from(row % 5_000).expect("small"));
            }),
        ),
        (
            "one instance",
            app(|number| number - 1, SpanKind::Client),
            found(|span, row| span.span_id = (row == 2).then(|| id(9_999))),
        ),
        (
            "copies of one span, each below another",
            (1..=apps)
                .flat_map(|number| {
                    let [copy, parent] = [apps + 1, number].map(id);
                    let spans = app(|_| 0, SpanKind::Internal);
                    let span = spans.into_iter().nth(usize::try_from(number - 1).expect("small"));
                    let span = span.expect("so many");
                    [span, AppSpan { id: copy, parent: Some(parent), ..span }]
                })
                .collect(),
            found(|span, _| span.span_id = Some(id(1))),
        ),
        (
            "servers of many callers, one agent",
            app(|number| number / 2, SpanKind::Server),
            found(|span, row| {
                span.span_id = Some(id(1 + row % 64));
                span.syscall_ids = [row / 3, row / 4];
            }),
        ),
    ]
}

#[test]
fn a_crowd_is_woven() {
    for (shape, app, found) in crowds(600, 300) {
        let lineage = lineage(&app, &found, &ids(&found));
        assert_eq!(lineage.found_parents.len(), 300, "{shape}");
    }
}

#[test]
fn in_a_crowd_clocks_are_known_too() {
    // Many calls of one span, a millisecond apart, and their SERVER spans, whose clock is 50 ms ahead; one more call tells.
    let calls = 1_100;
    let (many, one) = (900_001, 900_002);
    let caller = |number| if number <= calls { many } else { one };
    let row = |number: u64| FoundSpan {
        row: number,
        span_id: Some(id(caller(number))),
        tcp_seqs: [number, number],
        start_us: 1_000_000 + number * 1_000,
        end_us: 1_000_100 + number * 1_000,
        ..blank(ServerProcess)
    };
    let found = Found { spans: (1..=calls + 1).map(row).collect(), ..Found::default() };
    let span = |number: u64| {
        let start_ns = (1_050_000 + number * 1_000) * 1_000;
        let (parent, kind) = (SpanId::from_number(caller(number)), SpanKind::Server);
        AppSpan { id: id(number), parent, kind, start_ns, end_ns: start_ns + 100_000, process: 0 }
    };
    let app: Vec<_> = (1..=calls + 1).map(span).collect();
    let ids: Vec<_> = (1..=calls + 1).map(|row| id(1_000_000 + row)).collect();
    let lineage = lineage(&app, &found, &ids);
    let expected: Vec<_> = ids.iter().copied().map(Some).collect();
    assert_eq!(lineage.app_parents, expected);
}

#[test]
fn in_a_crowd_that_is_too_large_to_weigh_all_calls_hang_below_who_answers_their_server() {
    // A SERVER span with many others below it, and calls of its thread; the last span is around all of them.
    let (apps, calls) = (20_000, 1_000);
    let span = |number: u64, parent, kind, [start_ns, end_ns]: [u64; 2]| {
        let parent = SpanId::from_number(parent);
        AppSpan { id: id(number), parent, kind, start_ns, end_ns, process: 0 }
    };
    let mut app = vec![span(1, 999_999, SpanKind::Server, [1_000_000_000, 3_000_000_000])];
    app.extend((2..apps).map(|number| span(number, 1, SpanKind::Internal, [1_000_000_000; 2])));
    app.push(span(apps, 1, SpanKind::Internal, [1_100_000_000, 2_900_000_000]));
    let server = FoundSpan {
        row: 1,
        span_id: Some(id(999_999)),
        syscall_ids: [7, 0],
        start_us: 1_000_000,
        end_us: 3_000_000,
        ..blank(ServerProcess)
    };
    let call = |row| FoundSpan {
        row,
        syscall_ids: [7, 0],
        start_us: 1_500_000 + row,
        end_us: 1_500_500 + row,
        ..blank(ClientProcess)
    };
    let spans = std::iter::once(server).chain((2..2 + calls).map(call)).collect();
    let found = Found { spans, ..Found::default() };
    let lineage = lineage(&app, &found, &ids(&found));
    let below = |parent| {
        let calls = lineage.found_parents.iter().skip(1);
        calls.filter(|found| **found == Some(id(parent))).count()
    };
    let (right, above) = (below(apps), below(1));
    assert_eq!(right + above, usize::try_from(calls).expect("small"));
    assert!(right > 0 && above > 0, "{right} are weighed, {above} are not");
}

#[test]
fn in_a_crowd_calls_find_the_spans_of_their_own_instance() {
    // Two processes, each a crowd, and each seen as an instance by one call with a header; then calls without one.
    let (spans, calls) = (9_000, 1_000);
    let span = |number: u64, process| AppSpan {
        id: id(number),
        parent: None,
        kind: SpanKind::Client,
        start_ns: 1_000_000_000,
        end_ns: 2_000_000_000 + number,
        process,
    };
    let app = (1..=spans).map(|number| span(number, usize::from(number > 10)));
    let call = |row, caller, instance_id| FoundSpan {
        row,
        span_id: SpanId::from_number(caller),
        start_us: 1_000_000 + row,
        end_us: 2_000_000 - row,
        instance_id,
        ..blank(ClientProcess)
    };
    let seen = [call(1, 1, 77), call(2, spans, 78)];
    let others = (3..3 + calls).map(|row| call(row, 0, 77));
    let found = Found { spans: seen.into_iter().chain(others).collect(), ..Found::default() };
    let app: Vec<_> = app.collect();
    let lineage = lineage(&app, &found, &ids(&found));
    assert_eq!(lineage.found_parents[1], Some(id(spans)));
    let below = lineage.found_parents.iter().filter(|parent| **parent == Some(id(1)));
    assert_eq!(below.count(), 1 + usize::try_from(calls).expect("small"));
}
