//! The closed set of exit codes; DESIGN.md's table in one type.

/// What the process tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Every selected requirement upheld, nothing left out.
    Upheld = 0,
    /// At least one requirement violated.
    Violated = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Nothing violated, but something inconclusive, uncovered, or a mutant survived.
    Inconclusive = 3,
    /// Target or database could not be reached or started.
    Unreachable = 4,
    /// A defect of Partywall itself.
    Defect = 70,
    /// Interrupted; the partial report is written.
    Interrupted = 130,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
