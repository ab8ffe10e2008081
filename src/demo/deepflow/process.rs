//! Process sets: what happened in one process during one request, i.e. app spans, the `s-p` before them and the `c-p`s
//! after them.
//!
//! Posted spans know no instance, so no `s-p` or `c-p` ever meets them here. That is why the service does not weave.

use std::collections::{HashMap, HashSet};

use super::{
    Signal,
    node::{Forest, Node},
};

/// One process during one request.
#[derive(Debug, Default)]
pub(super) struct ProcessSet {
    spans: Vec<usize>,
    app_roots: Vec<usize>,
    app_leaves: Vec<usize>,
    call_requests: HashSet<u64>,
    call_responses: HashSet<u64>,
    trace_ids: HashSet<String>,
}

/// All process sets, by instance in the order of their first span.
#[derive(Debug, Default)]
pub(super) struct Processes {
    sets: Vec<ProcessSet>,
    /// `None` is the instance of posted spans.
    by_instance: Vec<(Option<u64>, Vec<usize>)>,
    /// The instance under which a process was seen first: (agent, process id) → instance.
    homes: HashMap<(u64, u64), u64>,
}

impl Processes {
    /// Sorts all but the packet rows into process sets and hangs them below each other inside these.
    pub(super) fn unite(forest: &mut Forest) -> Self {
        let mut processes = Self::default();
        processes.unite_app_spans(forest);
        let all = 0..forest.nodes.len();
        let (servers, clients): (Vec<usize>, Vec<usize>) = all
            .filter(|&index| forest.row(index).signal == Signal::Ebpf)
            .partition(|&index| forest.nodes[index].is_server_process());
        processes.attach_to_app_spans(forest, &clients, &servers);
        processes.found_by_servers(forest, &servers);
        processes.attach_clients(forest, &clients);
        processes.found_by_clients(forest, &clients);
        processes
    }

    /// Tops and ends of all sets: (roots, leaves).
    pub(super) fn ends(&self, forest: &mut Forest) -> (Vec<usize>, Vec<usize>) {
        let (mut roots, mut leaves) = (Vec::new(), Vec::new());
        let sets = self.by_instance.iter().flat_map(|(_, sets)| sets).map(|&set| &self.sets[set]);
        for set in sets {
            let parents: HashSet<usize> =
                set.spans.iter().filter_map(|&span| forest.nodes[span].parent).collect();
            for &span in &set.spans {
                let node = &mut forest.nodes[span];
                node.is_process_root = node.parent.is_none();
                if node.is_process_root {
                    roots.push(span);
                }
                if !parents.contains(&span) {
                    leaves.push(span);
                }
            }
        }
        (roots, leaves)
    }

    fn unite_app_spans(&mut self, forest: &mut Forest) {
        let mut groups: Vec<(Option<u64>, Vec<usize>)> = Vec::new();
        for index in 0..forest.nodes.len() {
            let row = forest.row(index);
            if row.signal != Signal::Otel {
                continue;
            }
            let instance = (row.instance_id != 0).then_some(row.instance_id);
            match groups.iter_mut().find(|(known, _)| *known == instance) {
                Some((_, spans)) => spans.push(index),
                None => groups.push((instance, vec![index])),
            }
        }
        for (instance, spans) in groups {
            hang_by_parent_id(forest, &spans);
            let sets = split_by_root(forest, &spans);
            let first = self.sets.len();
            self.by_instance.push((instance, (first..first + sets.len()).collect()));
            self.sets.extend(sets);
        }
    }

    /// Only OTel rows of DeepFlow's own are ever met here, for posted spans have no instance.
    fn attach_to_app_spans(&mut self, forest: &mut Forest, clients: &[usize], servers: &[usize]) {
        for &span in clients.iter().chain(servers) {
            for set in self.sets_of(Some(forest.row(span).instance_id)) {
                if forest.nodes[span].is_server_process() {
                    self.attach_server(forest, set, span);
                } else {
                    self.attach_client(forest, set, span);
                }
            }
        }
    }

