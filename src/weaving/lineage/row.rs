//! Found spans in an order of their own, so that nothing depends on the order of an answer.

use super::{
    app::Apps,
    interval::{Interval, Nanoseconds, TOLERANCE_NS},
};
use crate::trace::{Exchange, Found, FoundParent, FoundSpan, ObservationPoint, SpanId};

/// Later than any end.
const OPEN_END: Nanoseconds = 1 << 100;

/// The found spans, ordered by row id.
pub(super) struct Rows<'a> {
    all: Vec<Row<'a>>,
    /// Place in the answer → place here.
    places: Vec<usize>,
    /// The release tells instances.
    pub(super) has_instances: bool,
    /// Received spans and what the backend hung them below, by places here.
    pub(super) app_edges: Vec<(usize, usize)>,
}

pub(super) struct Row<'a> {
    pub(super) span: &'a FoundSpan,
    pub(super) time: Interval,
    /// The time in which what it caused may lie: without a response its end is not known.
    pub(super) reach: Interval,
    /// Agents are numbered from 0 without gaps.
    pub(super) agent: usize,
    /// What the backend hung it below.
    pub(super) parent: Parent,
}

/// What a found span hangs below. The number is the place of a found or a received span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent {
    Root,
    Row(usize),
    App(usize),
    /// A span that nobody has, but received spans name.
    Absent(SpanId),
}

impl<'a> Rows<'a> {
    /// `order` comes from [`in_order`], `places` from [`places`].
    pub(super) fn new(found: &'a Found, order: &[usize], places: Vec<usize>, apps: &Apps) -> Self {
        let mut agents: Vec<_> = found.spans.iter().map(|span| span.agent_id).collect();
        agents.sort_unstable();
        agents.dedup();
        let number = |span: &FoundSpan| agents.partition_point(|agent| *agent < span.agent_id);
        let row = |span: &'a FoundSpan| Row::new(span, number(span), &places, apps);
        let all = order.iter().map(|&original| row(&found.spans[original])).collect();
        Self {
            all,
            has_instances: found.spans.iter().any(|span| span.instance_id != 0),
            app_edges: app_edges(found, &places, apps),
            places,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn row(&self, place: usize) -> &Row<'a> {
        &self.all[place]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Row<'a>)> {
        self.all.iter().enumerate()
    }

    /// The places here, in the order of the answer.
    pub(super) fn original_order(&self) -> &[usize] {
        &self.places
    }

    /// Inside, as far as the clocks of the two agents allow to say.
    pub(super) fn is_inside(&self, inner: usize, outer: usize) -> bool {
        let [inner, outer] = [inner, outer].map(|place| &self.all[place]);
        inner.time.is_inside(outer.reach, inner.tolerance(outer))
    }
}

impl<'a> Row<'a> {
    fn new(span: &'a FoundSpan, agent: usize, places: &[usize], apps: &Apps) -> Self {
        let [start, end] = [span.start_us, span.end_us].map(|us| Nanoseconds::from(us) * 1_000);
        let parent = match span.parent {
            FoundParent::Root => None,
            FoundParent::Found(original) => places.get(original).map(|&place| Parent::Row(place)),
            FoundParent::App(id) => apps.place(id).map(Parent::App),
        };
        Self {
            span,
            time: Interval::new(start, end),
            reach: Interval::new(
                start,
                if span.exchange == Exchange::Request { OPEN_END } else { end },
            ),
            agent,
            parent: parent.unwrap_or(Parent::Root),
        }
    }

    pub(super) fn is_client_process(&self) -> bool {
        self.span.point == ObservationPoint::ClientProcess
    }

    pub(super) fn is_server_process(&self) -> bool {
        self.span.point == ObservationPoint::ServerProcess
    }

    pub(super) fn is_client_side(&self) -> bool {
        self.span.point.is_client_side()
    }

    pub(super) fn has_response(&self) -> bool {
        self.span.exchange != Exchange::Request
    }

    pub(super) fn is_session(&self) -> bool {
        self.span.exchange == Exchange::Session
    }

    /// One agent has one clock.
    pub(super) fn tolerance(&self, other: &Row<'_>) -> Nanoseconds {
        if self.agent == other.agent { 0 } else { TOLERANCE_NS }
    }
}

/// Place in the answer → place here, from [`in_order`].
pub(super) fn places(order: &[usize]) -> Vec<usize> {
    let mut places = vec![0; order.len()];
    for (place, &original) in order.iter().enumerate() {
        places[original] = place;
    }
    places
}

/// The places in the answer, in the order of the row ids.
pub(super) fn in_order(found: &Found) -> Vec<usize> {
    let mut order: Vec<_> = (0..found.spans.len()).collect();
    order.sort_by_key(|&original| (found.spans[original].row, &found.spans[original].region));
    order
}

fn app_edges(found: &Found, places: &[usize], apps: &Apps) -> Vec<(usize, usize)> {
    let edges = found
        .app_edges
        .iter()
        .filter_map(|&(id, original)| Some((apps.place(id)?, *places.get(original)?)));
    let mut edges: Vec<_> = edges.collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}
