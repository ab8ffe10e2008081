//! Whose span it is: the process that OpenTelemetry instruments, if the span was seen in it, else what DeepFlow names.

use std::{borrow::Cow, cell::OnceCell, sync::Arc};

use foldhash::HashMap;

use super::{identity::digest, lineage::Lineage};
use crate::{
    trace::{AppSpan, FoundSpan, SpanId},
    wire::{
        Shared,
        attributes::{Attributes, text_of},
        field::{put_delimited_head, values},
    },
};

/// The received processes, by number.
#[derive(Debug, Default)]
pub(super) struct Processes {
    all: Vec<Process>,
    numbers: HashMap<u64, usize>,
}

#[derive(Debug)]
struct Process {
    /// Hash of the header.
    key: u64,
    /// `None` if it went out with an earlier part.
    header: Option<Header>,
    /// What is remembered of a process that went out with an earlier part.
    service: Option<String>,
    /// What its header says; read once, for each found span asks.
    named: OnceCell<Option<String>>,
}

/// Resource spans' header fields (resource and schema URL), as they came.
#[derive(Debug, Clone)]
pub(super) enum Header {
    /// With other fragments.
    Shared(Arc<Shared>),
    /// The fragment's own.
    Own(Vec<u8>),
}

impl Default for Header {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Header {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(shared) => shared.bytes(),
            Self::Own(bytes) => bytes,
        }
    }

    fn digest(&self) -> u64 {
        let of = |bytes: &[u8]| digest(bytes.iter().copied());
        match self {
            Self::Shared(shared) => shared.digest(of),
            Self::Own(bytes) => of(bytes),
        }
    }
}

impl Processes {
    /// The number of the process with this header. Spans without a resource may come from anywhere: those below one
    /// entry, which begin with this span, are one process, and nobody else's.
    pub(super) fn number(&mut self, header: Header, first_span: SpanId) -> usize {
        let key = if header.bytes().is_empty() {
            digest(b"no resource".iter().copied().chain(first_span.to_wire()))
        } else {
            header.digest()
        };
        let number = self.entry(key);
        if let Some(process) = self.all.get_mut(number) {
            process.header.get_or_insert(header);
        }
        number
    }

    /// The number of a process of an earlier part.
    pub(super) fn known(&mut self, key: u64, service: Option<&str>) -> usize {
        let number = self.entry(key);
        if let Some(process) = self.all.get_mut(number)
            && process.service.is_none()
        {
            process.service = service.map(str::to_owned);
        }
        number
    }

    /// The hash of a process.
    pub(super) fn key(&self, process: usize) -> u64 {
        self.all.get(process).map_or(0, |process| process.key)
    }

    /// Keys and service names of those that came with this part.
    pub(super) fn services(&self) -> impl Iterator<Item = (u64, &str)> {
        let own = self.all.iter().filter(|process| process.header.is_some());
        own.filter_map(|process| Some((process.key, process.service_name()?)))
    }

    fn entry(&mut self, key: u64) -> usize {
        let next = self.all.len();
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            let named = OnceCell::new();
            self.all.push(Process { key, header: None, service: None, named });
        }
        number
    }

    fn header(&self, process: usize) -> Option<&[u8]> {
        self.all.get(process)?.header.as_ref().map(Header::bytes)
    }

    fn service_name(&self, process: usize) -> Option<&str> {
        self.all.get(process)?.service_name()
    }
}

impl Process {
    fn service_name(&self) -> Option<&str> {
        let Some(header) = &self.header else { return self.service.as_deref() };
        self.named.get_or_init(|| service_name(header.bytes()).map(str::to_owned)).as_deref()
    }
}

/// The header is a ResourceSpans without spans.
fn service_name(header: &[u8]) -> Option<&str> {
    let mut attributes = values(header, 1).flat_map(|resource| values(resource, 1));
    attributes.find_map(|attribute| text_of(attribute, "service.name"))?
}

/// Whose a found span is. Those that are equal have the same header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Resource<'a> {
    /// A received process, by its number.
    Process(usize),
    /// One of DeepFlow's making.
    Own { service: Cow<'a, str>, ip: &'a str },
}

