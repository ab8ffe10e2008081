//! How YAML becomes values. Knows no room: each room owns its `Config`, the pipeline adds them up.

mod address;
mod error;
mod headers;
mod load;
mod path;
pub mod reference;
mod value;

pub(crate) use address::is_loopback;
pub use address::{HttpUrl, ListenAddress, UrlPath};
pub use error::{ConfigError, Problem, Problems};
pub use headers::Headers;
pub use load::{Environment, ProcessEnvironment, load, load_file};
pub use value::{ByteSize, Interval, MemoryShare, NameOrNone, Secret, SyncMode};
