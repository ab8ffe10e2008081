//! What a request was, in OpenTelemetry's words: names, attributes and errors by application protocol (semantic
//! conventions 1.44; DeepFlow contract, section 8).
//!
//! Left out until masking exists, for they hold people's data: SQL text, query strings, Redis arguments, error texts.

use crate::trace::{FoundSpan, ResponseStatus};

/// A span's name, its attributes, and how it failed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// `error.type`, when it failed as its side sees it.
    pub(super) error: Option<String>,
}

/// An attribute's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    Texts(Vec<String>),
}

/// Names are for grouping: longer ones don't.
const NAME_CHARS_MAX: usize = 128;

const HTTP: u16 = 20;
const HTTP2: u16 = 21;
/// Method, path and code as of HTTP.
const FASTCGI: u16 = 44;
const GRPC: u16 = 41;
const DNS: u16 = 120;

/// Describes the request behind a found span.
pub(super) fn describe(span: &FoundSpan) -> Description {
    let mut description = match span.protocol {
        HTTP | HTTP2 | FASTCGI => http(span),
        GRPC => grpc(span),
        40 | 43 | 45 | 46 | 49 => rpc(span),
        60..=63 => sql(span),
        80..=82 => key_value_store(span),
        100..=102 | 104 | 105 | 107 => messaging(span),
        DNS => dns(span),
        _ => Description {
            name: protocol_name(span),
            attributes: Vec::new(),
            error: plain_error(span),
        },
    };
    if description.name.chars().count() > NAME_CHARS_MAX {
        description.name = description.name.chars().take(NAME_CHARS_MAX).collect();
    }
    description
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

fn http(span: &FoundSpan) -> Description {
    const METHODS: [&str; 10] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];
    let mut attributes = Vec::new();
    let method = METHODS.into_iter().find(|method| *method == span.request_type);
    attributes.push(("http.request.method", text(method.unwrap_or("_OTHER"))));
    if method.is_none() && !span.request_type.is_empty() {
        attributes.push(("http.request.method_original", text(&span.request_type)));
    }
    let path = url_path(&span.request_resource);
    if !path.is_empty() {
        attributes.push(("url.path", text(path)));
    }
    let protocol = if span.protocol == FASTCGI { "fastcgi" } else { "http" };
    attributes.push(("network.protocol.name", text(protocol)));
    if span.protocol == HTTP2 {
        attributes.push(("network.protocol.version", text("2")));
    }
    let code = span.response_code.filter(|code| (100..600).contains(code));
    if let Some(code) = code {
        attributes.push(("http.response.status_code", Value::Number(code)));
    }
    // The code is the response's, the status may be the request row's (contract section 5).
    let error = match code {
        Some(code) if code >= 500 => Some(code.to_string()),
        Some(code) if code >= 400 && span.point.is_client_side() => Some(code.to_string()),
        Some(_) => None,
        None => plain_error(span)
            .filter(|_| span.status != ResponseStatus::ClientError || span.point.is_client_side()),
    };
    Description { name: method.unwrap_or("HTTP").to_owned(), attributes, error }
}

/// The path alone: the resource may be a full URL, and what follows `?` holds data.
fn url_path(resource: &str) -> &str {
    let resource = match resource.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/")
        }
        _ => resource,
    };
    resource.split(['?', '#']).next().unwrap_or_default()
}

