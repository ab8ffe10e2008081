//! What profiles leave of made-up traces.

use opentelemetry_proto::tonic::{
    common::v1::{InstrumentationScope, KeyValue},
    trace::v1::ResourceSpans,
};
use proptest::prelude::*;

use super::*;

const ALLOWED: Allowance = Allowance { trace: 4_000, attribute: 100 };

/// A span of a made-up trace: 0 is a received one, 1 a system one, 2 a network one; it hangs below the span with
/// that number, which comes before it, or below one that is not there.
#[derive(Debug, Clone)]
struct Made {
    kind: u8,
    parent: Option<usize>,
    text_bytes: usize,
}

fn made(kind: u8, parent: Option<usize>, text_bytes: usize) -> Made {
    Made { kind, parent, text_bytes }
}

fn number(index: usize) -> Vec<u8> {
    u64::try_from(index + 1).unwrap().to_be_bytes().to_vec()
}

fn piece(spans: &[Made], kinds: &[u8]) -> Piece {
    let scope = |kind: u8| {
        let spans = spans.iter().enumerate().filter(|(_, made)| made.kind == kind);
        let span = |(index, made): (usize, &Made)| {
            // Cut on a boundary of characters: these have two bytes.
            let text = "é".repeat(made.text_bytes / 2);
            let value = Some(AnyValue { value: Some(Value::StringValue(text)) });
            Span {
                span_id: number(index),
                parent_span_id: made.parent.map(number).unwrap_or_default(),
                attributes: vec![KeyValue { key: "k".to_owned(), value, ..KeyValue::default() }],
                ..Span::default()
            }
        };
        let name = ["app", "tracestitch.system", "tracestitch.network"][usize::from(kind)];
        let scope = InstrumentationScope { name: name.to_owned(), ..Default::default() };
        ScopeSpans { scope: Some(scope), spans: spans.map(span).collect(), ..Default::default() }
    };
    let scope_spans: Vec<_> =
        kinds.iter().map(|&kind| scope(kind)).filter(|scope| !scope.spans.is_empty()).collect();
    let spans = count(scope_spans.iter().map(|scope| scope.spans.len()).sum());
    let resource = ResourceSpans { scope_spans, ..ResourceSpans::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![resource] };
    let (app_spans, added_spans) = if kinds == [0] { (spans, 0) } else { (0, spans) };
    Piece { bytes: request.encode_to_vec().into(), app_spans, added_spans }
}

fn pieces(spans: &[Made]) -> Vec<Piece> {
    let pieces = [piece(spans, &[0]), piece(spans, &[1, 2])].into_iter();
    pieces.filter(|piece| piece.app_spans + piece.added_spans > 0).collect()
}

fn spans_in(pieces: &[Piece]) -> Vec<(String, Span)> {
    let requests = pieces
        .iter()
        .map(|piece| ExportTraceServiceRequest::decode(piece.bytes.to_bytes()).unwrap());
    let scopes = requests.flat_map(|request| request.resource_spans);
    let scopes = scopes.flat_map(|resource| resource.scope_spans);
    scopes
        .flat_map(|scope| {
            let name = scope.scope.unwrap_or_default().name;
            scope.spans.into_iter().map(move |span| (name.clone(), span))
        })
        .collect()
}

fn bytes(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.bytes.len()).sum()
}

fn absent_parents(spans: &[(String, Span)]) -> HashSet<Vec<u8>> {
    let ids: HashSet<&Vec<u8>> = spans.iter().map(|(_, span)| &span.span_id).collect();
    let parents = spans.iter().map(|(_, span)| &span.parent_span_id);
    parents.filter(|id| !id.is_empty() && !ids.contains(id)).cloned().collect()
}

