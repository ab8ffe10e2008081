//! One small trace for each turn of the rules. Times are in tenths of a millisecond after `BEGIN_US`.

use super::*;

const BEGIN_US: u64 = 1_700_000_000_000_000;

fn app(number: u64, parent: u64, kind: SpanKind, times: [u64; 2]) -> AppSpan {
    let [start_ns, end_ns] = times.map(|time| (BEGIN_US + time * 100) * 1_000);
    AppSpan {
        id: id(number),
        parent: SpanId::from_number(parent),
        kind,
        start_ns,
        end_ns,
        process: 0,
    }
}

fn row(row: u64, point: ObservationPoint, times: [u64; 2]) -> FoundSpan {
    let [start_us, end_us] = times.map(|time| BEGIN_US + time * 100);
    FoundSpan { row, start_us, end_us, agent_id: 1, instance_id: 1, protocol: 20, ..blank(point) }
}

/// Received spans and found ones, as (span, parent); 0 is none, found spans have the numbers of their rows.
fn parents(app: &[AppSpan], spans: &[FoundSpan], app_edges: &[(u64, usize)]) -> Vec<(u64, u64)> {
    let app_edges = app_edges.iter().map(|&(app, row)| (id(app), row)).collect();
    let found = Found { spans: spans.to_vec(), app_edges, ..Found::default() };
    let ids: Vec<_> = spans.iter().map(|span| id(span.row)).collect();
    let lineage = lineage(app, &found, &ids);
    let all = app.iter().map(|span| span.id).zip(lineage.app_parents);
    let number = |id: SpanId| u64::from_be_bytes(id.to_wire());
    let all = all.chain(ids.into_iter().zip(lineage.found_parents));
    all.map(|(child, parent)| (number(child), parent.map_or(0, number))).collect()
}

/// A service that is called without a header and calls with one.
fn entry(root_parent: u64) -> (Vec<AppSpan>, Vec<FoundSpan>) {
    let app = vec![
        app(1, root_parent, SpanKind::Server, [100, 900]),
        app(2, 1, SpanKind::Client, [200, 800]),
    ];
    let rows = vec![
        FoundSpan { tcp_seqs: [5, 6], ..row(10, ServerNic, [0, 1_000]) },
        FoundSpan {
            tcp_seqs: [5, 6],
            parent: FoundParent::Found(0),
            syscall_ids: [7, 8],
            ..row(11, ServerProcess, [50, 950])
        },
        FoundSpan {
            span_id: Some(id(2)),
            syscall_ids: [7, 9],
            ..row(12, ClientProcess, [250, 750])
        },
    ];
    (app, rows)
}

#[test]
fn a_local_root_hangs_below_the_request_that_its_thread_answers() {
    let (app, rows) = entry(0);
    assert_eq!(parents(&app, &rows, &[]), [(1, 11), (2, 1), (10, 0), (11, 10), (12, 2)]);
}

#[test]
fn an_absent_parent_goes_to_the_top_of_what_lies_in_front() {
    let (app, rows) = entry(99);
    assert_eq!(parents(&app, &rows, &[]), [(1, 11), (2, 1), (10, 99), (11, 10), (12, 2)]);
}

#[test]
fn a_request_without_response_is_open_ended() {
    let (app, mut rows) = entry(0);
    for row in &mut rows[..2] {
        row.end_us = row.start_us;
        row.exchange = Exchange::Request;
    }
    assert_eq!(parents(&app, &rows, &[]), [(1, 11), (2, 1), (10, 0), (11, 10), (12, 2)]);
}

#[test]
fn copies_are_woven_alike_unless_they_name_another_parent() {
    let (mut app, rows) = entry(0);
    app.push(AppSpan { start_ns: app[0].start_ns + 1, ..app[0] });
    app.push(AppSpan { start_ns: app[0].start_ns + 2, parent: Some(id(98)), ..app[0] });
    let woven = parents(&app, &rows, &[]);
    assert_eq!([woven[0], woven[2], woven[3]], [(1, 11), (1, 11), (1, 98)]);
}

#[test]
fn a_root_without_thread_hangs_where_the_backend_hung_it() {
    let (app, mut rows) = entry(0);
    for row in &mut rows {
        row.syscall_ids = [0, 0];
    }
    assert_eq!(parents(&app, &rows, &[])[0], (1, 0));
    assert_eq!(parents(&app, &rows, &[(1, 1)])[0], (1, 11));
    rows[1].protocol = 60;
    assert_eq!(parents(&app, &rows, &[(1, 1)])[0], (1, 0), "a database has no SERVER span");
}