fn grpc(span: &FoundSpan) -> Description {
    let method = span.endpoint.strip_prefix('/').filter(|method| method.contains('/'));
    let mut attributes = vec![("rpc.system.name", text("grpc"))];
    if let Some(method) = method {
        attributes.push(("rpc.method", text(method)));
    }
    let code = span.response_code.and_then(grpc_code);
    if let Some((code, _)) = code {
        attributes.push(("rpc.response.status_code", text(code)));
    }
    let error = match code {
        Some(("OK", _)) => None,
        Some((code, server_fault)) => {
            (server_fault || span.point.is_client_side()).then(|| code.to_owned())
        }
        None => plain_error(span),
    };
    Description { name: method.unwrap_or("grpc").to_owned(), attributes, error }
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
fn rpc(span: &FoundSpan) -> Description {
    let method = match (span.request_resource.as_str(), span.request_type.as_str()) {
        ("", "") => String::new(),
        ("", method) => method.to_owned(),
        (service, "") => service.to_owned(),
        (service, method) => format!("{service}/{method}"),
    };
    let mut attributes = vec![("rpc.system.name", text(protocol_name(span)))];
    if method.is_empty() {
        return Description { name: protocol_name(span), attributes, error: plain_error(span) };
    }
    attributes.push(("rpc.method", text(&method)));
    Description { name: method, attributes, error: plain_error(span) }
}

fn sql(span: &FoundSpan) -> Description {
    let system = match span.protocol {
        60 => "mysql",
        61 => "postgresql",
        62 => "oracle.db",
        _ => "dameng",
    };
    let statement = Statement::of(&span.request_resource);
    let mut attributes = Vec::new();
    if let Some(operation) = statement.operation {
        attributes.push(("db.operation.name", text(operation)));
    }
    if let Some(table) = statement.table {
        attributes.push(("db.collection.name", text(table)));
    }
    let name = match (statement.operation, statement.table) {
        (Some(operation), Some(table)) => format!("{operation} {table}"),
        (Some(operation), None) => operation.to_owned(),
        _ => system.to_owned(),
    };
    database(span, system, name, attributes)
}

/// The request's type, without what it works on, which is the user's: the command alone of a key-value store.
pub(super) fn request_type(span: &FoundSpan) -> &str {
    match span.protocol {
        80..=82 => span.request_type.split_whitespace().next().unwrap_or_default(),
        _ => &span.request_type,
    }
}

fn key_value_store(span: &FoundSpan) -> Description {
    let system = match span.protocol {
        80 => "redis",
        81 => "mongodb",
        _ => "memcached",
    };
    let command = Some(request_type(span)).filter(|word| !word.is_empty());
    let command = command.filter(|word| word.len() <= 32 && word.bytes().all(is_word));
    let attributes = command.map(|command| ("db.operation.name", text(command)));
    let name = command.unwrap_or(system).to_owned();
    database(span, system, name, attributes.into_iter().collect())
}

fn database(
    span: &FoundSpan,
    system: &'static str,
    name: String,
    mut attributes: Vec<(&'static str, Value)>,
) -> Description {
    attributes.insert(0, ("db.system.name", text(system)));
    let code = span.response_code.filter(|code| *code != 0).map(|code| code.to_string());
    if let Some(code) = &code {
        attributes.push(("db.response.status_code", text(code)));
    }
    let error = plain_error(span).map(|class| code.unwrap_or(class));
    Description { name, attributes, error }
}

/// What can be said of an SQL text without saying what is in it.
struct Statement<'a> {
    operation: Option<&'static str>,
    table: Option<&'a str>,
}

impl<'a> Statement<'a> {
    fn of(sql: &'a str) -> Self {
        const OPERATIONS: [&str; 18] = [
            "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER",
            "TRUNCATE", "BEGIN", "COMMIT", "ROLLBACK", "SET", "SHOW", "CALL", "MERGE", "EXPLAIN",
            "USE",
        ];
        let mut words = sql.split_ascii_whitespace();
        let first = words.next().unwrap_or_default().trim_end_matches(';');
        let operation = OPERATIONS.into_iter().find(|name| first.eq_ignore_ascii_case(name));
        let before_table = match operation {
            Some("SELECT" | "DELETE") => "FROM",
            Some("INSERT" | "REPLACE" | "MERGE") => "INTO",
            Some("UPDATE") => "",
            _ => return Self { operation, table: None },
        };
        if !before_table.is_empty() {
            words.find(|word| word.eq_ignore_ascii_case(before_table));
        }
        let table = words.next().unwrap_or_default();
        let table = table.split(['(', ';', ',']).next().unwrap_or_default();
        let table = table.trim_matches(['`', '"']);
        let is_name = !table.is_empty()
            && table.len() <= 64
            && table.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'`' | b'"'))
            && !table.starts_with(|first: char| first.is_ascii_digit());
        Self { operation, table: is_name.then_some(table) }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$')
}

