//! [`Lock`]: what a sender needs to come in where there are TLS and tokens.

use std::path::PathBuf;

use crate::authority::Authority;

/// An authority, a certificate of it, and a token.
pub(crate) struct Lock {
    /// What has to be said.
    pub(crate) token: &'static str,
    authority: Authority,
}

impl Lock {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        authority.issue_into("server");
        Self { token: "a-token-of-the.peer~tests", authority }
    }

    /// Who is to be trusted.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.authority.path("ca.pem")
    }

    /// The inside of a section `tls`.
    pub(crate) fn tls(&self) -> String {
        self.authority.section("server")
    }

    /// The inside of a section `auth`.
    pub(crate) fn auth(&self) -> String {
        format!("tokens: ['{}']", self.token)
    }
}
