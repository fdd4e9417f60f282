//! The summary that the terminal shows last, as text.

use std::collections::BTreeMap;
use std::path::Path;

use super::SEED_SENTENCE;
use super::matrix::{Matrix, Row, Square, Tally};
use super::text::{
    also, bytes, clean, count, duration, ended_early, fewest, found, grouped, headline, line, shortened, times,
};
use crate::finding::{Cause, Finding};
use crate::verdict::{Overall, Report, Verdict};

/// Findings shown; the files have all.
const FINDINGS_MAX: usize = 5;

/// Reasons shown of inconclusive cells, the most frequent first.
const REASONS_MAX: usize = 3;

/// Columns that the matrix may take before its roles are shown by letters.
const WIDTH: usize = 80;

/// Characters shown of an operation's ID.
const OPERATION_MAX: usize = 36;

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn square(self, square: Square, text: &str) -> String {
        let code = match square {
            Square::Upheld => "32",
            Square::Violated => "1;31",
            Square::Inconclusive => "33",
            Square::Absent => "2",
        };
        self.code(code, text)
    }

    fn code(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.into(),
        }
    }
}

/// The verdict in one plain line.
pub(super) fn verdict_line(report: &Report) -> String {
    let judgement = &report.judgement;
    let said = headline(report.overall);
    let mut out = format!(
        "{} {} {}: {}; requirements: {}",
        said.shape,
        said.word.to_uppercase(),
        line(&report.run.target),
        found(judgement),
        Tally::requirements(judgement).words("not applicable")
    );
    if report.run.interrupted {
        out.push_str(" (interrupted)");
    } else if report.run.stopped_because.is_some() {
        out.push_str(" (stopped early)");
    }
    out
}

/// The summary as text: what a person at the terminal needs, and where the rest is.
pub fn summary(report: &Report, dir: &Path, color: bool) -> String {
    let paint = Paint(color);
    let worst = match report.overall {
        Overall::Upheld => Square::Upheld,
        Overall::Violated => Square::Violated,
        Overall::Inconclusive => Square::Inconclusive,
    };
    let mut parts = vec![paint.square(worst, &verdict_line(report))];
    if let Some(early) = ended_early(report) {
        parts[0] += &format!("\n{early}");
    }
    let matrix = Matrix::of(&report.judgement);
    if !matrix.rows.is_empty() {
        parts.push(drawn(&matrix, paint));
    }
    parts.extend(report.judgement.told().take(FINDINGS_MAX).map(|(cause, finding)| tell(cause, finding, paint)));
    let causes = report.judgement.causes.len();
    if causes > FINDINGS_MAX {
        let more = count(causes - FINDINGS_MAX, "more cause");
        parts.push(format!("{more}: see the report"));
    }
    let mut open = not_upheld(report, paint);
    open.extend(reasons(&matrix, paint));
    if !open.is_empty() {
        parts.push(open.join("\n"));
    }
    parts.push(counts(report));
    let head = headline(report.overall);
    parts[0].insert(0, '\n');
    parts.join("\n\n")
        + &format!(
            "\n{} {}; report in {}\n",
            paint.square(worst, &head.shape.to_string()),
            head.word,
            line(&dir.display().to_string())
        )
}

fn drawn(matrix: &Matrix<'_>, paint: Paint) -> String {
    let operations: Vec<String> = matrix.rows.iter().map(|r| fit(&line(r.operation))).collect();
    let widest = operations.iter().map(|o| o.chars().count()).max();
    let widest = widest.unwrap_or(0);
    let names: Vec<String> = matrix.roles.iter().map(|r| line(r)).collect();
    let named: usize = names.iter().map(|n| n.chars().count() + 2).sum();
    let by_name = widest + named <= WIDTH;
    let heads: Vec<String> = match by_name {
        true => names.clone(),
        false => (1..=names.len()).map(|n| n.to_string()).collect(),
    };
    let mut out = Vec::new();
    if !by_name {
        let key: Vec<String> = heads.iter().zip(&names).map(|(h, n)| format!("{h} {n}")).collect();
        out.push(format!("application roles: {}", key.join(", ")));
    }
    out.push(format!("{:widest$}  {}", "", heads.join("  ")));
    for (row, operation) in matrix.rows.iter().zip(&operations) {
        let mut text = format!("{operation:widest$}");
        let mut gap = 2;
        for (square, head) in row.squares.iter().zip(&heads) {
            text.push_str(&" ".repeat(gap));
            text.push_str(&paint.square(*square, &square.shape().to_string()));
            gap = head.chars().count() + 1;
        }
        out.push(text);
    }
    let legend = Square::ALL.map(|s| format!("{} {}", paint.square(s, &s.shape().to_string()), s.word()));
    out.push(legend.join("  "));
    out.join("\n")
}

