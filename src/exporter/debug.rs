//! Traces as trees on standard output.

use std::io::Write as _;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::error::ExportError;
use crate::{
    tree,
    wire::{PartialSuccess, Pieces},
};

/// Prints every trace of a request.
pub(super) fn print(pieces: &Pieces) -> Result<PartialSuccess, ExportError> {
    let request = ExportTraceServiceRequest::decode(pieces.concat().as_slice())
        .map_err(|error| ExportError::Permanent(error.to_string()))?;
    let text = tree::render(&request, tree::Style::plain());
    // A closed standard output must not end the service.
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| ExportError::Permanent(format!("standard output: {error}")))?;
    Ok(PartialSuccess::default())
}
