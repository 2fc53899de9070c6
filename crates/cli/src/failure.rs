//! How the program ends when it does not end well.

use std::process::ExitCode;

/// A mistake of the caller: wrong usage, a bad file, an unknown or duplicate name, a busy port.
/// It says what happened, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// The exit code of an error: 2 for a mistake of the caller, else 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}
