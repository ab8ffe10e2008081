//! Span ids of found spans: the ids of their rows, so that the same row has the same id whenever it is asked for
//! (DeepFlow contract, section 7).

use std::{collections::VecDeque, iter};

use foldhash::{HashMap, HashSet};

use crate::trace::{FoundSpan, Sent, SpanId};

/// The span id of each found span, in their order (DeepFlow contract, section 7): its row id, big-endian. Where that
/// is another found span's already (rows of two regions) or `taken` by a received span, a hash of region and row id.
/// All are different from each other and from those `taken`.
pub fn identities(found: &[FoundSpan], taken: impl Fn(SpanId) -> bool) -> Vec<SpanId> {
    identities_after(&Sent::default(), found, taken)
}

/// The same for a later part of a trace: what went out keeps the id it went out with, even if that is a received
/// span's that came since, and no other gets it.
pub(super) fn identities_after(
    sent: &Sent,
    found: &[FoundSpan],
    taken: impl Fn(SpanId) -> bool,
) -> Vec<SpanId> {
    let mut known: HashMap<(u64, u64), VecDeque<SpanId>> = HashMap::default();
    for row in sent.rows() {
        known.entry((row.row, row.region)).or_default().push_back(row.id);
    }
    let mut given: HashSet<SpanId> = sent.rows().iter().map(|row| row.id).collect();
    given.reserve(found.len());
    let mut known_id = |span: &FoundSpan| {
        if known.is_empty() {
            return None;
        }
        // Of request and response the first part may have had one alone.
        let mut rows = iter::once(span.row).chain(span.merged_rows.iter().copied());
        let region = digest(span.region.bytes());
        rows.find_map(|row| known.get_mut(&(row, region))?.pop_front())
    };
    // Of two regions the same one keeps the row id, in whatever order the rows came.
    let mut places: Vec<_> = found.iter().enumerate().collect();
    places.sort_by_key(|(_, span)| (span.row, &span.region));
    let mut ids: Vec<_> = places
        .into_iter()
        .map(|(place, span)| {
            let new = || identity(span, |id| !taken(id) && given.insert(id));
            (place, known_id(span).unwrap_or_else(new))
        })
        .collect();
    ids.sort_unstable();
    ids.into_iter().map(|(_, id)| id).collect()
}

/// A row's number and the hash of its region.
pub(super) fn key(span: &FoundSpan) -> (u64, u64) {
    (span.row, digest(span.region.bytes()))
}

/// The first free one of a span's endless list of candidates.
fn identity(span: &FoundSpan, mut claim: impl FnMut(SpanId) -> bool) -> SpanId {
    iter::once(span.row)
        .chain((0..=u64::MAX).map(|attempt| hash(&span.region, span.row, attempt)))
        .filter_map(SpanId::from_number)
        .find(|&id| claim(id))
        .expect("one of 2^64 hashes is free")
}

/// Written out here because it must never change: the same row keeps its id from release to release.
fn hash(region: &str, row: u64, attempt: u64) -> u64 {
    digest(region.bytes().chain(row.to_be_bytes()).chain(attempt.to_be_bytes()))
}

/// FNV-1a, then the last step of `SplitMix64`, which spreads neighbours.
pub(super) fn digest(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        completion::deepflow::answer::{Outcome, classify},
        trace::SentRow,
    };

    fn found(rows: &[(&str, u64)]) -> Vec<FoundSpan> {
        let rows = rows
            .iter()
            .map(|(region, row)| format!(r#"{{"_ids":["{row}"],"_querier_region":"{region}"}}"#));
        let body = format!(r#"{{"DATA":{{"tracing":[{}]}}}}"#, rows.collect::<Vec<_>>().join(","));
        match classify(200, body.as_bytes()) {
            Outcome::Found(found) => found.spans,
            other => panic!("{other:?}"),
        }
    }

    fn numbers(rows: &[(&str, u64)], taken: &[u64]) -> Vec<u64> {
        let ids = identities(&found(rows), |id| taken.contains(&u64::from_be_bytes(id.to_wire())));
        ids.into_iter().map(|id| u64::from_be_bytes(id.to_wire())).collect()
    }

    #[test]
    fn a_span_has_the_id_of_its_row() {
        assert_eq!(numbers(&[("a", 7), ("a", u64::MAX)], &[]), [7, u64::MAX]);
    }

    #[test]
    fn of_two_regions_one_keeps_the_id_in_any_order() {
        let hash = hash("b", 7, 0);
        assert_eq!(numbers(&[("a", 7), ("b", 7)], &[]), [7, hash]);
        assert_eq!(numbers(&[("b", 7), ("a", 7)], &[]), [hash, 7]);
    }

    #[test]
    fn a_taken_id_is_hashed_until_it_is_free() {
        let [first, second] = [0, 1].map(|attempt| hash("a", 7, attempt));
        assert_eq!(numbers(&[("a", 7)], &[7]), [first]);
        assert_eq!(numbers(&[("a", 7)], &[7, first]), [second]);
    }

    #[test]
    fn the_hash_is_the_same_in_every_release() {
        assert_eq!(hash("", 1, 0), 15_677_143_173_220_306_796);
        assert_eq!(hash("default", 7_301_444_403_204_194_727, 3), 7_391_140_793_487_148_130);
    }

    #[test]
    fn what_went_out_keeps_its_id() {
        let rows = found(&[("b", 7)]);
        let id = SpanId::from_number(7).expect("not zero");
        let (row, region) = key(&rows[0]);
        let mut sent = Sent::default();
        let went_out = SentRow { row, region, id, parent: None, is_stale: false };
        sent.add(Vec::new(), vec![went_out], false);
        let merged = FoundSpan { row: 5, merged_rows: vec![6, 7], ..rows[0].clone() };
        assert_eq!(identities_after(&sent, &[merged], |_| false), [id], "with others now");
        let later = identities_after(&sent, &found(&[("a", 7), ("b", 7)]), |taken| taken == id);
        let later: Vec<_> = later.into_iter().map(|id| u64::from_be_bytes(id.to_wire())).collect();
        assert_eq!(later, [hash("a", 7, 0), 7]);
    }
}