fn messaging(span: &FoundSpan) -> Description {
    let system = match span.protocol {
        100 => "kafka",
        101 => "mqtt",
        102 => "rabbitmq",
        104 => "nats",
        105 => "pulsar",
        _ => "rocketmq",
    };
    let mut attributes = vec![("messaging.system", text(system))];
    if !span.request_type.is_empty() {
        attributes.push(("messaging.operation.name", text(&span.request_type)));
    }
    if !span.request_resource.is_empty() {
        attributes.push(("messaging.destination.name", text(&span.request_resource)));
    }
    // MQTT topics and NATS subjects often name a device or a reply box: too many for a name.
    let destination = matches!(span.protocol, 100 | 105 | 107).then_some(&span.request_resource);
    let name = match (span.request_type.as_str(), destination) {
        ("", _) => system.to_owned(),
        (operation, Some(destination)) if !destination.is_empty() => {
            format!("{operation} {destination}")
        }
        (operation, _) => operation.to_owned(),
    };
    Description { name, attributes, error: plain_error(span) }
}

fn dns(span: &FoundSpan) -> Description {
    let mut attributes = Vec::new();
    if !span.request_resource.is_empty() {
        attributes.push(("dns.question.name", text(&span.request_resource)));
    }
    let name = match span.request_type.as_str() {
        "" => "DNS".to_owned(),
        question => format!("DNS {question}"),
    };
    Description { name, attributes, error: plain_error(span) }
}

fn protocol_name(span: &FoundSpan) -> String {
    match span.protocol_name.as_str() {
        "" => "network".to_owned(),
        name => name.to_lowercase(),
    }
}

/// A timeout is none: in releases before 2025-03 the same number means "unknown" (contract section 5).
fn plain_error(span: &FoundSpan) -> Option<String> {
    let class = match span.status {
        ResponseStatus::Error => "error",
        ResponseStatus::ServerError => "server_error",
        ResponseStatus::ClientError => "client_error",
        ResponseStatus::Success | ResponseStatus::Timeout | ResponseStatus::Unknown => return None,
    };
    Some(class.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        completion::deepflow::answer::{Outcome, classify},
        weaving::{
            SystemKind,
            attributes::{self, Place},
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
        let description = describe(&found(fields));
        let shown = |(key, value): (&'static str, Value)| match value {
            Value::Text(text) => format!("{key}={text}"),
            Value::Number(number) => format!("{key}={number}"),
            Value::Flag(_) | Value::Texts(_) => format!("{key}=?"),
        };
        let shown: Vec<String> = description.attributes.into_iter().map(shown).collect();
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
        let get = "http.request.method=GET url.path=/a/7 network.protocol.name=http";
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
                "db.system.name=mysql db.operation.name=SELECT db.collection.name=t",
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
                "db.system.name=redis db.operation.name=GET",
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
            let span = attributes::span(trace_id, id, Place::default(), &span, false, kinds);
            assert!(!format!("{span:?}").contains("s3cret"), "{span:#?}");
        }
    }

    #[test]
    fn sql_says_operation_and_table_and_nothing_more() {
        let check = |sql, operation, table| {
            let statement = Statement::of(sql);
            assert_eq!((statement.operation, statement.table), (operation, table), "{sql}");
        };
        check("SELECT * FROM `users` WHERE name = 'bob'", Some("SELECT"), Some("users"));
        check("insert into orders(id) values (1)", Some("INSERT"), Some("orders"));
        check("UPDATE shop.stock SET n = 1", Some("UPDATE"), Some("shop.stock"));
        check("DELETE FROM t;", Some("DELETE"), Some("t"));
        check("SELECT 'FROM secret'", Some("SELECT"), None);
        check("SELECT (SELECT 1)", Some("SELECT"), None);
        check("4711 secret", None, None);
        check("", None, None);
    }

    #[test]
    fn paths_lose_host_and_query() {
        assert_eq!(url_path("/a/b?token=1#x"), "/a/b");
        assert_eq!(url_path("http://host:80/a?b"), "/a");
        assert_eq!(url_path("http://host"), "/");
        assert_eq!(url_path(""), "");
    }
}
