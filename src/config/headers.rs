//! Request headers that operators add, with values that may come from the trace's origin.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::{Problems, Secret};
use crate::trace::Origin;

/// Names and values. `${origin:NAME}` in a value stands for the header NAME of the request that brought the spans, if
/// `receivers.otlp.include_metadata` names it; where it is absent, the whole header is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, Secret>);

impl Headers {
    /// Headers by their names.
    pub fn new(values: BTreeMap<String, Secret>) -> Self {
        Self(values)
    }

    /// Notes names and values that can't be sent, and origins that are not kept.
    pub fn check(&self, include_metadata: &[String], problems: &mut Problems) {
        for (name, value) in &self.0 {
            if name.parse::<HeaderName>().is_err() {
                problems.push(name, "is no header name", None);
            }
            if HeaderValue::from_str(value.reveal()).is_err() {
                problems.push(name, "the value can't be sent as a header", None);
            }
            for origin in origins(value.reveal()) {
                if !include_metadata.iter().any(|kept| kept.eq_ignore_ascii_case(origin)) {
                    problems.push(
                        name,
                        format!("${{origin:{origin}}} is not kept"),
                        Some("add it to receivers.otlp.include_metadata"),
                    );
                }
            }
        }
    }

    /// The headers for a trace of this origin.
    pub fn of(&self, origin: &Origin) -> HeaderMap {
        let header = |(name, value): (&String, &Secret)| {
            let name: HeaderName = name.parse().ok()?;
            let mut value = HeaderValue::from_str(&expand(value.reveal(), origin)?).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        self.0.iter().filter_map(header).collect()
    }
}

fn origins(value: &str) -> impl Iterator<Item = &str> {
    value.split("${origin:").skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

fn expand(value: &str, origin: &Origin) -> Option<String> {
    let mut parts = value.split("${origin:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}')?;
        out.push_str(origin.value(&name.to_lowercase())?);
        out.push_str(rest);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Origins;

    #[test]
    fn values_come_from_the_origin_or_the_header_stays_away() {
        let yaml = "{x-tenant: 't-${origin:X-Org}', fixed: a}";
        let headers: Headers = serde_saphyr::from_str(yaml).expect("valid");
        let origin = Origins::default().intern(vec![("x-org".to_owned(), "7".to_owned())]);
        assert_eq!(headers.of(&origin).get("x-tenant").and_then(|v| v.to_str().ok()), Some("t-7"));
        assert_eq!(headers.of(&Origin::default()).len(), 1);
        let mut problems = Problems::default();
        headers.check(&[], &mut problems);
        assert_eq!(problems.into_vec().len(), 1);
    }
}
