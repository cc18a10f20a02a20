//! The one error type: what happened, where, what to do; and the cause that decides about retries and exit codes.

use std::fmt::{self, Display};

/// Why something failed. Retries and exit codes follow from this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The user's file, data or command line is wrong: never retried, exit code 2.
    User,
    /// Some runs of a sweep did not finish: exit code 1.
    RunsFailed,
    /// A loss or gradient became NaN or infinite: never retried.
    NonFinite,
    /// Memory ran out: retried with a smaller micro-batch.
    OutOfMemory,
    /// The disk is full: waits for room.
    DiskFull,
    /// The machine refused (permission, broken pipe, missing library): retried.
    Environment,
    /// Another program holds a file that is needed: waited for.
    Locked,
    /// Stopped on request; goes on at the next start.
    Interrupted,
    /// A defect of this program: exit code 3.
    Bug,
}

/// An error with its cause and the trail of contexts it passed through, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub cause: Cause,
    message: String,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(cause: Cause, message: impl Display) -> Self {
        Self { cause, message: message.to_string() }
    }

    /// The user's mistake: say what is wrong, where, and what to do.
    pub fn user(message: impl Display) -> Self {
        Self::new(Cause::User, message)
    }

    /// A defect of this program.
    pub fn bug(message: impl Display) -> Self {
        Self::new(Cause::Bug, message)
    }

    /// 0 is success; 1 some runs failed or the machine refused; 2 the user's mistake; 3 a bug.
    pub fn exit_code(&self) -> u8 {
        match self.cause {
            Cause::User => 2,
            Cause::Bug => 3,
            _ => 1,
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let cause = match error.kind() {
            std::io::ErrorKind::OutOfMemory => Cause::OutOfMemory,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Cause::DiskFull,
            _ => Cause::Environment,
        };
        Self::new(cause, error)
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        Self::new(cause(&text), text)
    }
}

/// The cause behind what Candle, CUDA and its libraries say: they tell it in words only.
fn cause(text: &str) -> Cause {
    /// Of the driver, of cuBLAS and cuDNN, and of cuDNN's inner parts.
    const MEMORY: [&str; 4] = ["OUT OF MEMORY", "OUT_OF_MEMORY", "_ALLOC_FAILED", "_ALLOCATION_FAILED"];
    let text = text.to_uppercase();
    match text {
        _ if MEMORY.iter().any(|words| text.contains(words)) => Cause::OutOfMemory,
        // The daemon through which processes share a GPU is gone or refuses.
        _ if text.contains("CUDA_ERROR_MPS_") => Cause::Environment,
        _ => Cause::Bug,
    }
}

/// Writes a line to standard error, which in a worker is its run's log. A log that cannot be written stops nothing.
pub fn log(line: impl Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Adds where an error happened in front of what happened.
pub trait Context<T> {
    fn context(self, place: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let Error { cause, message } = error.into();
            Error { cause, message: format!("{}: {message}", place()) }
        })
    }
}

/// The known name that a wrong one most likely meant. How words are joined does not count (`RandomErasing` is
/// `random_erasing`), and initials are understood (`learning_rate` is `lr`).
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace(['_', '-', ' '], "");
    let initials: String = wrong.split(['_', '-', ' ']).filter_map(|word| word.chars().next()).collect();
    let score = |name: &str| match initials.len() > 1 && initials == name {
        true => 1.0,
        false => strsim::normalized_damerau_levenshtein(&plain(wrong), &plain(name)),
    };
    let best = known.into_iter().map(|name| (score(name), name)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.6).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::{Cause, Error, nearest};

    #[test]
    fn what_cuda_says_has_its_cause() {
        let said = [
            ("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")", Cause::OutOfMemory),
            ("CublasError(CUBLAS_STATUS_ALLOC_FAILED)", Cause::OutOfMemory),
            ("cuDNN: CudnnError(CUDNN_STATUS_ALLOC_FAILED)", Cause::OutOfMemory),
            ("cuDNN: CudnnError(CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)", Cause::OutOfMemory),
            ("DriverError(CUDA_ERROR_MPS_CONNECTION_FAILED, \"MPS client failed to connect\")", Cause::Environment),
            ("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")", Cause::Bug),
        ];
        for (text, cause) in said {
            assert_eq!(Error::from(candle_core::Error::Cuda(text.into())).cause, cause, "{text}");
        }
    }

    #[test]
    fn the_nearest_name_is_what_was_meant() {
        let known = ["random_erasing", "lr", "weight_decay", "epochs"];
        let meant = [
            ("RandomErasing", "random_erasing"),
            ("learning_rate", "lr"),
            ("weigth_decay", "weight_decay"),
            ("epoch", "epochs"),
        ];
        for (wrong, right) in meant {
            assert_eq!(nearest(wrong, known), Some(right), "{wrong}");
        }
        assert_eq!(nearest("zzz", known), None);
    }
}
