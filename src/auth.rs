//! Who may come in: bearer tokens (RFC 6750).

use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConstantTimeEq as _};

use crate::config::{Problems, Secret};

/// Who may come in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Only who sends one of these is let in, with the header `authorization: Bearer TOKEN`. Several, so that one can be
    /// replaced by another; best as ${file:PATH} or ${env:NAME}. Read at start.
    pub tokens: Vec<Secret>,
}

/// All are compared for each request.
const TOKENS_MAX: usize = 64;
/// Shorter ones can be guessed: sixteen hexadecimal digits are 64 bits.
const TOKEN_BYTES_SAFE: usize = 16;

impl AuthConfig {
    /// Somebody is let in by a token, and nobody without.
    pub fn is_on(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Notes what can't be used.
    pub fn check(&self, problems: &mut Problems) {
        if self.tokens.len() > TOKENS_MAX {
            problems.push("tokens", format!("more than {TOKENS_MAX}"), None);
        }
        for (key, token) in self.keyed() {
            if token.is_empty() {
                let hint = Some("leave the list empty to let everybody in");
                problems.push(&key, "is empty: everybody would have it", hint);
            } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                let hint = Some("use letters, digits and -._~+/=");
                problems.push(&key, "has characters that can't be sent in a header", hint);
            }
        }
    }

    /// Notes what can be guessed.
    pub fn warn(&self, problems: &mut Problems) {
        for (key, token) in self.keyed() {
            if token.len() < TOKEN_BYTES_SAFE {
                let problem =
                    format!("has fewer than {TOKEN_BYTES_SAFE} characters: it can be guessed");
                problems.push(&key, problem, Some("openssl rand -hex 32 makes a good one"));
            }
        }
    }

    fn keyed(&self) -> impl Iterator<Item = (String, &str)> {
        let tokens = self.tokens.iter().enumerate();
        tokens.map(|(number, token)| (format!("tokens.{number}"), token.reveal()))
    }

    /// Whether a request with these headers is let in.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        !self.is_on() || presented(headers).is_some_and(|token| self.knows(token))
    }

    /// In the same time for every token of a length, and without telling which one it is like.
    fn knows(&self, presented: &[u8]) -> bool {
        let known = self.tokens.iter().map(|token| token.reveal().as_bytes().ct_eq(presented));
        known.fold(Choice::from(0), |some, one| some | one).into()
    }
}

/// What a refused sender is told of how to come in.
pub const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer");

/// The header by which a client is let in; `None` for a token that can't be sent.
pub fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The token of the one authorization header; of several nobody knows which one counts.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(tokens: &[&str]) -> AuthConfig {
        let tokens = tokens.iter().map(|token| token.parse().expect("any text")).collect();
        AuthConfig { tokens }
    }

    #[test]
    fn one_of_the_tokens_lets_in() {
        let auth = config(&["first-token", "second-token"]);
        let admits = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            auth.admits(&headers)
        };
        for good in ["Bearer first-token", "bearer second-token", "BEARER  second-token "] {
            assert!(admits(&[good]), "{good}");
        }
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "first-token",
            "Basic first-token",
            "Bearer first-toke",
            "Bearer first-token2",
            "Bearer First-token",
            "Bearer first-token second-token",
        ] {
            assert!(!admits(&[bad]), "{bad}");
        }
        assert!(!admits(&[]) && !admits(&["Bearer first-token", "Bearer first-token"]));
        assert!(config(&[]).admits(&HeaderMap::new()), "nobody is asked");
    }

    #[test]
    fn bad_tokens_are_refused_and_short_ones_warned_of() {
        let (mut problems, mut warnings) = (Problems::default(), Problems::default());
        let auth = config(&["", "two words", "short", "long-enough-for-all"]);
        auth.check(&mut problems);
        auth.warn(&mut warnings);
        let paths = |problems: Problems| {
            problems.into_vec().into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(problems), ["tokens.0", "tokens.1"]);
        assert_eq!(paths(warnings), ["tokens.0", "tokens.1", "tokens.2"]);
        assert!(!format!("{auth:?}").contains("short"));
    }
}
