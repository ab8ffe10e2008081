//! argv → lib → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracestitch::cli::main()
}
