//! Rule W2: a request that was passed on, by a proxy, a sidecar, a gateway, or a service without SDK that copies the
//! header. The call behind hangs below the last row of the call in front.

use std::iter;

use foldhash::HashMap;

use super::{
    Evidence,
    call::Group,
    row::Parent,
    tree::{Rule, Tree},
};

/// So many calls that hang below a call already are tried as calls in front of it. In practice there is none.
const ROUNDABOUT_MAX: usize = 8;

/// Why a call is taken to be another one passed on, from the strongest reason.
const STRENGTHS: [Strength; 4] =
    [Strength::Thread, Strength::RequestId, Strength::Instance, Strength::Within];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strength {
    /// 4: one system-call thread received one and sent the other.
    Thread,
    /// 3: both carry the same X-Request-ID.
    RequestId,
    /// 2: the same header, received and sent by one instance.
    Instance,
    /// 1: the same header, and one lies within the other.
    Within,
}

/// Hangs calls below the calls they pass on (DeepFlow contract, rule W2).
pub(super) fn weave(evidence: &Evidence<'_>, tree: &mut Tree) {
    let mut hops = Hops::new(evidence);
    for strength in STRENGTHS {
        hops.find(strength, Circle::Group);
    }
    for strength in [Strength::Thread, Strength::RequestId] {
        hops.find(strength, Circle::Others);
    }
    for (call, front) in hops.fronts.iter().enumerate() {
        if let Some(front) = *front {
            let [head, tail] = [evidence.calls.call(call).head, evidence.calls.call(front).tail];
            tree.hang_row(head, Parent::Row(tail), Rule::Hop);
        }
    }
}

/// Where a call in front is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Circle {
    /// Among the calls with the same span id.
    Group,
    /// For calls without span id: everywhere. With a span id that we do not hold: among calls without one.
    Others,
}

struct Hops<'e, 'a> {
    evidence: &'e Evidence<'a>,
    /// Call → the call in front of it.
    fronts: Vec<Option<usize>>,
    /// Call → the call of the row that its sender's thread was answering.
    answered: Vec<Option<usize>>,
    /// X-Request-ID → calls whose last row has it, the shortest first.
    by_request_id: HashMap<&'a str, Vec<usize>>,
    /// Group → who sent its first call.
    first_senders: Vec<Option<u64>>,
}

impl<'e, 'a> Hops<'e, 'a> {
    fn new(evidence: &'e Evidence<'a>) -> Self {
        let Evidence { calls, threads, .. } = evidence;
        let answered = |head| threads.server(head).map(|server| calls.of_row(server));
        let mut hops = Self {
            evidence,
            fronts: vec![None; calls.len()],
            answered: calls.iter().map(|(_, call)| answered(call.head)).collect(),
            by_request_id: by_request_id(evidence),
            first_senders: Vec::new(),
        };
        hops.first_senders = calls.groups().iter().map(|group| hops.first_sender(group)).collect();
        hops
    }

    fn first_sender(&self, group: &Group) -> Option<u64> {
        let start =
            |call: usize| self.evidence.rows.row(self.evidence.calls.call(call).head).time.start;
        let first = group.calls.iter().copied().min_by_key(|&call| (start(call), call));
        self.sender(first?)
    }

    /// Gives a call in front to those that have none yet.
    fn find(&mut self, strength: Strength, circle: Circle) {
        for call in 0..self.evidence.calls.len() {
            if self.fronts[call].is_none() && self.is_searched(call, circle) {
                self.fronts[call] = self.front(call, strength, circle);
            }
        }
    }

    fn is_searched(&self, call: usize, circle: Circle) -> bool {
        let group = self.evidence.calls.group_of(call);
        match circle {
            Circle::Group => group.is_some_and(|group| group.calls.len() > 1),
            Circle::Others => group.is_none_or(|group| group.app.is_none()),
        }
    }

    /// The shortest call in front. Of calls that lie in each other the first one found is in front.
    fn front(&self, call: usize, strength: Strength, circle: Circle) -> Option<usize> {
        let candidates = self.candidates(call, strength, circle).iter().copied();
        candidates
            .filter(|&front| {
                self.is_in_circle(call, front, circle) && self.is_front(call, front, strength)
            })
            .take(ROUNDABOUT_MAX)
            .find(|&front| !self.leads_to(front, call))
    }

    /// All calls that could be in front, and others; the shortest first.
    fn candidates(&self, call: usize, strength: Strength, circle: Circle) -> &[usize] {
        let calls = &self.evidence.calls;
        match (strength, circle) {
            (Strength::Thread, _) => self.answered[call].as_slice(),
            (_, Circle::Group) => calls.group_of(call).map_or(&[], |group| &group.calls),
            (_, Circle::Others) => {
                self.by_request_id.get(self.request_id(call)).map_or(&[], Vec::as_slice)
            }
        }
    }

    fn is_in_circle(&self, call: usize, front: usize, circle: Circle) -> bool {
        let [own, other] = [call, front].map(|call| self.evidence.calls.call(call).group);
        let is_in = match circle {
            Circle::Group => own.is_some() && own == other,
            Circle::Others => own.is_none() || other.is_none(),
        };
        is_in && front != call
    }

    fn is_front(&self, call: usize, front: usize, strength: Strength) -> bool {
        match strength {
            Strength::Thread => self.is_same_thread(call, front),
            Strength::RequestId => self.is_same_request(call, front),
            Strength::Instance => {
                self.is_same_instance(call, front) && !self.is_in_sidecar(call, front)
            }
            Strength::Within => {
                self.is_passed_on(call, front) || self.is_same_instance(call, front)
            }
        }
    }

