//! Where traces go by the environment alone: the variables that OpenTelemetry's exporters know (specification, "OTLP Exporter
//! Configuration"). Those of traces win over those of all signals; an empty one is not set. An endpoint must be set.

use http::Uri;
use percent_encoding::percent_decode_str;

use super::{BodyEncoding, Compression, Config, ExporterConfig, OtlpConfig, OtlpHttpConfig};
use crate::{
    config::{Environment, Headers, HttpUrl, Interval, Problems, Secret},
    tls::ClientTlsConfig,
};

/// A configuration of exporters, and the variables that it was made of.
#[derive(Debug)]
pub struct FromEnvironment {
    /// One destination.
    pub config: Config,
    /// By their names.
    pub variables: Vec<String>,
}

const NAMES: [&str; 9] = [
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "COMPRESSION",
    "TIMEOUT",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
    "INSECURE",
];

/// For traces, and for all signals.
const PREFIXES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"];

/// The variables that are set, by their names.
pub fn variables(environment: &dyn Environment) -> Vec<String> {
    let names = PREFIXES.iter().flat_map(|prefix| NAMES.map(|name| format!("{prefix}{name}")));
    names.filter(|name| set(environment, name).is_some()).collect()
}

/// What the environment says; `None` when it says nothing.
pub fn from_environment(
    environment: &dyn Environment,
) -> Result<Option<FromEnvironment>, Problems> {
    let variables = variables(environment);
    if variables.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader { environment, problems: Problems::default() };
    let exporter = reader.exporter();
    if reader.problems.is_empty() {
        let config = Config::new(vec![exporter]);
        return Ok(Some(FromEnvironment { config, variables }));
    }
    Err(reader.problems)
}

fn set(environment: &dyn Environment, name: &str) -> Option<String> {
    let value = environment.variable(name)?.trim().to_owned();
    Some(value).filter(|value| !value.is_empty())
}

/// What spans are sent by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Http(BodyEncoding),
}

/// Reads variables and notes what can't be used. Values are not repeated: they may be secrets.
struct Reader<'a> {
    environment: &'a dyn Environment,
    problems: Problems,
}

impl Reader<'_> {
    fn exporter(&mut self) -> (String, ExporterConfig) {
        let protocol = self.parsed("PROTOCOL", protocol);
        match protocol.unwrap_or(Protocol::Http(BodyEncoding::Proto)) {
            Protocol::Grpc => ("otlp".to_owned(), ExporterConfig::Otlp(Box::new(self.grpc()))),
            Protocol::Http(encoding) => {
                let http = ExporterConfig::OtlpHttp(Box::new(self.http(encoding)));
                ("otlp_http".to_owned(), http)
            }
        }
    }

    fn grpc(&mut self) -> OtlpConfig {
        let is_insecure = self.parsed("INSECURE", truth).unwrap_or(false);
        self.needs_endpoint();
        let endpoint = self.parsed("ENDPOINT", |text| grpc_url(text, is_insecure));
        let default = OtlpConfig::default();
        OtlpConfig {
            endpoint: endpoint.unwrap_or(default.endpoint),
            tls: self.tls(),
            headers: self.parsed("HEADERS", headers).unwrap_or_default(),
            compression: self.parsed("COMPRESSION", compression).unwrap_or_default(),
            timeout: self.parsed("TIMEOUT", milliseconds).unwrap_or(default.timeout),
            ..default
        }
    }

    fn http(&mut self, encoding: BodyEncoding) -> OtlpHttpConfig {
        self.needs_endpoint();
        // The one of traces is used as it is, the other is a base.
        let traces_endpoint = self.of(PREFIXES.iter().take(1), "ENDPOINT", http_url);
        let base = self.of(PREFIXES.iter().skip(1), "ENDPOINT", http_url);
        let default = OtlpHttpConfig::default();
        OtlpHttpConfig {
            endpoint: base.unwrap_or(default.endpoint),
            traces_endpoint,
            encoding,
            tls: self.tls(),
            headers: self.parsed("HEADERS", headers).unwrap_or_default(),
            compression: self.parsed("COMPRESSION", compression).unwrap_or_default(),
            timeout: self.parsed("TIMEOUT", milliseconds).unwrap_or(default.timeout),
            ..default
        }
    }

    /// The specification's default, this machine, is where the receivers listen: traces would come back for ever.
    fn needs_endpoint(&mut self) {
        let name = |prefix| format!("{prefix}ENDPOINT");
        if PREFIXES.iter().all(|prefix| set(self.environment, &name(prefix)).is_none()) {
            let problem =
                "is not set: others of these variables are, and traces need a destination";
            self.problems.push(
                &name(&PREFIXES[1]),
                problem,
                Some("for example http://collector:4318"),
            );
        }
    }

    fn tls(&mut self) -> ClientTlsConfig {
        let mut path = |name| self.parsed(name, |text| Ok(text.into()));
        let tls = ClientTlsConfig {
            ca_file: path("CERTIFICATE"),
            cert_file: path("CLIENT_CERTIFICATE"),
            key_file: path("CLIENT_KEY"),
            ..ClientTlsConfig::default()
        };
        for (has, other, name) in [
            (&tls.cert_file, &tls.key_file, "CLIENT_KEY"),
            (&tls.key_file, &tls.cert_file, "CLIENT_CERTIFICATE"),
        ] {
            if has.is_some() && other.is_none() {
                let hint = Some("a certificate and its key go together");
                self.problems.push(&format!("{}{name}", PREFIXES[1]), "is not set", hint);
            }
        }
        tls
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.of(PREFIXES.iter(), name, parse)
    }

    /// The first of these variables that is set.
    fn of<'p, T>(
        &mut self,
        mut prefixes: impl Iterator<Item = &'p &'p str>,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (variable, text) = prefixes.find_map(|prefix| {
            let variable = format!("{prefix}{name}");
            set(self.environment, &variable).map(|text| (variable, text))
        })?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(&variable, problem, None);
                None
            }
        }
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "grpc" => Ok(Protocol::Grpc),
        "http/protobuf" => Ok(Protocol::Http(BodyEncoding::Proto)),
        "http/json" => Ok(Protocol::Http(BodyEncoding::Json)),
        _ => Err("is none of grpc, http/protobuf and http/json".to_owned()),
    }
}

