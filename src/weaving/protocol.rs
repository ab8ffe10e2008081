//! What a request was, in OpenTelemetry's words: names, attributes and errors by application protocol (semantic
//! conventions 1.44; DeepFlow contract, section 8).
//!
//! SQL, query strings and commands of caches go through [`Mask`]. Texts of errors and MongoDB's documents are left out: they
//! may hold anything.

use std::borrow::Cow;

use super::{
    masking::{Dialect, Mask, Private, is_command, masked_sql},
    statement::Statement,
};
use crate::{
    trace::{FoundSpan, ResponseStatus},
    wire::attributes::Attributes,
};

/// What its protocol makes of a request, beside its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description<'a> {
    pub(super) name: Cow<'a, str>,
    /// `error.type`, when it failed as its side sees it.
    pub(super) error: Option<Cow<'a, str>>,
}

/// Names are for grouping: longer ones don't.
const NAME_CHARS_MAX: usize = 128;

const HTTP: u16 = 20;
const HTTP2: u16 = 21;
/// Method, path and code as of HTTP.
const FASTCGI: u16 = 44;
const GRPC: u16 = 41;
const MONGODB: u16 = 81;
const DNS: u16 = 120;

/// Describes the request behind a found span, and adds its attributes.
pub(super) fn describe<'a>(
    span: &'a FoundSpan,
    mask: &mut Mask<'_>,
    attributes: &mut Attributes,
) -> Description<'a> {
    let mut description = match span.protocol {
        HTTP | HTTP2 | FASTCGI => http(span, mask, attributes),
        GRPC => grpc(span, attributes),
        40 | 43 | 45 | 46 | 49 => rpc(span, attributes),
        60..=63 => sql(span, mask, attributes),
        80..=82 => key_value_store(span, mask, attributes),
        100..=102 | 104 | 105 | 107 => messaging(span, attributes),
        DNS => dns(span, attributes),
        _ => Description { name: protocol_name(span), error: plain_error(span) },
    };
    if let Some((end, _)) = description.name.char_indices().nth(NAME_CHARS_MAX) {
        description.name.to_mut().truncate(end);
    }
    description
}

fn http<'a>(
    span: &'a FoundSpan,
    mask: &mut Mask<'_>,
    attributes: &mut Attributes,
) -> Description<'a> {
    const METHODS: [&str; 10] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];
    let given: &str = &span.request_type;
    let method = METHODS.into_iter().find(|method| *method == given);
    attributes.text("http.request.method", method.unwrap_or("_OTHER"));
    if method.is_none() {
        attributes.some_text("http.request.method_original", given);
    }
    let (path, query) = url_parts(&span.request_resource);
    attributes.some_text("url.path", path);
    if let Some(query) = mask.apply(Private::Query(query)) {
        attributes.text("url.query", &query);
    }
    let protocol = if span.protocol == FASTCGI { "fastcgi" } else { "http" };
    attributes.text("network.protocol.name", protocol);
    if span.protocol == HTTP2 {
        attributes.text("network.protocol.version", "2");
    }
    let code = span.response_code.filter(|code| (100..600).contains(code));
    if let Some(code) = code {
        attributes.number("http.response.status_code", code);
    }
    // The code is the response's, the status may be the request row's (contract section 5).
    let error = match code {
        Some(code) if code >= 500 => Some(code.to_string().into()),
        Some(code) if code >= 400 && span.point.is_client_side() => Some(code.to_string().into()),
        Some(_) => None,
        None => sided_error(span),
    };
    Description { name: method.unwrap_or("HTTP").into(), error }
}

/// Path and query: the resource may be a full URL.
fn url_parts(resource: &str) -> (&str, &str) {
    // Nearly always it is a path already.
    let url = if resource.starts_with('/') { None } else { resource.split_once("://") };
    let resource = match url {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find(['/', '?', '#']).and_then(|end| rest.get(end..)).unwrap_or("/")
        }
        _ => resource,
    };
    let resource = resource.split('#').next().unwrap_or_default();
    resource.split_once('?').unwrap_or((resource, ""))
}