#[test]
fn calls_hang_below_the_span_whose_id_they_carry_and_above_the_one_that_answers() {
    let app = [
        app(1, 0, SpanKind::Client, [0, 100]),
        app(2, 1, SpanKind::Server, [40, 60]),
        app(3, 1, SpanKind::Consumer, [0, 400]),
    ];
    let rows = [
        FoundSpan { span_id: Some(id(1)), tcp_seqs: [1, 2], ..row(10, ClientProcess, [10, 90]) },
        FoundSpan {
            parent: FoundParent::Found(0),
            tcp_seqs: [1, 2],
            ..row(11, ServerProcess, [30, 70])
        },
    ];
    assert_eq!(parents(&app, &rows, &[]), [(1, 0), (2, 11), (3, 1), (10, 1), (11, 10)]);
}

#[test]
fn a_header_of_another_tracer_joins_calls_as_well() {
    let header = || FoundSpan { foreign_span_id: "12ab".into(), ..blank(ClientProcess) };
    let rows = [
        FoundSpan { foreign_span_id: header().foreign_span_id, ..row(10, ServerProcess, [0, 100]) },
        FoundSpan { foreign_span_id: header().foreign_span_id, ..row(11, ClientProcess, [10, 90]) },
    ];
    assert_eq!(parents(&[], &rows, &[]), [(10, 0), (11, 10)]);
}

#[test]
fn an_x_request_id_joins_calls_without_header() {
    let ids = |request: &str, response: &str| [request.into(), response.into()];
    let rows = [
        FoundSpan { x_request_ids: ids("", "x"), ..row(10, ServerProcess, [0, 100]) },
        FoundSpan { x_request_ids: ids("x", "x"), ..row(11, ClientProcess, [10, 90]) },
        FoundSpan { x_request_ids: ids("x", "x"), ..row(12, ClientProcess, [110, 190]) },
    ];
    assert_eq!(parents(&[], &rows, &[]), [(10, 0), (11, 10), (12, 0)]);
}

#[test]
fn calls_that_an_absent_span_made_keep_its_id_if_a_received_span_names_it() {
    let app = [app(1, 50, SpanKind::Server, [40, 60])];
    let call = |number, header| FoundSpan {
        span_id: Some(id(header)),
        ..row(number, ServerProcess, [30, 70])
    };
    assert_eq!(parents(&app, &[call(10, 50)], &[]), [(1, 10), (10, 50)]);
    assert_eq!(parents(&app, &[call(10, 51)], &[]), [(1, 50), (10, 0)]);
}

#[test]
fn a_call_without_header_hangs_below_the_smallest_span_of_its_thread() {
    let (mut app_spans, mut rows) = entry(0);
    app_spans.push(app(3, 1, SpanKind::Internal, [820, 880]));
    rows.push(FoundSpan {
        protocol: 60,
        syscall_ids: [9, 8],
        ..row(13, ClientProcess, [830, 870])
    });
    rows.push(FoundSpan {
        protocol: 60,
        syscall_ids: [9, 8],
        ..row(14, ClientProcess, [110, 150])
    });
    let woven = parents(&app_spans, &rows, &[]);
    assert_eq!(woven[6..], [(13, 3), (14, 1)]);
}

#[test]
fn cycles_of_the_backend_are_opened() {
    let seqs = |row: FoundSpan| FoundSpan { tcp_seqs: [1, 2], ..row };
    let rows = [
        FoundSpan { parent: FoundParent::Found(1), ..seqs(row(10, ClientNic, [0, 9])) },
        FoundSpan { parent: FoundParent::Found(0), ..seqs(row(11, ServerNic, [1, 8])) },
        FoundSpan { parent: FoundParent::Found(3), ..row(12, ClientNic, [0, 9]) },
        FoundSpan { parent: FoundParent::Found(2), ..row(13, ServerNic, [1, 8]) },
    ];
    assert_eq!(parents(&[], &rows, &[]), [(10, 0), (11, 10), (12, 13), (13, 0)]);
}

#[test]
fn a_span_that_was_woven_before_stays_where_it_is() {
    let (mut app, rows) = entry(0);
    app[0].parent = Some(id(12));
    app[1].parent = None;
    let woven = parents(&app, &rows, &[]);
    assert_eq!(woven, [(1, 12), (2, 11), (10, 0), (11, 10), (12, 2)]);
}
