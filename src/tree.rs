//! Traces as trees, for people: the debug exporter, `weave --format tree`, the demo.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{Span, span::SpanKind},
};

/// How trees look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    color: bool,
}

impl Style {
    /// For files and pipes.
    pub fn plain() -> Self {
        Self { color: false }
    }

    /// For terminals: added spans stand out.
    pub fn color() -> Self {
        Self { color: true }
    }
}

struct Node<'a> {
    span: &'a Span,
    service: &'a str,
    added: bool,
}

/// Renders every trace of a request. Added spans begin with `+`.
pub fn render(request: &ExportTraceServiceRequest, style: Style) -> String {
    let mut traces: BTreeMap<&[u8], Vec<Node<'_>>> = BTreeMap::new();
    for resource in &request.resource_spans {
        let attributes =
            resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let service = text(attributes, "service.name").unwrap_or("?");
        for scope in &resource.scope_spans {
            let name = scope.scope.as_ref().map_or("", |scope| scope.name.as_str());
            let added = name.starts_with("tracestitch.");
            for span in &scope.spans {
                traces.entry(&span.trace_id).or_default().push(Node { span, service, added });
            }
        }
    }
    let mut out = String::new();
    for (trace_id, mut nodes) in traces {
        nodes.sort_by_key(|node| (node.span.start_time_unix_nano, !node.added));
        let added = nodes.iter().filter(|node| node.added).count();
        let spans = nodes.len() - added;
        let hex = trace_id.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let added = if added > 0 { format!(" + {added} added") } else { String::new() };
        line(&mut out, format_args!("trace {hex}  {spans} spans{added}"));
        Forest::new(&nodes).render(&mut out, style);
    }
    out
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref();
    match value {
        Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => Some(text),
        _ => None,
    }
}

/// Writing to a String can't fail.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").unwrap_or_default();
}

struct Forest<'a> {
    nodes: &'a [Node<'a>],
    children: HashMap<&'a [u8], Vec<usize>>,
    roots: Vec<usize>,
}

impl<'a> Forest<'a> {
    fn new(nodes: &'a [Node<'a>]) -> Self {
        let ids: HashSet<&[u8]> = nodes.iter().map(|node| node.span.span_id.as_slice()).collect();
        let mut forest = Self { nodes, children: HashMap::new(), roots: Vec::new() };
        for (number, node) in nodes.iter().enumerate() {
            let parent = node.span.parent_span_id.as_slice();
            if ids.contains(parent) && parent != node.span.span_id.as_slice() {
                forest.children.entry(parent).or_default().push(number);
            } else {
                forest.roots.push(number);
            }
        }
        forest
    }

    /// Depth first without recursion: a chain may be as long as a trace. Spans in cycles come last.
    fn render(&self, out: &mut String, style: Style) {
        let mut seen = HashSet::new();
        let starts = self.roots.iter().copied().chain(0..self.nodes.len());
        for start in starts {
            let mut stack = vec![(start, String::new(), String::new())];
            while let Some((number, branch, indent)) = stack.pop() {
                let Some(node) = self.nodes.get(number).filter(|_| seen.insert(number)) else {
                    continue;
                };
                Self::show(out, node, &branch, style);
                let children = self.children.get(node.span.span_id.as_slice());
                let children = children.map_or(&[][..], Vec::as_slice);
                for (place, &child) in children.iter().enumerate().rev() {
                    let (fork, pad) = if place + 1 == children.len() {
                        ("└─ ", "   ")
                    } else {
                        ("├─ ", "│  ")
                    };
                    stack.push((child, format!("{indent}{fork}"), format!("{indent}{pad}")));
                }
            }
        }
    }

    fn show(out: &mut String, node: &Node<'_>, branch: &str, style: Style) {
        let span = node.span;
        let kind = match SpanKind::try_from(span.kind) {
            Ok(SpanKind::Server) => "SERVER",
            Ok(SpanKind::Client) => "CLIENT",
            Ok(SpanKind::Producer) => "PRODUCER",
            Ok(SpanKind::Consumer) => "CONSUMER",
            _ => "INTERNAL",
        };
        let us = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) / 1000;
        let took = if us >= 10_000 { format!("{} ms", us / 1000) } else { format!("{us} µs") };
        let point = text(&span.attributes, "deepflow.tap_side").unwrap_or_default();
        let mark = if node.added { "+ " } else { "" };
        let error = span.status.as_ref().is_some_and(|status| status.code == 2);
        let error = if error { "  ERROR" } else { "" };
        let point = if point.is_empty() { String::new() } else { format!("  ({point})") };
        let words = format!("{mark}{}  [{}] {kind} {took}{point}{error}", span.name, node.service);
        // Names come from whoever may send; none shall steer the terminal of who looks.
        let words = words.replace(char::is_control, "\u{fffd}");
        match (style.color, node.added) {
            (true, true) => line(out, format_args!("{branch}\u{1b}[32m{words}\u{1b}[0m")),
            _ => line(out, format_args!("{branch}{words}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_steers_a_terminal() {
        let request = serde_json::json!({"resourceSpans": [{"scopeSpans": [{"spans": [
            {"traceId": "01", "spanId": "02", "name": "GET \u{1b}]0;me\u{7}\nafter"}
        ]}]}]});
        let request = crate::wire::json::request(request.to_string().as_bytes()).expect("OTLP");
        let tree = render(&request, Style::plain());
        assert!(tree.contains("GET \u{fffd}]0;me\u{fffd}\u{fffd}after"), "{tree:?}");
    }
}
