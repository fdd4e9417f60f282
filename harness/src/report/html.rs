//! `report.html`: one self-contained page that works from a file.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::SEED_SENTENCE;
use super::matrix::{Matrix, Row, Square, Tally};
use super::text::{
    Headline, also, bytes, clean, count, duration, ended_early, fewest, found, grouped, headline, times,
};
use crate::cell::{PoolState, Relation};
use crate::finding::{Cause, Finding};
use crate::requirement::Severity;
use crate::verdict::{CellState, Overall, Report, Verdict};

const STYLE: &str = include_str!("../../templates/report.css");
const SCRIPT: &str = include_str!("../../templates/report.js");

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'r> {
    report: &'r Report,
    headline: Headline,
    class: &'static str,
    early: Option<String>,
    matrix: Matrix<'r>,
    details: Vec<Detail<'r>>,
    pools: Vec<Pool>,
    requirements: Tally,
    cells: Tally,
    seed_sentence: &'static str,
    style: &'static str,
    script: &'static str,
    policy: String,
}

/// One operation's cells: relation × pool state, with a column a role.
struct Detail<'r> {
    operation: &'r str,
    tally: String,
    groups: Vec<Group>,
    /// Reasons of the inconclusive cells, each said once.
    reasons: Vec<&'r str>,
}

struct Group {
    relation: Relation,
    rows: Vec<(String, Vec<Spot>)>,
}

/// One cell: its square, and the number of its reason.
struct Spot {
    square: Square,
    reason: Option<usize>,
}

/// One pool state's cells, counted.
struct Pool {
    name: String,
    tally: Tally,
}

/// `report.html`. The page loads nothing, and its policy lets no script run but its own.
///
/// # Panics
/// Never: the template is written to memory.
pub fn to_html(report: &Report) -> String {
    let judgement = &report.judgement;
    let matrix = Matrix::of(judgement);
    let page = Page {
        report,
        headline: headline(report.overall),
        class: match report.overall {
            Overall::Upheld => "upheld",
            Overall::Violated => "violated",
            Overall::Inconclusive => "inconclusive",
        },
        early: ended_early(report),
        details: matrix.rows.iter().map(|r| detail(&matrix, r)).collect(),
        matrix,
        pools: pools(report),
        requirements: Tally::requirements(judgement),
        cells: Tally::cells(judgement),
        seed_sentence: SEED_SENTENCE,
        style: STYLE,
        script: SCRIPT,
        policy: format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
            digest(STYLE),
            digest(SCRIPT)
        ),
    };
    // Askama has made markup harmless; this does it for controls. The template itself has none but line breaks.
    clean(&page.render().expect("a page written to memory"))
}

fn digest(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

fn detail<'r>(matrix: &Matrix<'r>, row: &Row<'r>) -> Detail<'r> {
    let mut pool_states: Vec<PoolState> = Vec::new();
    let mut reasons: Vec<&str> = Vec::new();
    for cell in &row.cells {
        if !pool_states.contains(&cell.cell.pool_state) {
            pool_states.push(cell.cell.pool_state);
        }
    }
    let mut groups = Vec::new();
    for relation in Relation::ALL {
        let mut rows = Vec::new();
        for pool_state in &pool_states {
            let spots = matrix.roles.iter().map(|role| {
                let Some(cell) = row.find(role, relation, *pool_state) else {
                    return Spot { square: Square::Absent, reason: None };
                };
                let reason = match &cell.state {
                    CellState::Inconclusive(why) => Some(number(&mut reasons, why)),
                    _ => None,
                };
                Spot { square: Square::of(&cell.state), reason }
            });
            let spots: Vec<Spot> = spots.collect();
            if spots.iter().any(|s| s.square != Square::Absent) {
                rows.push((pool_state.to_string(), spots));
            }
        }
        if !rows.is_empty() {
            groups.push(Group { relation, rows });
        }
    }
    let squares = row.cells.iter().map(|c| Square::of(&c.state));
    Detail { operation: row.operation, tally: Tally::of(squares).words("not in plan"), groups, reasons }
}

/// The number of `why` among the reasons, from 1.
fn number<'r>(reasons: &mut Vec<&'r str>, why: &'r str) -> usize {
    let known = reasons.iter().position(|r| *r == why);
    known.map_or_else(
        || {
            reasons.push(why);
            reasons.len()
        },
        |at| at + 1,
    )
}

fn pools(report: &Report) -> Vec<Pool> {
    let mut by_state: BTreeMap<PoolState, Vec<Square>> = BTreeMap::new();
    for cell in &report.judgement.cells {
        let squares = by_state.entry(cell.cell.pool_state).or_default();
        squares.push(Square::of(&cell.state));
    }
    let pools = by_state
        .into_iter()
        .map(|(state, squares)| Pool { name: state.to_string(), tally: Tally::of(squares.into_iter()) });
    pools.collect()
}

/// What the template asks for by name.
impl Page<'_> {
    fn class_of(&self, square: &Square) -> &'static str {
        match square {
            Square::Absent => "absent",
            Square::Upheld => "upheld",
            Square::Inconclusive => "inconclusive",
            Square::Violated => "violated",
        }
    }

    fn square_of(&self, verdict: &Verdict) -> Square {
        Square::of_verdict(verdict)
    }

    fn why<'v>(&self, verdict: &'v Verdict) -> &'v str {
        match verdict {
            Verdict::Inconclusive(why) | Verdict::NotApplicable(why) => why,
            _ => "",
        }
    }

    fn severity(&self, severity: &Severity) -> &'static str {
        match severity {
            Severity::Critical => "critical",
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Info => "info",
        }
    }

    fn found(&self) -> String {
        found(&self.report.judgement)
    }

    fn besides(&self, cause: &Cause, finding: &Finding) -> Vec<String> {
        also(cause).into_iter().chain(fewest(finding)).collect()
    }

    fn findings_of(&self, requirement: &str) -> Vec<&Finding> {
        let findings = self.report.judgement.findings.iter();
        findings.filter(|f| f.requirement == requirement).collect()
    }

    fn status_name(&self, status: &str) -> String {
        if status == "none" { "no answer".into() } else { status.into() }
    }

    fn grouped(&self, number: &u64) -> String {
        grouped(*number)
    }

    fn counted(&self, number: impl Borrow<usize>) -> String {
        grouped(*number.borrow() as u64)
    }

    fn count(&self, number: impl Borrow<usize>, one: &str) -> String {
        count(*number.borrow(), one)
    }

    fn times(&self, number: &u64) -> String {
        times(*number)
    }

    fn duration(&self, ms: &u64) -> String {
        duration(*ms)
    }

    fn scanned(&self) -> String {
        bytes(self.report.judgement.counts.bytes_scanned)
    }
}