fn http_url(text: &str) -> Result<HttpUrl, String> {
    text.parse()
}

/// A URL, or a host and a port, of which INSECURE says what they are.
fn grpc_url(text: &str, is_insecure: bool) -> Result<HttpUrl, String> {
    if text.contains("://") {
        return text.parse();
    }
    let is_address = text.parse::<Uri>().is_ok_and(|uri| uri.port_u16().is_some());
    if !is_address {
        return Err("is neither a URL nor host:port".to_owned());
    }
    let scheme = if is_insecure { "http" } else { "https" };
    format!("{scheme}://{text}").parse()
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("is none of none, gzip and zstd".to_owned()),
    }
}

fn milliseconds(text: &str) -> Result<Interval, String> {
    match text.parse() {
        Ok(ms @ 1..) => Ok(Interval::from_millis(ms)),
        _ => Err("is no number of milliseconds, from 1 on".to_owned()),
    }
}

/// `name=value,name=value`, values percent-encoded, as in the header Baggage.
fn headers(text: &str) -> Result<Headers, String> {
    let wrong = || "is no list of name=value, separated by commas".to_owned();
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
        Ok((name.trim().to_owned(), value.parse::<Secret>()?))
    };
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let headers = Headers::new(pairs.map(header).collect::<Result<_, String>>()?);
    if text.contains("${origin:") {
        return Err("can't stand for headers of an origin: no header is kept".to_owned());
    }
    let mut problems = Problems::default();
    headers.check(&[], &mut problems);
    match problems.into_vec().first() {
        None => Ok(headers),
        // Not the name: what is no list at all may have a secret there.
        Some(problem) => Err(format!("has a header that can't be used: {}", problem.problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Origin;

    struct Variables(&'static [(&'static str, &'static str)]);

    impl Environment for Variables {
        fn variable(&self, name: &str) -> Option<String> {
            let known = self.0.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        }

        fn file(&self, path: &str) -> Result<String, String> {
            Err(path.to_owned())
        }
    }

    fn exporter(variables: &'static [(&'static str, &'static str)]) -> ExporterConfig {
        let read = from_environment(&Variables(variables)).expect("usable").expect("set");
        read.config.0.into_iter().next().expect("one").1
    }

    fn http(variables: &'static [(&'static str, &'static str)]) -> OtlpHttpConfig {
        match exporter(variables) {
            ExporterConfig::OtlpHttp(http) => *http,
            other => panic!("{other:?}"),
        }
    }

    fn grpc(variables: &'static [(&'static str, &'static str)]) -> OtlpConfig {
        match exporter(variables) {
            ExporterConfig::Otlp(grpc) => *grpc,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_variables_it_says_nothing() {
        for none in [&[] as &[_], &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]] {
            assert!(from_environment(&Variables(none)).expect("usable").is_none());
        }
    }

    #[test]
    fn an_endpoint_is_a_base_and_that_of_traces_is_not() {
        let base = http(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a.example:4318/otlp/")]);
        assert_eq!(base.traces_url(), "https://a.example:4318/otlp/v1/traces");
        let both = http(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:4318/x"),
        ]);
        assert_eq!(both.traces_url(), "http://b:4318/x");
        let bare = http(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:4318")]);
        assert_eq!(bare.traces_url(), "http://b:4318/");
        assert_eq!(bare.encoding, BodyEncoding::Proto);
        let json = http(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ]);
        assert_eq!(json.encoding, BodyEncoding::Json);
    }

    #[test]
    fn an_endpoint_must_be_set() {
        for protocol in ["grpc", "http/protobuf", "http/json"] {
            let variables = Box::leak(Box::new([("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]));
            let problems = from_environment(&Variables(variables)).expect_err(protocol).into_vec();
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            assert_eq!(problem.path, "OTEL_EXPORTER_OTLP_ENDPOINT");
            assert!(problem.problem.starts_with("is not set: "), "{problem}");
        }
    }

    #[test]
    fn over_grpc_the_scheme_says_whether_tls_is_spoken() {
        for (endpoint, insecure, expected) in [
            ("http://a:4317", "false", "http://a:4317"),
            ("https://a:4317", "true", "https://a:4317"),
            ("a:4317", "true", "http://a:4317"),
            ("a:4317", "", "https://a:4317"),
        ] {
            let variables = Box::leak(Box::new([
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
                ("OTEL_EXPORTER_OTLP_INSECURE", insecure),
            ]));
            assert_eq!(grpc(variables).endpoint.to_string(), expected);
        }
    }

    #[test]
    fn those_of_traces_win() {
        let read = grpc(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://b:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b=2"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", " x-key = a%20b%2C ,y=%3D"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/a.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/b.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
        ]);
        assert_eq!(read.endpoint.to_string(), "https://b:4317");
        let headers = read.headers.of(&Origin::default());
        let value = |name: &str| headers.get(name).map(|value| value.as_bytes().to_vec());
        assert_eq!((headers.len(), value("x-key")), (2, Some(b"a b,".to_vec())));
        assert_eq!(value("y"), Some(b"=".to_vec()));
        assert_eq!(read.timeout, Interval::from_millis(2500));
        assert_eq!(read.compression, Compression::None);
        let ClientTlsConfig { ca_file, cert_file, key_file, .. } = read.tls;
        let paths = [ca_file, cert_file, key_file].map(|path| path.expect("a path"));
        assert_eq!(paths.map(|path| path.display().to_string()), ["/ca.pem", "/b.pem", "/key.pem"]);
    }

    #[test]
    fn what_can_not_be_used_names_its_variable_and_keeps_secrets() {
        for (name, value, part) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "s3cret", "is none of grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s3cret", "milliseconds"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "from 1 on"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "snappy", "is none of none"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret", "name=value"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=s3cret", "is no header name"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0A", "can't be sent"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Bearer s3cret=", "is no header name"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=${origin:s3cret}", "can't stand for"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "me:s3cret@a:4318", "a name and a password"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://me:s3 s3cret@a:4318", "is no URL"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "a:4318/v1/traces?key=s3cret", "is no URL"),
        ] {
            let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
            let variables: &'static [_] = Box::leak(Box::new([(name, value), endpoint]));
            let problems = from_environment(&Variables(variables)).expect_err(value).into_vec();
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            assert_eq!(problem.path, name);
            assert!(problem.problem.contains(part), "{problem}");
            assert!(!problem.to_string().contains("s3cret"), "{problem}");
        }
        let alone: &'static [_] = &[
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a:4318"),
        ];
        let problems = from_environment(&Variables(alone)).expect_err("no certificate").into_vec();
        assert_eq!(problems[0].path, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
        let neither: &'static [_] = &[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "tempo"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "yes"),
        ];
        let problems = from_environment(&Variables(neither)).expect_err("two").into_vec();
        assert_eq!(problems.len(), 2);
    }
}
