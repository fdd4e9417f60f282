//! Reports: files and terminal output made from events and a finished judgement. No judgement is made here.

mod html;
mod junit;
mod markdown;
pub mod matrix;
pub mod terminal;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use html::to_html;
pub use junit::to_junit;
pub use markdown::to_markdown;

use crate::error::{Error, Result, unknown};
use crate::verdict::Report;

/// A report's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `report.html`: one self-contained page.
    Html,
    /// `report.json`.
    Json,
    /// `junit.xml`.
    Junit,
    /// `summary.md`.
    Markdown,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "html" => Ok(Self::Html),
            "json" => Ok(Self::Json),
            "junit" => Ok(Self::Junit),
            "md" => Ok(Self::Markdown),
            other => Err(unknown("report format", other, ["html", "json", "junit", "md"])),
        }
    }
}

/// Writes `report` to `dir` in each format. A file is there whole or not at all.
///
/// # Errors
/// The folder is not writable, or the disk is full.
pub fn write_all(report: &Report, formats: &[Format], dir: &Path) -> Result<Vec<PathBuf>> {
    let write = |format: &Format| {
        let (name, text) = match format {
            Format::Html => ("report.html", to_html(report)?),
            Format::Json => ("report.json", to_json(report)?),
            Format::Junit => ("junit.xml", to_junit(report)?),
            Format::Markdown => ("summary.md", to_markdown(report)),
        };
        let path = dir.join(name);
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(|e| Error::write(&path, e))?;
        file.write_all(text.as_bytes()).map_err(|e| Error::write(&path, e))?;
        file.persist(&path).map_err(|e| Error::write(&path, e.error))?;
        Ok(path)
    };
    formats.iter().map(write).collect()
}

/// `report.json`.
///
/// # Errors
/// A defect of this build.
pub fn to_json(report: &Report) -> Result<String> {
    serde_json::to_string_pretty(report).map_err(|e| Error::Defect(e.to_string()))
}

/// The sentence that stands wherever a seed is shown.
pub const SEED_SENTENCE: &str = "The seed reproduces the plan, never the interleaving against a live Postgres.";
