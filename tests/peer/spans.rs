//! [`Spans`]: what a backend has, with what each span belongs to, and as a tree in words.

use std::collections::{BTreeSet, HashSet};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{Span, span::SpanKind},
};
use serde_json::{Map, Value};
use tracestitch::wire::splice::ORIGINAL_PARENT;

/// A span in its place.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) resource: Resource,
    pub(crate) scope: InstrumentationScope,
    pub(crate) span: Span,
}

/// All spans of a backend or of one trace.
#[derive(Debug, Clone)]
pub(crate) struct Spans(Vec<Seen>);

impl Spans {
    pub(crate) fn of(request: ExportTraceServiceRequest) -> Self {
        let mut all = Vec::new();
        for resource_spans in request.resource_spans {
            let resource = resource_spans.resource.unwrap_or_default();
            for scope_spans in resource_spans.scope_spans {
                let scope = scope_spans.scope.unwrap_or_default();
                let seen = |span| Seen { resource: resource.clone(), scope: scope.clone(), span };
                all.extend(scope_spans.spans.into_iter().map(seen));
            }
        }
        Self(all)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those of one trace.
    pub(crate) fn of_trace(&self, id: &str) -> Self {
        Self(self.0.iter().filter(|seen| hex(&seen.span.trace_id) == id).cloned().collect())
    }

    /// Every trace's id.
    pub(crate) fn trace_ids(&self) -> BTreeSet<String> {
        self.0.iter().map(|seen| hex(&seen.span.trace_id)).collect()
    }

    /// Those that instrumented programs sent.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &Seen> {
        self.0.iter().filter(|seen| !seen.is_added())
    }

    /// Those that tracestitch added.
    pub(crate) fn added(&self) -> impl Iterator<Item = &Seen> {
        self.0.iter().filter(|seen| seen.is_added())
    }

    /// The one with this service and kind that was sent.
    pub(crate) fn sent_by(&self, service: &str, kind: SpanKind) -> &Seen {
        let mut spans =
            self.sent().filter(|seen| seen.service() == service && seen.span.kind() == kind);
        let span = spans.next().unwrap_or_else(|| panic!("{kind:?} of {service} in {self:#?}"));
        assert!(spans.next().is_none(), "{service} has one {kind:?}");
        span
    }

    /// Each span below its parent, sent ones as `service KIND name`, added ones as `+ service KIND point scope`.
    pub(crate) fn tree(&self) -> String {
        let ids: HashSet<&[u8]> = self.0.iter().map(|seen| seen.span.span_id.as_slice()).collect();
        self.branches(0, &|seen| !ids.contains(seen.span.parent_span_id.as_slice()))
    }

    /// Those that fit with all below them, by their start.
    fn branches(&self, depth: usize, fits: &dyn Fn(&Seen) -> bool) -> String {
        assert!(depth <= self.len(), "a ring of spans");
        let branch = |seen: &Seen| {
            let below =
                self.branches(depth + 1, &|child| child.span.parent_span_id == seen.span.span_id);
            let text = format!("{}{}\n{below}", "  ".repeat(depth), seen.words());
            (seen.span.start_time_unix_nano, text)
        };
        let mut branches: Vec<_> = self.0.iter().filter(|seen| fits(seen)).map(branch).collect();
        branches.sort();
        branches.into_iter().map(|(_, text)| text).collect()
    }
}

impl Seen {
    fn is_added(&self) -> bool {
        self.scope.name.starts_with("tracestitch.")
    }

    pub(crate) fn service(&self) -> &str {
        text(&self.resource.attributes, "service.name").unwrap_or("?")
    }

    /// The span's own attributes, without what tracestitch and a backend say about it.
    pub(crate) fn attributes(&self) -> Value {
        let own = |key: &str| key != ORIGINAL_PARENT && !key.starts_with("@jaeger@");
        plain(self.span.attributes.iter().filter(|attribute| own(&attribute.key)))
    }

    /// The parent it was sent with, if it has another one now.
    pub(crate) fn original_parent(&self) -> Option<&str> {
        text(&self.span.attributes, ORIGINAL_PARENT)
    }

    pub(crate) fn resource_attributes(&self) -> Value {
        plain(self.resource.attributes.iter())
    }

    fn words(&self) -> String {
        let (service, kind) = (self.service(), self.span.kind().as_str_name());
        let kind = kind.trim_start_matches("SPAN_KIND_");
        if self.is_added() {
            let point = text(&self.span.attributes, "deepflow.tap_side").unwrap_or("?");
            format!("+ {service} {kind} {point} {}", self.scope.name)
        } else {
            format!("{service} {kind} {}", self.span.name)
        }
    }
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Attributes as JSON.
pub(crate) fn plain<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Value {
    let attribute =
        |attribute: &KeyValue| (attribute.key.clone(), plain_value(attribute.value.as_ref()));
    attributes.map(attribute).collect::<Map<_, _>>().into()
}

fn plain_value(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.as_str().into(),
        Some(any_value::Value::IntValue(number)) => (*number).into(),
        Some(any_value::Value::BoolValue(flag)) => (*flag).into(),
        Some(any_value::Value::DoubleValue(number)) => (*number).into(),
        Some(any_value::Value::ArrayValue(array)) => {
            array.values.iter().map(|value| plain_value(Some(value))).collect()
        }
        other => format!("{other:?}").into(),
    }
}

/// Lower-case hexadecimal digits, as backends show ids.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