fn grpc<'a>(span: &'a FoundSpan, attributes: &mut Attributes) -> Description<'a> {
    let method = span.endpoint.strip_prefix('/').filter(|method| method.contains('/'));
    attributes.text("rpc.system.name", "grpc");
    attributes.some_text("rpc.method", method.unwrap_or_default());
    let code = span.response_code.and_then(grpc_code);
    if let Some((code, _)) = code {
        attributes.text("rpc.response.status_code", code);
    }
    let error = match code {
        Some(("OK", _)) => None,
        Some((code, server_fault)) => {
            (server_fault || span.point.is_client_side()).then_some(code.into())
        }
        None => sided_error(span),
    };
    Description { name: method.unwrap_or("grpc").into(), error }
}

/// A gRPC code's name, and whether it is an error on the server's side, too (semantic conventions, RPC).
fn grpc_code(code: i64) -> Option<(&'static str, bool)> {
    const CODES: [(&str, bool); 17] = [
        ("OK", false),
        ("CANCELLED", false),
        ("UNKNOWN", true),
        ("INVALID_ARGUMENT", false),
        ("DEADLINE_EXCEEDED", true),
        ("NOT_FOUND", false),
        ("ALREADY_EXISTS", false),
        ("PERMISSION_DENIED", false),
        ("RESOURCE_EXHAUSTED", false),
        ("FAILED_PRECONDITION", false),
        ("ABORTED", false),
        ("OUT_OF_RANGE", false),
        ("UNIMPLEMENTED", true),
        ("INTERNAL", true),
        ("UNAVAILABLE", true),
        ("DATA_LOSS", true),
        ("UNAUTHENTICATED", false),
    ];
    CODES.get(usize::try_from(code).ok()?).copied()
}

/// Dubbo and its like: service and method come apart.
fn rpc<'a>(span: &'a FoundSpan, attributes: &mut Attributes) -> Description<'a> {
    let [service, method]: [&str; 2] = [&span.request_resource, &span.request_type];
    let method: Cow<'_, str> = match (service, method) {
        ("", method) => method.into(),
        (service, "") => service.into(),
        (service, method) => format!("{service}/{method}").into(),
    };
    attributes.text("rpc.system.name", &protocol_name(span));
    attributes.some_text("rpc.method", &method);
    let name = if method.is_empty() { protocol_name(span) } else { method };
    Description { name, error: plain_error(span) }
}

fn sql<'a>(
    span: &'a FoundSpan,
    mask: &mut Mask<'_>,
    attributes: &mut Attributes,
) -> Description<'a> {
    let (system, dialect) = match span.protocol {
        60 => ("mysql", Dialect::MySql),
        61 => ("postgresql", Dialect::PostgreSql),
        62 => ("oracle.db", Dialect::Oracle),
        _ => ("dameng", Dialect::Oracle),
    };
    attributes.text("db.system.name", system);
    let masked = masked_sql(&span.request_resource, dialect);
    // Of the masked text alone: a literal may hold any words.
    let Statement { operation, table } = Statement::of(&span.request_resource, masked.as_deref());
    attributes.some_text("db.operation.name", operation.unwrap_or_default());
    attributes.some_text("db.collection.name", table.unwrap_or_default());
    if let Some(text) = mask.apply(Private::Sql(&span.request_resource, masked.as_deref())) {
        attributes.text("db.query.text", &text);
    }
    let name = match (operation, table) {
        (Some(operation), Some(table)) => format!("{operation} {table}").into(),
        (Some(operation), None) => operation.into(),
        _ => system.into(),
    };
    database(span, name, attributes)
}

/// The request's type, without what it works on, which is the user's: the command alone of a key-value store.
pub(super) fn request_type(span: &FoundSpan) -> &str {
    match span.protocol {
        80..=82 => span.request_type.split_whitespace().next().unwrap_or_default(),
        _ => &span.request_type,
    }
}

