//! Whose span it is: the process that OpenTelemetry instruments, if the span was seen in it, else what DeepFlow names.

use std::{cell::OnceCell, collections::HashMap};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value},
    resource::v1::Resource,
    trace::v1::ResourceSpans,
};
use prost::Message;

use super::{attributes::key_value, identity::digest, protocol::Value};
use crate::{
    trace::{AppSpan, FoundSpan, SpanId},
    wire::field::put_delimited_head,
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
    /// Resource spans' header fields (resource and schema URL), as they came; `None` if they went out with an earlier
    /// part.
    header: Option<Vec<u8>>,
    /// What is remembered of a process that went out with an earlier part.
    service: Option<String>,
    /// What its header says; read once, for each found span asks.
    named: OnceCell<Option<String>>,
}

impl Processes {
    /// The number of the process with this header. Spans without a resource may come from anywhere: those below one
    /// entry, which begin with this span, are one process, and nobody else's.
    pub(super) fn number(&mut self, header: Vec<u8>, first_span: SpanId) -> usize {
        let key = if header.is_empty() {
            digest(b"no resource".iter().copied().chain(first_span.to_wire()))
        } else {
            digest(header.iter().copied())
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
    pub(super) fn services(&self) -> impl Iterator<Item = (u64, String)> {
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
        self.all.get(process)?.header.as_deref()
    }

    fn service_name(&self, process: usize) -> Option<String> {
        self.all.get(process)?.service_name()
    }
}

impl Process {
    fn service_name(&self) -> Option<String> {
        let Some(header) = &self.header else { return self.service.clone() };
        self.named.get_or_init(|| service_name(header)).clone()
    }
}

/// The header is a ResourceSpans without spans.
fn service_name(header: &[u8]) -> Option<String> {
    let attributes = ResourceSpans::decode(header).ok()?.resource?.attributes;
    let name = attributes.into_iter().find(|attribute| attribute.key == "service.name")?;
    match name.value {
        Some(AnyValue { value: Some(any_value::Value::StringValue(name)) }) => Some(name),
        _ => None,
    }
}

/// Gives each found span the header of its resource spans.
pub(super) struct Resources<'a> {
    processes: &'a Processes,
    /// By span id: the process of a received span.
    process_of: HashMap<SpanId, usize>,
    /// By id of a found span: the process of a received SERVER or CONSUMER span below it.
    server_of: HashMap<SpanId, usize>,
    /// DeepFlow's service name → the one the instrumented process gives itself, where all agree.
    names: HashMap<&'a str, Option<String>>,
}

impl<'a> Resources<'a> {
    pub(super) fn new(
        processes: &'a Processes,
        app: &[AppSpan],
        app_parents: &[Option<SpanId>],
        found: &'a [FoundSpan],
        ids: &[SpanId],
        found_parents: &[Option<SpanId>],
    ) -> Self {
        let process_of = app.iter().map(|span| (span.id, span.process)).collect();
        let servers = app
            .iter()
            .zip(app_parents)
            .filter_map(|(span, parent)| Some(((*parent)?, span.process)));
        let mut resources =
            Self { processes, process_of, server_of: servers.collect(), names: HashMap::new() };
        for ((span, id), parent) in found.iter().zip(ids).zip(found_parents) {
            if let Some(process) = resources.process(span, *id, *parent)
                && !span.service.is_empty()
            {
                let name = processes.service_name(process);
                let known = resources.names.entry(&span.service).or_insert_with(|| name.clone());
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
            self.server_of.get(&id).copied()
        }
    }

    /// The header fields of the span's resource spans.
    pub(super) fn header(&self, span: &FoundSpan, id: SpanId, parent: Option<SpanId>) -> Vec<u8> {
        let process = self.process(span, id, parent);
        if let Some(header) = process.and_then(|process| self.processes.header(process)) {
            return header.to_vec();
        }
        // The process may have gone out with an earlier part: then its name is left.
        let own = process.and_then(|process| self.processes.service_name(process));
        own_resource(span, own.or_else(|| self.names.get(span.service.as_str()).cloned().flatten()))
    }
}

/// A resource of DeepFlow's making.
fn own_resource(span: &FoundSpan, name: Option<String>) -> Vec<u8> {
    let fallback = || {
        [&span.service, &span.process_name, &span.ip]
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or_else(|| format!("deepflow-{}", span.point_name), String::from)
    };
    let text = |key, value| key_value(key, Value::Text(value));
    let mut attributes = vec![
        text("service.name", name.unwrap_or_else(fallback)),
        text("telemetry.distro.name", "tracestitch".to_owned()),
        text("telemetry.distro.version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    if !span.ip.is_empty() {
        attributes.push(text("host.ip", (&span.ip).into()));
    }
    let resource = Resource { attributes, ..Resource::default() }.encode_to_vec();
    let mut header = Vec::with_capacity(resource.len() + 4);
    put_delimited_head(&mut header, 1, resource.len());
    header.extend(resource);
    header
}
