//! Reports: files and terminal output made from events and a finished judgement. No judgement is made here.

mod curl;
mod evidence;
pub mod guard;
mod html;
mod json;
mod junit;
mod markdown;
mod matrix;
pub mod probe;
mod reproduce;
pub mod review;
mod summary;
pub mod terminal;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use evidence::{Shown, write_evidence};
pub use html::to_html;
pub use json::to_json;
pub use junit::to_junit;
pub use markdown::to_markdown;

use crate::error::{Error, Result, unknown};
use crate::verdict::Report;

/// The sentence that stands wherever a seed is shown.
pub const SEED_SENTENCE: &str = "The seed reproduces the plan, never the interleaving against a live Postgres.";

/// A report's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `report.html`: one self-contained page.
    Html,
    /// `report.json`: everything, for programs.
    Json,
    /// `junit.xml`: what continuous integration shows beside other tests.
    Junit,
    /// `summary.md`: what a step of continuous integration shows.
    Markdown,
}

impl Format {
    /// The file's name in the run's folder.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Html => "report.html",
            Self::Json => "report.json",
            Self::Junit => "junit.xml",
            Self::Markdown => "summary.md",
        }
    }

    /// The report in this format.
    pub fn render(self, report: &Report) -> String {
        match self {
            Self::Html => to_html(report),
            Self::Json => to_json(report),
            Self::Junit => to_junit(report),
            Self::Markdown => to_markdown(report),
        }
    }
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

/// Writes `report` to `dir` in each format and names the files. A file is there whole or not at all.
///
/// # Errors
/// The folder is not writable, or the disk is full.
pub fn write_all(report: &Report, formats: &[Format], dir: &Path) -> Result<Vec<PathBuf>> {
    let write = |format: &Format| {
        let path = dir.join(format.file_name());
        replace(&path, dir, &format.render(report)).map_err(|e| Error::write(&path, e))?;
        Ok(path)
    };
    formats.iter().map(write).collect()
}

/// Puts `text` at `path` by way of a temporary file beside it.
fn replace(path: &Path, dir: &Path, text: &str) -> std::io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".report-");
    // A temporary file is its owner's alone; a report is for everyone whom the umask lets read it.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