fn key_value_store<'a>(
    span: &'a FoundSpan,
    mask: &mut Mask<'_>,
    attributes: &mut Attributes,
) -> Description<'a> {
    let system = match span.protocol {
        80 => "redis",
        MONGODB => "mongodb",
        _ => "memcached",
    };
    attributes.text("db.system.name", system);
    let command = Some(request_type(span)).filter(|word| is_command(word));
    attributes.some_text("db.operation.name", command.unwrap_or_default());
    if span.protocol != MONGODB
        && let Some(text) = mask.apply(Private::Command(&span.request_resource))
    {
        attributes.text("db.query.text", &text);
    }
    database(span, command.unwrap_or(system).into(), attributes)
}

fn database<'a>(
    span: &FoundSpan,
    name: Cow<'a, str>,
    attributes: &mut Attributes,
) -> Description<'a> {
    let code = span.response_code.filter(|code| *code != 0).map(|code| code.to_string());
    attributes.some_text("db.response.status_code", code.as_deref().unwrap_or_default());
    let error = plain_error(span).map(|class| code.map_or(class, Cow::Owned));
    Description { name, error }
}

fn messaging<'a>(span: &'a FoundSpan, attributes: &mut Attributes) -> Description<'a> {
    let system = match span.protocol {
        100 => "kafka",
        101 => "mqtt",
        102 => "rabbitmq",
        104 => "nats",
        105 => "pulsar",
        _ => "rocketmq",
    };
    let [operation, destination]: [&str; 2] = [&span.request_type, &span.request_resource];
    attributes.text("messaging.system", system);
    attributes.some_text("messaging.operation.name", operation);
    attributes.some_text("messaging.destination.name", destination);
    // MQTT topics and NATS subjects often name a device or a reply box: too many for a name.
    let is_named = matches!(span.protocol, 100 | 105 | 107) && !destination.is_empty();
    let name = match operation {
        "" => system.into(),
        operation if is_named => format!("{operation} {destination}").into(),
        operation => operation.into(),
    };
    Description { name, error: plain_error(span) }
}

fn dns<'a>(span: &'a FoundSpan, attributes: &mut Attributes) -> Description<'a> {
    attributes.some_text("dns.question.name", &span.request_resource);
    let question: &str = &span.request_type;
    let name = if question.is_empty() { "DNS".into() } else { format!("DNS {question}").into() };
    Description { name, error: plain_error(span) }
}

fn protocol_name(span: &FoundSpan) -> Cow<'_, str> {
    let name: &str = &span.protocol_name;
    if name.is_empty() { "network".into() } else { name.to_lowercase().into() }
}

/// A timeout is none: in releases before 2025-03 the same number means "unknown" (contract section 5).
fn plain_error(span: &FoundSpan) -> Option<Cow<'static, str>> {
    let class = match span.status {
        ResponseStatus::Error => "error",
        ResponseStatus::ServerError => "server_error",
        ResponseStatus::ClientError => "client_error",
        ResponseStatus::Success | ResponseStatus::Timeout | ResponseStatus::Unknown => return None,
    };
    Some(class.into())
}

