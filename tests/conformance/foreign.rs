//! Another product, by what the environment says of it.

use std::{env, time::Duration};

use tracestitch::demo::backend::Backend;

use crate::suite::{BYTES_MAX, Target};

/// As the Collector's clients do.
const BETWEEN_PINGS: Duration = Duration::from_secs(10);

/// What to ask; `None` where the environment names nothing.
pub(crate) async fn target() -> Result<Option<Target>, String> {
    let (grpc, http) = (address("CONFORMANCE_GRPC")?, address("CONFORMANCE_HTTP")?);
    if grpc.is_none() && http.is_none() {
        return Ok(None);
    }
    Ok(Some(Target {
        grpc,
        http,
        grpc_bytes_max: number("CONFORMANCE_GRPC_BYTES_MAX")?.unwrap_or(BYTES_MAX),
        http_bytes_max: number("CONFORMANCE_HTTP_BYTES_MAX")?.unwrap_or(BYTES_MAX),
        between_pings: BETWEEN_PINGS,
        sink: sink().await?,
        overload: None,
    }))
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn address(name: &str) -> Result<Option<String>, String> {
    let Some(url) = set(name) else { return Ok(None) };
    let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match authority {
        Some(authority) if authority.contains(':') && !authority.contains('/') => {
            Ok(Some(authority.to_owned()))
        }
        _ => Err(format!("{name}={url} is not of the form http://host:port")),
    }
}

fn number(name: &str) -> Result<Option<usize>, String> {
    let Some(text) = set(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|error| format!("{name}={text}: {error}"))
}

async fn sink() -> Result<Option<Backend>, String> {
    let Some(text) = set("CONFORMANCE_SINK") else { return Ok(None) };
    let port = text.parse().map_err(|error| format!("CONFORMANCE_SINK={text}: {error}"))?;
    let sink = Backend::start(port).await;
    sink.map(Some).map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))
}
