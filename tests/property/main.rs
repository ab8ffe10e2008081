//! What must hold for any input, hostile ones included.

mod message;
mod parts;
mod scan;
mod weave;