    fn attach_client(&mut self, forest: &mut Forest, set: usize, span: usize) {
        let span_id = &forest.row(span).span_id;
        let mut leaves = self.sets[set].app_leaves.iter();
        let leaf =
            leaves.find(|&&leaf| !span_id.is_empty() && *span_id == forest.row(leaf).span_id);
        if let Some(&leaf) = leaf {
            self.append(forest, set, span);
            forest.hang(span, leaf);
        }
    }

    fn attach_server(&mut self, forest: &mut Forest, set: usize, span: usize) {
        let row = forest.row(span);
        let same_thread = self.sets[set].call_requests.contains(&row.syscall_ids[0])
            || self.sets[set].call_responses.contains(&row.syscall_ids[1]);
        let belongs = |&&root: &&usize| {
            let named = !row.span_id.is_empty() && row.span_id == forest.row(root).parent_span_id;
            forest.nodes[root].parent.is_none() && (named || same_thread)
        };
        if let Some(&root) = self.sets[set].app_roots.iter().find(belongs) {
            self.append(forest, set, span);
            forest.hang(root, span);
        }
    }

    /// Each `s-p` is the top of a set: a process that is entered twice has two.
    fn found_by_servers(&mut self, forest: &mut Forest, servers: &[usize]) {
        for &span in servers {
            if forest.nodes[span].process_set.is_some() {
                continue;
            }
            let instance = forest.row(span).instance_id;
            self.homes.entry(process_of(&forest.nodes[span])).or_insert(instance);
            self.found(forest, instance, span);
        }
    }

    fn attach_clients(&mut self, forest: &mut Forest, clients: &[usize]) {
        let brothers = Brothers::new(forest, clients);
        for (place, &span) in clients.iter().enumerate() {
            if forest.nodes[span].process_set.is_some() {
                continue;
            }
            let home = self.homes.get(&process_of(&forest.nodes[span])).copied();
            let sets = home.map_or(Vec::new(), |home| self.sets_of(Some(home)));
            let sets = if home.is_some() {
                sets
            } else {
                self.sets_of(Some(forest.row(span).instance_id))
            };
            let server = latest(
                forest,
                sets.iter().filter_map(|&set| self.server_during(forest, set, span)),
            )
            .or_else(|| {
                latest(forest, sets.iter().filter_map(|&set| self.server_before(forest, set, span)))
            });
            let Some((set, server)) = server else { continue };
            self.append(forest, set, span);
            forest.hang(span, server);
            for brother in brothers.of(place) {
                self.attach_brother(forest, set, server, brother);
            }
        }
    }

    /// A brother of an attached call comes along when it happened during the same `s-p`.
    fn attach_brother(&mut self, forest: &mut Forest, set: usize, server: usize, brother: usize) {
        let node = &forest.nodes[brother];
        let during = covers_or_lost(&forest.nodes[server], node);
        if node.parent.is_none() && same_process(&forest.nodes[server], node) && during {
            self.append(forest, set, brother);
            forest.hang(brother, server);
        }
    }

    /// Calls that nobody claimed are sets of their own.
    fn found_by_clients(&mut self, forest: &mut Forest, clients: &[usize]) {
        for &span in clients {
            if forest.nodes[span].process_set.is_none() {
                let instance = forest.row(span).instance_id;
                self.homes.entry(process_of(&forest.nodes[span])).or_insert(instance);
                self.found(forest, instance, span);
            }
        }
    }

