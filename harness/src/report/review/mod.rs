//! What guard concluded, for people and for continuous integration.

mod guide;
mod junit;
mod page;
mod sarif;

use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use guide::guides;

use crate::error::{Error, Result, unknown};
use crate::guard::Report;
use crate::guard::reach::Matrix;
use crate::guard::rule::Rule;

/// A form of guard's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `guard.html`: the matrix and the findings on one page.
    Html,
    /// `guard.json`: everything, for programs.
    Json,
    /// `guard-junit.xml`: a case a rule.
    Junit,
    /// `guard.sarif`: SARIF 2.1.0, with the places in migrations where there are any.
    Sarif,
}

impl Form {
    /// The file's name in the folder for reports.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Html => "guard.html",
            Self::Json => "guard.json",
            Self::Junit => "guard-junit.xml",
            Self::Sarif => "guard.sarif",
        }
    }

    /// The report in this form.
    pub fn render(self, report: &Report, matrix: &Matrix, rules: &[Rule]) -> String {
        match self {
            Self::Html => page::to_html(report, matrix),
            Self::Json => serde_json::to_string_pretty(report).expect("strings and numbers") + "\n",
            Self::Junit => junit::to_junit(report, rules),
            Self::Sarif => sarif::to_sarif(report, rules),
        }
    }
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "html" => Ok(Self::Html),
            "json" => Ok(Self::Json),
            "junit" => Ok(Self::Junit),
            "sarif" => Ok(Self::Sarif),
            other => Err(unknown("form of report", other, ["html", "json", "junit", "sarif"])),
        }
    }
}

/// Writes the report to `dir` in each form and names the files.
///
/// # Errors
/// The folder cannot be made or written to.
pub fn write(report: &Report, matrix: &Matrix, rules: &[Rule], forms: &[Form], dir: &Path) -> Result<Vec<PathBuf>> {
    if !forms.is_empty() {
        std::fs::create_dir_all(dir).map_err(|e| Error::write(dir, e))?;
    }
    let write = |form: &Form| {
        let path = dir.join(form.file_name());
        super::replace(&path, dir, &form.render(report, matrix, rules)).map_err(|e| Error::write(&path, e))?;
        Ok(path)
    };
    forms.iter().map(write).collect()
}

#[cfg(test)]
mod tests;