/// Gives each found span its resource.
pub(super) struct Resources<'a> {
    processes: &'a Processes,
    /// By span id: the process of a received span.
    process_of: HashMap<SpanId, usize>,
    /// By id of a found span: the process of the received spans right below it, where they are of one.
    server_of: HashMap<SpanId, Option<usize>>,
    /// Of found spans, in their order, as lineage has them.
    found_parents: &'a [Option<SpanId>],
    /// DeepFlow's service name → the one the instrumented process gives itself, where all agree.
    names: HashMap<&'a str, Option<&'a str>>,
}

impl<'a> Resources<'a> {
    pub(super) fn new(
        processes: &'a Processes,
        app: &[AppSpan],
        lineage: &'a Lineage,
        found: &'a [FoundSpan],
        ids: &[SpanId],
    ) -> Self {
        let Lineage { app_parents, found_parents, .. } = lineage;
        let process_of = app.iter().map(|span| (span.id, span.process)).collect();
        let servers = app
            .iter()
            .zip(app_parents)
            .filter_map(|(span, parent)| Some(((*parent)?, span.process)));
        let mut server_of: HashMap<SpanId, Option<usize>> = HashMap::default();
        server_of.reserve(app.len());
        for (found, process) in servers {
            let known = server_of.entry(found).or_insert(Some(process));
            if *known != Some(process) {
                *known = None;
            }
        }
        let names = HashMap::default();
        let mut resources = Self { processes, process_of, server_of, found_parents, names };
        for ((span, id), parent) in found.iter().zip(ids).zip(found_parents) {
            if let Some(process) = resources.process(span, *id, *parent)
                && !span.service.is_empty()
            {
                let name = processes.service_name(process);
                let known = resources.names.entry(&span.service).or_insert(name);
                if *known != name {
                    *known = None;
                }
            }
        }
        resources
    }

    /// The instrumented process a span was seen in: a client's process makes the calls of its own spans, a server's
    /// answers them. Pods and names alone don't tell: a sidecar shares both.
    fn process(&self, span: &FoundSpan, id: SpanId, parent: Option<SpanId>) -> Option<usize> {
        if !span.point.is_process() {
            return None;
        }
        if span.point.is_client_side() {
            self.process_of.get(&parent?).copied()
        } else {
            self.server_of.get(&id).copied().flatten()
        }
    }

    /// The resource of a span, which has this place among the found ones.
    pub(super) fn of(&self, span: &'a FoundSpan, id: SpanId, place: usize) -> Resource<'a> {
        let parent = self.found_parents.get(place).copied().flatten();
        let process = self.process(span, id, parent);
        if let Some(process) = process.filter(|process| self.processes.header(*process).is_some()) {
            return Resource::Process(process);
        }
        // The process may have gone out with an earlier part: then its name is left.
        let name = process.and_then(|process| self.processes.service_name(process));
        let service: &str = &span.service;
        let name = name.or_else(|| self.names.get(service).copied().flatten());
        Resource::Own { service: name.map_or_else(|| own_name(span), Cow::Borrowed), ip: &span.ip }
    }

    /// The header fields of its resource spans.
    pub(super) fn header(&self, resource: &Resource<'_>) -> Vec<u8> {
        match resource {
            Resource::Process(process) => {
                self.processes.header(*process).unwrap_or_default().to_vec()
            }
            Resource::Own { service, ip } => own_header(service, ip),
        }
    }
}

/// The name of a service that no instrumented process names.
fn own_name(span: &FoundSpan) -> Cow<'_, str> {
    let names: [&str; 3] = [&span.service, &span.process_name, &span.ip];
    match names.into_iter().find(|name| !name.is_empty()) {
        Some(name) => name.into(),
        None => format!("deepflow-{}", span.point_name).into(),
    }
}

fn own_header(service: &str, ip: &str) -> Vec<u8> {
    let mut attributes = Attributes::new(1);
    attributes.text("service.name", service);
    attributes.text("telemetry.distro.name", "tracestitch");
    attributes.text("telemetry.distro.version", env!("CARGO_PKG_VERSION"));
    if !ip.is_empty() {
        attributes.texts("host.ip", &[ip]);
    }
    let resource = attributes.bytes();
    let mut header = Vec::with_capacity(resource.len() + 4);
    put_delimited_head(&mut header, 1, resource.len());
    header.extend(resource);
    header
}