    /// The set's `s-p`, if this `c-p` happened during it and something joins them.
    fn server_during(&self, forest: &Forest, set: usize, span: usize) -> Option<(usize, usize)> {
        let (process, client) = (&self.sets[set], &forest.nodes[span]);
        let [request, response] = client.row.syscall_ids;
        let follows_call =
            process.call_responses.contains(&request) || process.call_requests.contains(&response);
        let server = self.server_of(forest, set)?;
        let node = &forest.nodes[server];
        if !same_process(node, client) || !covers_or_lost(node, client) {
            return None;
        }
        // Zero counts as equal to zero here: a thread nobody knows joins what happened at the same time.
        let same_thread = node.row.syscall_ids.iter().any(|id| client.row.syscall_ids.contains(id));
        let same_trace = client.row.trace_ids().any(|id| process.trace_ids.contains(id));
        let joined = follows_call || same_thread || same_x_request(node, client) || same_trace;
        joined.then_some((set, server))
    }

    /// The set's `s-p`, if it ended before this `c-p` and both carry the same trace id: taken for an asynchronous call.
    fn server_before(&self, forest: &Forest, set: usize, span: usize) -> Option<(usize, usize)> {
        let client = &forest.nodes[span];
        let server = self.server_of(forest, set)?;
        let node = &forest.nodes[server];
        let before = node.row.start_us <= client.row.start_us
            && (node.row.end_us < client.row.end_us || node.row.duration_us() == 0);
        let same_trace = client.row.trace_ids().any(|id| self.sets[set].trace_ids.contains(id));
        (same_process(node, client) && before && same_trace).then_some((set, server))
    }

    fn server_of(&self, forest: &Forest, set: usize) -> Option<usize> {
        self.sets[set].spans.iter().copied().find(|&span| forest.nodes[span].is_server_process())
    }

    fn found(&mut self, forest: &mut Forest, instance: u64, span: usize) {
        let set = self.sets.len();
        self.sets.push(ProcessSet::default());
        self.append(forest, set, span);
        match self.by_instance.iter_mut().find(|(known, _)| *known == Some(instance)) {
            Some((_, sets)) => sets.push(set),
            None => self.by_instance.push((Some(instance), vec![set])),
        }
    }

    /// A `c-p` takes over the process of the `s-p` whose set it joins, even where a sidecar shares the pod.
    fn append(&mut self, forest: &mut Forest, set: usize, span: usize) {
        let host =
            self.server_of(forest, set).and_then(|server| forest.row(server).process.clone());
        let node = &mut forest.nodes[span];
        node.process_set = Some(set);
        let process = &mut self.sets[set];
        process.spans.push(span);
        process.trace_ids.extend(node.row.trace_ids().map(str::to_owned));
        if !node.is_client_process() {
            return;
        }
        let [request, response] = node.row.syscall_ids;
        process.call_requests.extend((request != 0).then_some(request));
        process.call_responses.extend((response != 0).then_some(response));
        if let (Some(own), Some(host)) = (&mut node.row.process, host) {
            own.id = host.id;
            own.name = host.name;
        }
    }

    fn sets_of(&self, instance: Option<u64>) -> Vec<usize> {
        let found = self.by_instance.iter().find(|(known, _)| *known == instance);
        found.map_or(Vec::new(), |(_, sets)| sets.clone())
    }
}

/// `c-p`s that belong together: one follows the other in a thread, or they carry the same trace id.
struct Brothers<'c> {
    clients: &'c [usize],
    elders: Vec<usize>,
}

impl<'c> Brothers<'c> {
    fn new(forest: &Forest, clients: &'c [usize]) -> Self {
        let (mut by_request, mut by_trace) = (HashMap::new(), HashMap::new());
        for (place, &span) in clients.iter().enumerate() {
            let row = forest.row(span);
            by_request.insert(row.syscall_ids[0], place);
            by_trace.extend(row.trace_ids().map(|id| (id, place)));
        }
        let elder = |(place, &span): (usize, &usize)| {
            let row = forest.row(span);
            let response = row.syscall_ids[1];
            let next = by_request.get(&response).filter(|_| response != 0).copied();
            row.trace_ids()
                .filter_map(|id| by_trace.get(id).copied())
                .last()
                .or(next)
                .unwrap_or(place)
        };
        Self { clients, elders: clients.iter().enumerate().map(elder).collect() }
    }

