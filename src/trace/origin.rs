//! Where spans come from, as far as it must be kept apart: the request headers an operator chose.

use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::Arc,
};

use parking_lot::Mutex;

use super::TraceId;

/// Headers that may be named, and the bytes each value may have.
pub const HEADERS_MAX: usize = 4;
/// See [`HEADERS_MAX`].
pub const VALUE_BYTES_MAX: usize = 256;

/// The values of the request headers named in `receivers.otlp.include_metadata`; absent headers are left out.
/// Cheap to clone; traces of different origins never mix.
#[derive(Debug, Clone, Default)]
pub struct Origin(Option<Arc<Vec<(String, String)>>>);

/// What a trace is kept under: two tenants may use one trace id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceKey {
    /// Its id; first, for it is what tells traces apart.
    pub id: TraceId,
    /// Whose trace it is.
    pub origin: Origin,
}

impl Origin {
    /// The value of a header, by its lower-case name.
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.0.as_deref()?;
        values.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Names and values.
    pub fn values(&self) -> &[(String, String)] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(left), Some(right)) => Arc::ptr_eq(left, right) || left == right,
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Gives equal headers one shared [`Origin`].
#[derive(Debug, Default)]
pub struct Origins {
    known: Mutex<HashSet<Origin>>,
}

/// Origins kept for sharing; beyond it the unused ones are forgotten.
const KNOWN_MAX: usize = 4096;

impl Origins {
    /// The origin with these header values; none at all is the default origin.
    pub fn intern(&self, values: Vec<(String, String)>) -> Origin {
        if values.is_empty() {
            return Origin::default();
        }
        let origin = Origin(Some(Arc::new(values)));
        let mut known = self.known.lock();
        if let Some(shared) = known.get(&origin) {
            return shared.clone();
        }
        if known.len() >= KNOWN_MAX {
            known.retain(|origin| {
                origin.0.as_ref().is_some_and(|values| Arc::strong_count(values) > 1)
            });
        }
        // A table full of origins in use stays as it is: an origin that is not shared is only a little larger.
        if known.len() < KNOWN_MAX {
            known.insert(origin.clone());
        }
        origin
    }
}
