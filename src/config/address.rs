//! Where to listen, and where to send.

use std::{fmt, net::IpAddr, str::FromStr};

/// `host:port` to listen on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenAddress(String);

/// An `http://` or `https://` URL.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(http::Uri);

/// A path of an URL: `/v1/traces`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlPath(String);

/// What is below a URL is found by appending to it, and there is an end to what servers take.
const URL_BYTES_MAX: usize = 8 * 1024;

impl ListenAddress {
    /// As `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Only this machine reaches it.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    /// What is sent to this URL, an address of loopback, comes in here.
    pub fn is_reached_by(&self, url: &HttpUrl) -> bool {
        let port = self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let target = bare(url.0.host().unwrap_or_default());
        if port != Some(url.port()) || !is_loopback(target) {
            return false;
        }
        let host = self.host();
        let is_any = host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        let is_same = host == target || [host, target].contains(&"localhost");
        is_any || (self.is_loopback() && is_same)
    }

    fn host(&self) -> &str {
        bare(self.0.rsplit_once(':').map_or("", |(host, _)| host))
    }
}

/// Without the brackets of IPv6.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// This machine, by its name for itself or by an address, with the brackets of IPv6 or without.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = text.rsplit_once(':').filter(|(host, _)| !host.contains('/'));
        match port.map(|(host, port)| (host, port.parse::<u16>())) {
            Some(("", Ok(port))) => {
                Err(format!("`{text}` has no host, write 0.0.0.0:{port} for all there are"))
            }
            Some((_, Ok(_))) => Ok(Self(text.to_owned())),
            _ => Err(format!(
                "`{text}` is no address to listen on, write host:port, for example 127.0.0.1:4317"
            )),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HttpUrl {
    /// The parsed URL.
    pub fn uri(&self) -> &http::Uri {
        &self.0
    }

    /// `https://`.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&http::uri::Scheme::HTTPS)
    }

    /// The one it says, else that of its scheme.
    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 })
    }
}

impl FromStr for HttpUrl {
    type Err = String;

    /// What is refused may hold a secret, wherever: messages don't repeat it.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > URL_BYTES_MAX {
            return Err(format!("is longer than {URL_BYTES_MAX} bytes"));
        }
        if !text.is_ascii() {
            return Err("has characters that a URL writes as %XX".to_owned());
        }
        let uri: Option<http::Uri> = text.parse().ok();
        match uri {
            Some(uri) if uri.authority().is_some_and(|host| host.as_str().contains('@')) => {
                Err("a URL with a name and a password: say them in `headers`".to_owned())
            }
            Some(uri)
                if matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.host().is_some_and(|host| !host.is_empty()) =>
            {
                Ok(Self(uri))
            }
            _ => Err("is no URL, write http://host:port (or https:// for TLS)".to_owned()),
        }
    }
}

/// Without the query, which may hold a key.
impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let text = text.split_once('?').map_or(text.as_str(), |(before, _)| before);
        f.write_str(text.strip_suffix('/').unwrap_or(text))
    }
}

impl UrlPath {
    /// The path, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UrlPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        if text.starts_with('/') && text.chars().all(is_plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("`{text}` is no path, write for example /v1/traces"))
    }
}

impl fmt::Display for UrlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_read_and_show_no_secrets() {
        assert!("127.0.0.1".parse::<ListenAddress>().is_err());
        for (address, expected) in [
            ("127.0.0.1:1", true),
            ("127.8.0.1:1", true),
            ("localhost:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("localhost.example:1", false),
        ] {
            let address = address.parse::<ListenAddress>().expect("an address");
            assert_eq!(address.is_loopback(), expected, "{address}");
        }
        let long = format!("http://tempo/{}", "a".repeat(URL_BYTES_MAX));
        for bad in ["tempo:4317", "http://tempo/\u{e4}", &long] {
            assert!(bad.parse::<HttpUrl>().is_err(), "{bad}");
        }
        for bad in ["", "4317", ":4317", "http://0.0.0.0:4317", "127.0.0.1:http"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
        for bad in ["", "v1/traces", "/{signal}", "/a b", "/a?b"] {
            assert!(bad.parse::<UrlPath>().is_err(), "{bad}");
        }
        for bad in ["http://me:s3cret@tempo:4317", "me:s3 s3cret@tempo", "tempo:4317/?key=s3cret"] {
            let error = bad.parse::<HttpUrl>().expect_err(bad);
            assert!(!error.contains("s3cret"), "{error}");
        }
        let url = "http://tempo:4317/a?key=s3cret".parse::<HttpUrl>().expect("a URL");
        assert_eq!(
            (url.to_string().as_str(), url.uri().query()),
            ("http://tempo:4317/a", Some("key=s3cret"))
        );
        let url = "http://tempo:4317".parse::<HttpUrl>().map(|url| url.to_string());
        assert_eq!(url.as_deref(), Ok("http://tempo:4317"));
    }

    #[test]
    fn what_is_sent_to_loopback_comes_in_where_it_is_listened_for() {
        for (address, url, expected) in [
            ("127.0.0.1:4317", "http://127.0.0.1:4317", true),
            ("127.0.0.1:4317", "https://localhost:4317/a", true),
            ("localhost:4317", "http://[::1]:4317", true),
            ("0.0.0.0:4317", "http://127.0.0.1:4317", true),
            ("[::]:4317", "http://[::1]:4317", true),
            ("0.0.0.0:80", "http://localhost", true),
            ("[::1]:4317", "http://[::1]:4317", true),
            ("127.0.0.1:4317", "http://127.0.0.1:4318", false),
            ("127.0.0.1:4317", "http://127.0.0.2:4317", false),
            ("10.0.0.1:4317", "http://127.0.0.1:4317", false),
            ("10.0.0.1:4317", "http://localhost:4317", false),
            ("0.0.0.0:4317", "http://tempo:4317", false),
        ] {
            let address = address.parse::<ListenAddress>().expect("an address");
            let url = url.parse::<HttpUrl>().expect("a URL");
            assert_eq!(address.is_reached_by(&url), expected, "{address} {url}");
        }
    }
}