    /// All brothers of this one but the eldest.
    fn of(&self, place: usize) -> Vec<usize> {
        let eldest = self.eldest(place);
        let places = 0..self.clients.len();
        let brothers = places.filter(|&other| other != eldest && self.eldest(other) == eldest);
        brothers.map(|other| self.clients[other]).collect()
    }

    fn eldest(&self, place: usize) -> usize {
        let mut eldest = place;
        // Rings occur; the number of calls bounds the walk.
        for _ in 0..self.elders.len() {
            if self.elders[eldest] == eldest {
                break;
            }
            eldest = self.elders[eldest];
        }
        eldest
    }
}

/// The last span of an id wins when several share it.
fn hang_by_parent_id(forest: &mut Forest, spans: &[usize]) {
    let by_id: HashMap<String, usize> = spans
        .iter()
        .map(|&span| (forest.row(span).span_id.clone(), span))
        .filter(|(id, _)| !id.is_empty())
        .collect();
    for &span in spans {
        if let Some(&parent) = by_id.get(&forest.row(span).parent_span_id) {
            forest.hang(span, parent);
        }
    }
}

/// Trees whose roots name different parents are different requests.
fn split_by_root(forest: &mut Forest, spans: &[usize]) -> Vec<ProcessSet> {
    let mut sets: Vec<(String, ProcessSet)> = Vec::new();
    let parents: HashSet<usize> =
        spans.iter().filter_map(|&span| forest.nodes[span].parent).collect();
    for &span in spans {
        let root = root_of(forest, span);
        let caller = forest.row(root).parent_span_id.clone();
        let place = sets.iter().position(|(known, _)| *known == caller).unwrap_or_else(|| {
            sets.push((caller, ProcessSet::default()));
            sets.len() - 1
        });
        let set = &mut sets[place].1;
        set.spans.push(span);
        set.trace_ids.extend(forest.row(span).trace_ids().map(str::to_owned));
        if !set.app_roots.contains(&root) {
            set.app_roots.push(root);
        }
        if !parents.contains(&span) {
            set.app_leaves.push(span);
        }
    }
    sets.into_iter().map(|(_, set)| set).collect()
}

fn root_of(forest: &Forest, span: usize) -> usize {
    let mut root = span;
    for _ in 0..forest.nodes.len() {
        match forest.nodes[root].parent {
            Some(parent) => root = parent,
            None => break,
        }
    }
    root
}

fn process_of(node: &Node) -> (u64, u64) {
    (node.row.agent_id, node.row.process.as_ref().map_or(0, |process| process.id))
}

fn same_process(one: &Node, other: &Node) -> bool {
    let (one_id, other_id) = (process_of(one), process_of(other));
    let same_pod = one.row.instance_type == 10
        && other.row.instance_type == 10
        && one.row.instance_id != 0
        && one.row.instance_id == other.row.instance_id;
    one_id.0 == other_id.0 && ((one_id.1 != 0 && one_id == other_id) || same_pod)
}

/// A server whose response was not seen covers all that begins after it.
fn covers_or_lost(server: &Node, client: &Node) -> bool {
    let lost = server.row.duration_us() == 0 && server.row.start_us <= client.row.start_us;
    server.covers(client) || lost
}

fn same_x_request(server: &Node, client: &Node) -> bool {
    let [request, response] = &server.row.x_request_ids;
    (!request.is_empty() && *request == client.row.x_request_ids[0])
        || (!response.is_empty() && client.row.x_request_ids.contains(response))
}

/// Of several servers the one that began last: it is the nearest.
fn latest(forest: &Forest, found: impl Iterator<Item = (usize, usize)>) -> Option<(usize, usize)> {
    found.reduce(|best, next| {
        let later = forest.row(next.1).start_us > forest.row(best.1).start_us;
        if later { next } else { best }
    })
}
