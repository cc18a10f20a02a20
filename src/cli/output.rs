//! How commands speak: results on standard output, everything else on standard error.

use crate::error::{Cause, Error, Result};
use std::io::{ErrorKind, Write};

/// Writes to standard output. A reader that has left (`runner list | head`) is not an error.
pub fn print(text: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The same, with a line end.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    print(format_args!("{text}\n"))
}

/// Tells an error on standard error.
pub fn error(error: &Error) {
    let (head, tail) = match error.cause {
        Cause::Bug => ("this is a bug of runner, not of your file", "\nplease report it with the command and the file"),
        _ => ("error", ""),
    };
    eprintln!("{head}: {error}{tail}");
}

/// A CSV field, in quotes where it needs them (RFC 4180).
pub fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_string(),
    }
}
