//! Traces as trees on standard output.

use std::io::Write as _;

use super::{
    body::{Pieces, decoded},
    error::ExportError,
};
use crate::{tree, wire::PartialSuccess};

/// Prints every trace of a request. In a thread of its own, for who reads it may let it wait.
pub(super) async fn print(pieces: Pieces) -> Result<PartialSuccess, ExportError> {
    let printing = tokio::task::spawn_blocking(move || write(&pieces)).await;
    printing.map_err(|error| ExportError::Permanent(error.to_string()))?
}

fn write(pieces: &Pieces) -> Result<PartialSuccess, ExportError> {
    let request = decoded(pieces).map_err(|error| ExportError::Permanent(error.to_string()))?;
    let text = tree::render(&request, tree::Style::plain());
    // A closed standard output must not end the service.
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| ExportError::Permanent(format!("standard output: {error}")))?;
    Ok(PartialSuccess::default())
}
