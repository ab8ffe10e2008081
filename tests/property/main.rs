//! What must hold for any input, hostile ones included.

mod journal;
mod json;
mod message;
mod parts;
mod scan;
mod weave;