fn fit(operation: &str) -> String {
    match operation.char_indices().nth(OPERATION_MAX) {
        Some(_) => operation.chars().take(OPERATION_MAX - 1).chain(['…']).collect(),
        None => operation.into(),
    }
}

fn tell(cause: &Cause, finding: &Finding, paint: Paint) -> String {
    let id = line(&finding.id);
    let mut out = vec![
        format!("{} {}", paint.square(Square::Violated, &format!("✗ {id}")), line(&finding.sentence)),
        format!("    {}, seen {} by {}", line(&finding.requirement), times(finding.occurrences), finding.oracle.word()),
    ];
    out.extend(also(cause).into_iter().chain(fewest(finding)).map(|text| format!("    {text}")));
    let probe = finding.witness.iter().find(|w| w.part == "probe");
    if let Some(probe) = probe.or(finding.witness.first()) {
        let status = probe.status.map_or("no answer".into(), |s| format!("status {s}"));
        out.push(format!(
            "    {} → {status}, by {}, {}",
            line(&probe.request),
            line(&probe.actor),
            line(&probe.pool_state)
        ));
        out.extend(probe.shows.iter().take(3).map(|s| format!("    shows {}", shortened(&line(s), 300))));
        out.push(format!("    {}", clean(&probe.curl).replace('\n', "\n    ")));
    }
    out.join("\n")
}

/// Requirements that are not upheld, with why; those that do not apply share a line with others of the same reason.
fn not_upheld(report: &Report, paint: Paint) -> Vec<String> {
    let mut out = Vec::new();
    let mut apart: Vec<(String, Vec<String>)> = Vec::new();
    for requirement in &report.judgement.requirements {
        let square = Square::of_verdict(&requirement.verdict);
        let shape = paint.square(square, &square.shape().to_string());
        let name = line(&requirement.requirement);
        match &requirement.verdict {
            Verdict::Upheld => {}
            Verdict::Violated => out.push(format!("{shape} {name}: {}", line(&requirement.sentence))),
            Verdict::Inconclusive(why) => out.push(format!("{shape} {name}: {}", line(why))),
            Verdict::NotApplicable(why) => {
                let why = line(why);
                match apart.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, names)) => names.push(name),
                    None => apart.push((why, vec![name])),
                }
            }
        }
    }
    let shape = paint.square(Square::Absent, "·");
    out.extend(apart.iter().map(|(why, names)| format!("{shape} {} not applicable: {why}", names.join(", "))));
    out
}

/// Why cells are inconclusive.
fn reasons(matrix: &Matrix<'_>, paint: Paint) -> Vec<String> {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, why) in matrix.rows.iter().flat_map(Row::inconclusive) {
        *known.entry(why).or_default() += 1;
    }
    let mut known: Vec<(&str, usize)> = known.into_iter().collect();
    known.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let shape = paint.square(Square::Inconclusive, "?");
    let told = known.iter().take(REASONS_MAX);
    let mut out: Vec<String> =
        told.map(|(why, number)| format!("{shape} {}: {}", count(*number, "cell"), line(why))).collect();
    if known.len() > REASONS_MAX {
        let more = count(known.len() - REASONS_MAX, "more reason");
        out.push(format!("{shape} {more}: see the report"));
    }
    out
}

fn counts(report: &Report) -> String {
    let counts = &report.judgement.counts;
    format!(
        "{} requests, {} judged, {} unusable; {} canary sightings in {}; {}\ncells: {}\nseed {}: {}",
        grouped(counts.attempted),
        grouped(counts.judged),
        grouped(counts.unusable),
        grouped(counts.sightings),
        bytes(counts.bytes_scanned),
        duration(report.run.elapsed_ms),
        Tally::cells(&report.judgement).words("not in plan"),
        report.plan.seed,
        SEED_SENTENCE
    )
}
