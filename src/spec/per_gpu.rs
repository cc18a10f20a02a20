//! How many runs share a GPU.

/// Runs at once on each GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsPerGpu {
    Count(usize),
    /// One, and further ones while what runs were measured to take leaves room.
    Auto,
}

impl Default for RunsPerGpu {
    fn default() -> Self {
        Self::Count(1)
    }
}
