//! What must hold for any input, hostile ones included.

mod message;
mod scan;
mod weave;
