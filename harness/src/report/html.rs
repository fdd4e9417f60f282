//! `report.html`: one self-contained page that works from a file.

use askama::Template;

use super::SEED_SENTENCE;
use super::matrix::{Matrix, Square};
use crate::cell::Relation;
use crate::error::{Error, Result};
use crate::verdict::{CellState, Overall, Report, Verdict};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'r> {
    report: &'r Report,
    matrix: Matrix<'r>,
    class: &'static str,
    title: &'static str,
    lead: &'static str,
    upheld: usize,
    seed_sentence: &'static str,
}

/// `report.html`.
///
/// # Errors
/// A defect of this build.
pub fn to_html(report: &Report) -> Result<String> {
    let (class, title, lead) = match report.overall {
        Overall::Upheld => (
            "upheld",
            "Upheld",
            "Every selected requirement was upheld, beside a control that succeeded. Nothing was left out.",
        ),
        Overall::Violated => (
            "violated",
            "Violated",
            "The wall has a hole: someone perceived or reached what another tenant owns, or lost what is their own.",
        ),
        Overall::Inconclusive => (
            "inconclusive",
            "Inconclusive",
            "Nothing was violated, but not everything could be shown. Silence proves nothing.",
        ),
    };
    let upheld = report.judgement.cells.iter().filter(|c| c.state == CellState::Upheld).count();
    let matrix = Matrix::of(&report.judgement);
    let page = Page { report, matrix, class, title, lead, upheld, seed_sentence: SEED_SENTENCE };
    page.render().map_err(|e| Error::Defect(e.to_string()))
}

impl Page<'_> {
    fn class_of(&self, square: &Square) -> &'static str {
        match square {
            Square::Absent => "absent",
            Square::Upheld => "upheld",
            Square::Inconclusive => "inconclusive",
            Square::Violated => "violated",
        }
    }

    fn verdict_class(&self, verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Upheld => "upheld",
            Verdict::Violated => "violated",
            Verdict::Inconclusive(_) => "inconclusive",
            Verdict::NotApplicable(_) => "absent",
        }
    }

    fn why<'v>(&self, verdict: &'v Verdict) -> &'v str {
        match verdict {
            Verdict::Inconclusive(why) | Verdict::NotApplicable(why) => why,
            _ => "",
        }
    }

    fn relations(&self) -> [Relation; 3] {
        Relation::ALL
    }

    fn seconds(&self) -> String {
        format!("{:.1}", self.report.run.elapsed_ms as f64 / 1000.0)
    }
}