    /// The thread that sent one was answering the other, as its last row shows.
    fn is_same_thread(&self, call: usize, front: usize) -> bool {
        let Evidence { calls, threads, .. } = self.evidence;
        threads.server(calls.call(call).head) == Some(calls.call(front).tail)
    }

    fn request_id(&self, call: usize) -> &'a str {
        &self.evidence.rows.row(self.evidence.calls.call(call).head).span.x_request_ids[0]
    }

    fn is_same_request(&self, call: usize, front: usize) -> bool {
        let Evidence { rows, calls, .. } = self.evidence;
        let [behind, before] = [call, front].map(|call| calls.call(call));
        let tail = rows.row(before.tail);
        let id = self.request_id(call);
        behind.length <= before.reach
            && rows.is_inside(behind.head, before.tail)
            && !id.is_empty()
            && tail.span.x_request_ids.iter().any(|other| other == id)
            && (!tail.is_client_side() || (!before.has_server_side && self.is_within(call, front)))
    }

    /// The instance that received the one sent the other. Releases that tell no instances have at least agents.
    fn is_same_instance(&self, call: usize, front: usize) -> bool {
        let Evidence { rows, calls, .. } = self.evidence;
        let [head, tail] = [calls.call(call).head, calls.call(front).tail];
        !rows.row(tail).is_client_side()
            && rows.row(head).is_client_side()
            && rows.is_inside(head, tail)
            && self.place_of(head).is_some_and(|place| self.place_of(tail) == Some(place))
    }

    /// Instance, or agent where the release knows none. `None` if the instance is not known.
    fn place_of(&self, row: usize) -> Option<u64> {
        let Evidence { rows, .. } = self.evidence;
        let span = rows.row(row).span;
        if rows.has_instances {
            Some(span.instance_id).filter(|&id| id != 0)
        } else {
            Some(span.agent_id)
        }
    }

    /// The receiver's thread is known, did not send this call and made others: likely a sidecar received it, and
    /// another process of the pod sent this call.
    fn is_in_sidecar(&self, call: usize, front: usize) -> bool {
        let Evidence { calls, threads, .. } = self.evidence;
        let [head, tail] = [calls.call(call).head, calls.call(front).tail];
        let has_other =
            threads.some_sent_calls(tail).iter().any(|other| ![call, front].contains(other));
        threads.has_thread(head) && has_other
    }

    /// The same header, one within the other, and a reason why it is not just another call of the same span.
    fn is_passed_on(&self, call: usize, front: usize) -> bool {
        let Evidence { calls, apps, .. } = self.evidence;
        let [behind, before] = [call, front].map(|call| calls.call(call));
        if behind.length >= before.reach || !self.is_within(call, front) {
            return false;
        }
        let app = calls.group_of(call).and_then(|group| group.app);
        let is_one_call = app.is_none_or(|app| apps.node(app).kind.is_caller());
        let is_unwatched_between = !before.is_seen_at_server && !behind.is_seen_at_client;
        let is_other_sender =
            self.sender(call).is_some_and(|sender| self.sender(front) != Some(sender));
        is_one_call || is_unwatched_between || (!before.has_server_side && is_other_sender)
    }

    /// Within, by the heads. Clocks of two agents alone don't tell a request passed on from one tried again.
    fn is_within(&self, call: usize, front: usize) -> bool {
        let Evidence { rows, calls, .. } = self.evidence;
        let [inner, outer] = [call, front].map(|call| calls.call(call).head);
        let [inner_row, outer_row] = [inner, outer].map(|row| rows.row(row));
        rows.is_inside(inner, outer)
            && (inner_row.span.agent_id == outer_row.span.agent_id
                || (inner_row.time.is_half_covered(outer_row.reach) && !self.is_first_sender(call)))
    }

    /// Who sent a call, if that was seen.
    fn sender(&self, call: usize) -> Option<u64> {
        let head = self.evidence.calls.call(call).head;
        if self.evidence.rows.row(head).is_client_side() { self.place_of(head) } else { None }
    }

    fn is_first_sender(&self, call: usize) -> bool {
        let Some(group) = self.evidence.calls.call(call).group else {
            return false;
        };
        let sender = self.sender(call);
        sender.is_some() && self.first_senders[group] == sender
    }

    /// Whether going from a call to the calls in front of it comes to `target`.
    fn leads_to(&self, call: usize, target: usize) -> bool {
        iter::successors(Some(call), |&call| self.fronts[call]).any(|call| call == target)
    }
}

/// X-Request-ID of a request, or of its response → calls whose last row has it, the shortest first.
fn by_request_id<'a>(evidence: &Evidence<'a>) -> HashMap<&'a str, Vec<usize>> {
    let mut calls: Vec<_> = (0..evidence.calls.len()).collect();
    calls.sort_by_key(|&call| (evidence.calls.call(call).reach, call));
    let mut by_request_id: HashMap<_, Vec<_>> = HashMap::default();
    for call in calls {
        let [request, response] =
            &evidence.rows.row(evidence.calls.call(call).tail).span.x_request_ids;
        let other = Some(response).filter(|response| *response != request);
        for id in iter::once(request).chain(other).filter(|id| !id.is_empty()) {
            by_request_id.entry(id.as_str()).or_default().push(call);
        }
    }
    by_request_id
}