/// The same where a client's mistake is an error on its own side only.
fn sided_error(span: &FoundSpan) -> Option<Cow<'static, str>> {
    let is_own = span.status != ResponseStatus::ClientError || span.point.is_client_side();
    plain_error(span).filter(|_| is_own)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::{KeyValue, any_value::Value},
        trace::v1::{ScopeSpans, Span},
    };
    use prost::Message;

    use super::*;
    use crate::{
        completion::deepflow::answer::{Outcome, classify},
        weaving::{
            Masking, SystemKind,
            attributes::{Place, SpanWriter},
            masking::Mode,
        },
    };

    /// A found span with these fields of a row.
    fn found(fields: &str) -> FoundSpan {
        let body = format!(r#"{{"DATA":{{"tracing":[{{"_ids":["7"],{fields}}}]}}}}"#);
        match classify(200, body.as_bytes()) {
            Outcome::Found(found) => found.spans.into_iter().next().expect("one row"),
            other => panic!("{other:?}"),
        }
    }

    /// A row's fields; its name, its attributes in one line, its `error.type`.
    fn check(fields: &str, name: &str, attributes: &str, error: &str) {
        check_with(&Masking::default(), fields, name, attributes, error);
    }

    fn check_with(masking: &Masking, fields: &str, name: &str, attributes: &str, error: &str) {
        let span = found(fields);
        let mut written = Attributes::new(9);
        let description = describe(&span, &mut Mask::new(masking), &mut written);
        let shown = |KeyValue { key, value, .. }| match value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => format!("{key}={text}"),
            Some(Value::IntValue(number)) => format!("{key}={number}"),
            other => format!("{key}={other:?}"),
        };
        let read = Span::decode(written.bytes()).expect("attributes");
        let shown: Vec<String> = read.attributes.into_iter().map(shown).collect();
        assert_eq!(description.name, name, "{fields}");
        assert_eq!(shown.join(" "), attributes, "{fields}");
        assert_eq!(description.error.unwrap_or_default(), error, "{fields}");
    }

    #[test]
    fn requests_have_the_names_and_attributes_of_their_protocols() {
        let http = |protocol: u16, more: &str| {
            format!(
                r#""l7_protocol":{protocol},"request_type":"GET","request_resource":"/a/7?b","endpoint":"/a"{more}"#
            )
        };
        let get =
            "http.request.method=GET url.path=/a/7 url.query=REDACTED network.protocol.name=http";
        let with = |code| format!("{get} http.response.status_code={code}");
        check(&http(20, ""), "GET", get, "");
        check(&http(21, ""), "GET", &format!("{get} network.protocol.version=2"), "");
        check(&http(44, ""), "GET", &get.replace("=http", "=fastcgi"), "");
        check(&http(20, r#","response_code":200.0"#), "GET", &with(200), "");
        // A client's mistake is an error on its own side only.
        for (side, code, error) in [("c-p", 404, "404"), ("s-p", 404, ""), ("s-p", 503, "503")] {
            let fields = http(20, &format!(r#","tap_side":"{side}","response_code":{code}"#));
            check(&fields, "GET", &with(code), error);
        }
        check(
            r#""l7_protocol":20,"request_type":"PURGE","request_resource":"http://host""#,
            "HTTP",
            "http.request.method=_OTHER http.request.method_original=PURGE url.path=/ network.protocol.name=http",
            "",
        );
        let grpc = r#""l7_protocol":41,"request_type":"POST","request_resource":"a.B","endpoint":"/a.B/C""#;
        let rpc = "rpc.system.name=grpc rpc.method=a.B/C";
        check(grpc, "a.B/C", rpc, "");
        for (side, error) in [("c-p", "client_error"), ("s-p", "")] {
            let fields = format!(r#"{grpc},"tap_side":"{side}","response_status":4"#);
            check(&fields, "a.B/C", rpc, error);
        }
        for (side, error) in [("c-p", "NOT_FOUND"), ("s-p", "")] {
            let fields = format!(r#"{grpc},"tap_side":"{side}","response_code":5"#);
            check(&fields, "a.B/C", &format!("{rpc} rpc.response.status_code=NOT_FOUND"), error);
        }
        for (fields, name, attributes, error) in [
            (
                r#""l7_protocol":40,"l7_protocol_str":"Dubbo","request_type":"c","request_resource":"a.B""#,
                "a.B/c",
                "rpc.system.name=dubbo rpc.method=a.B/c",
                "",
            ),
            (
                r#""l7_protocol":60,"request_type":"COM_QUERY","request_resource":"SELECT a FROM t WHERE b = 1""#,
                "SELECT t",
                "db.system.name=mysql db.operation.name=SELECT db.collection.name=t db.query.text=SELECT a FROM t WHERE b = ?",
                "",
            ),
            (
                r#""l7_protocol":61,"request_resource":"nothing known","response_code":7,"response_status":3"#,
                "postgresql",
                "db.system.name=postgresql db.response.status_code=7",
                "7",
            ),
            (
                r#""l7_protocol":80,"request_type":"GET","request_resource":"GET user:42""#,
                "GET",
                "db.system.name=redis db.operation.name=GET db.query.text=GET ?",
                "",
            ),
            (
                r#""l7_protocol":100,"request_type":"Produce","request_resource":"orders""#,
                "Produce orders",
                "messaging.system=kafka messaging.operation.name=Produce messaging.destination.name=orders",
                "",
            ),
            (
                r#""l7_protocol":120,"request_type":"A","request_resource":"a.b","response_status":4"#,
                "DNS A",
                "dns.question.name=a.b",
                "client_error",
            ),
            (
                r#""l7_protocol":127,"l7_protocol_str":"Own","request_resource":"/x","endpoint":"/x""#,
                "own",
                "",
                "",
            ),
        ] {
            check(fields, name, attributes, error);
        }
    }

    #[test]
    fn masking_can_leave_texts_out_and_let_them_through() {
        let masking = |mode, told: &[&str]| Masking {
            mode,
            query_values: told.iter().map(|&told| told.to_owned()).collect(),
        };
        let url = r#""l7_protocol":20,"request_type":"GET","request_resource":"/a?b=1&c=2""#;
        let get = |query: &str| {
            format!("http.request.method=GET url.path=/a{query} network.protocol.name=http")
        };
        for (masking, query) in [
            (masking(Mode::Omit, &["b"]), ""),
            (masking(Mode::Off, &[]), " url.query=b=1&c=2"),
            (masking(Mode::Mask, &["b"]), " url.query=b=1&c=REDACTED"),
        ] {
            check_with(&masking, url, "GET", &get(query), "");
        }
        let sql = r#""l7_protocol":60,"request_resource":"SELECT 7""#;
        let select = "db.system.name=mysql db.operation.name=SELECT";
        check_with(&masking(Mode::Omit, &[]), sql, "SELECT", select, "");
        check_with(
            &masking(Mode::Off, &[]),
            sql,
            "SELECT",
            &format!("{select} db.query.text=SELECT 7"),
            "",
        );
    }

    #[test]
    fn what_holds_peoples_data_is_left_out() {
        for (protocol, kind, resource) in [
            (20, "GET", "/a?s3cret"),
            (21, "GET", "https://s3cret@host/a?b#s3cret"),
            (44, "POST", "/a?s3cret"),
            (60, "COM_QUERY", "INSERT INTO t VALUES ('s3cret')"),
            (61, "simple query", "SELECT 's3cret'"),
            (62, "", "s3cret"),
            (63, "", "UPDATE t SET a = 's3cret'"),
            (80, "GET s3cret", "GET s3cret"),
            (81, "find", "{a: 's3cret'}"),
            (82, "get s3cret", "get s3cret"),
        ] {
            let span = found(&format!(
                r#""l7_protocol":{protocol},"request_type":"{kind}","request_resource":"{resource}",
                   "endpoint":"/a?s3cret","response_exception":"s3cret","response_status":3"#
            ));
            let trace_id = "00000000000000000000000000000001".parse().expect("an id");
            let id = "0000000000000001".parse().expect("an id");
            let kinds = (SystemKind::Span, SystemKind::Internal);
            let masking = Masking::default();
            let mut writer = SpanWriter::new(trace_id, false, kinds, &masking);
            let mut spans = Vec::new();
            writer.put(&mut spans, 2, id, Place::default(), &span);
            let span = ScopeSpans::decode(&*spans).expect("a span").spans.remove(0);
            assert!(!format!("{span:?}").contains("s3cret"), "{span:#?}");
        }
    }

    #[test]
    fn urls_lose_host_and_fragment() {
        assert_eq!(url_parts("/a/b?token=1#x"), ("/a/b", "token=1"));
        assert_eq!(url_parts("http://host:80/a?b"), ("/a", "b"));
        assert_eq!(url_parts("http://host?b"), ("", "b"));
        assert_eq!(url_parts("http://host"), ("/", ""));
        assert_eq!(url_parts("/a#b?c"), ("/a", ""));
        assert_eq!(url_parts(""), ("", ""));
    }
}