proptest! {
    #[test]
    fn only_added_spans_change_and_none_loses_its_parent(
        made in proptest::collection::vec(
            (0_u8..3, proptest::option::weighted(0.9, any::<prop::sample::Index>()), 0_usize..300),
            1..60,
        ),
    ) {
        let made: Vec<Made> = made
            .into_iter()
            .enumerate()
            // Now and then the parent is a span that is not there.
            .map(|(index, (kind, parent, text_bytes))| {
                let parent = parent.map(|parent| parent.index(index + 1));
                let parent = parent.map(|parent| if parent == index { 1_000 } else { parent });
                Made { kind, parent, text_bytes }
            })
            .collect();
        let before = pieces(&made);
        let (after, fitted) = fit(&before, ALLOWED);
        let received = |pieces: &[Piece]| {
            let received = pieces.iter().filter(|piece| piece.app_spans > 0);
            received.map(|piece| piece.bytes.clone()).collect::<Vec<_>>()
        };
        prop_assert_eq!(received(&after), received(&before));
        let (old, new) = (spans_in(&before), spans_in(&after));
        prop_assert_eq!(count(old.len() - new.len()), fitted.trimmed_spans);
        prop_assert!(absent_parents(&new).is_subset(&absent_parents(&old)));
        let added: u64 = after.iter().map(|piece| piece.added_spans).sum();
        let app: u64 = after.iter().map(|piece| piece.app_spans).sum();
        prop_assert_eq!(added + app, count(new.len()));
        let kept: HashSet<&Vec<u8>> = new.iter().map(|(_, span)| &span.span_id).collect();
        for (scope, span) in &old {
            let is_gone = !kept.contains(&span.span_id);
            prop_assert!(!is_gone || scope == "tracestitch.network");
        }
        if fitted.trimmed_spans > 0 {
            prop_assert!(bytes(&before) > ALLOWED.trace);
        }
        let (again, nothing) = fit(&after, ALLOWED);
        prop_assert_eq!(spans_in(&again), new);
        prop_assert_eq!(nothing, Fitted::default());
    }
}

#[test]
fn the_middle_of_chains_goes_first_and_no_more_than_need_be() {
    // A received client, its process, three network hops, the server's process, a received server.
    let chain = |text| {
        let kinds = [0, 1, 2, 2, 2, 1, 0];
        let spans = kinds.iter().enumerate();
        spans
            .map(|(index, &kind)| {
                made(kind, index.checked_sub(1), if kind == 2 { text } else { 0 })
            })
            .collect::<Vec<_>>()
    };
    let check = |spans: &[Made], trace: usize, expected_gone: &[usize]| {
        let before = pieces(spans);
        let (after, fitted) = fit(&before, Allowance { trace, attribute: 2048 });
        let kept: HashSet<Vec<u8>> =
            spans_in(&after).into_iter().map(|(_, span)| span.span_id).collect();
        let gone: Vec<usize> =
            (0..spans.len()).filter(|index| !kept.contains(&number(*index))).collect();
        assert_eq!(gone, expected_gone);
        assert_eq!(fitted.trimmed_spans, count(gone.len()));
        (after.into_owned(), before)
    };
    let whole = bytes(&pieces(&chain(1000)));
    check(&chain(1000), whole, &[]);
    let (after, _) = check(&chain(1000), whole - 1, &[3]);
    assert!(bytes(&after) < whole);
    let hop = spans_in(&after).into_iter().find(|(_, span)| span.span_id == number(4)).unwrap();
    assert_eq!(hop.1.parent_span_id, number(2), "what hung below it hangs below its parent");
    check(&chain(1000), 2_000, &[2, 3]);
    check(&chain(1000), 0, &[2, 3, 4]);

    // A received span hangs below the hop, and received bytes don't change.
    let mut held = chain(1000);
    held.push(made(0, Some(3), 0));
    check(&held, 0, &[2, 4]);
}

#[test]
fn long_attributes_of_added_spans_are_cut_between_characters() {
    let spans = [made(0, None, 300), made(1, Some(0), 202), made(2, Some(1), 98)];
    let before = pieces(&spans);
    let (after, fitted) = fit(&before, Allowance { trace: 1 << 20, attribute: 101 });
    assert_eq!(fitted, Fitted { trimmed_spans: 0, cut_attributes: 1 });
    let lens: Vec<usize> = spans_in(&after)
        .iter()
        .map(|(_, span)| match &span.attributes[0].value.as_ref().unwrap().value {
            Some(Value::StringValue(text)) => text.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lens, [300, 100, 98]);
    assert!(matches!(Profile::None.fit(&before), (Cow::Borrowed(_), _)));
}
