//! What can go wrong outside the judgement, and the exit code of each.

use std::path::{Path, PathBuf};

use crate::exit_code::ExitCode;

/// An error that ends a run. The text says what failed, on what, and what to do next; it never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line, a target file, a document or a selection is wrong.
    #[error("{0}")]
    Usage(String),
    /// The target or the database could not be reached or started, or died.
    #[error("{0}")]
    Unreachable(String),
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}. {next}")]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
        /// What to do next.
        next: &'static str,
    },
    /// A defect of Partywall itself.
    #[error("defect in partywall: {0}. Please report it with the plan and the history of this run")]
    Defect(String),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The exit code this error maps to.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::File { .. } => ExitCode::Usage,
            Self::Unreachable(_) => ExitCode::Unreachable,
            Self::Defect(_) => ExitCode::Defect,
            Self::Interrupted => ExitCode::Interrupted,
        }
    }

    /// A file that could not be read.
    pub fn read(path: &Path, source: std::io::Error) -> Self {
        let next = "Check the path and its permissions";
        Self::File { action: "read", path: path.into(), source, next }
    }

    /// A file that could not be written.
    pub fn write(path: &Path, source: std::io::Error) -> Self {
        let next = "Check free space and permissions, or choose another folder with --report-dir";
        Self::File { action: "write", path: path.into(), source, next }
    }
}

/// `word` is unknown: names the nearest of `known`, so that a slip is cheap.
pub fn unknown<'a>(what: &str, word: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b)));
    match nearest {
        Some(nearest) => {
            Error::Usage(format!("unknown {what} `{word}`; did you mean `{nearest}`? Known: {}", known.join(", ")))
        }
        None => Error::Usage(format!("unknown {what} `{word}`, and none is known here")),
    }
}
