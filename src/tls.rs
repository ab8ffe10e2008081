//! The one TLS stack: rustls with ring.

use std::sync::Once;

static PROVIDER: Once = Once::new();

/// Makes ring the process' provider; building an HTTP client panics without one.
pub fn install_provider() {
    // An error means that a provider was installed before.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}
