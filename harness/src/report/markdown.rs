//! `summary.md`: what a CI step shows.

use std::fmt::Write;

use super::SEED_SENTENCE;
use super::matrix::Matrix;
use crate::verdict::{CellState, Overall, Report, Verdict};

/// `summary.md`.
pub fn to_markdown(report: &Report) -> String {
    let judgement = &report.judgement;
    let mut out = String::new();
    let verdict = match report.overall {
        Overall::Upheld => "● Upheld",
        Overall::Violated => "✗ Violated",
        Overall::Inconclusive => "? Inconclusive",
    };
    let upheld = judgement.cells.iter().filter(|c| c.state == CellState::Upheld).count();
    let counts = &judgement.counts;
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# {verdict}: {}\n", inert(&report.run.target));
    if let Some(why) = &report.run.stopped_because {
        let _ = writeln!(out, "**The run stopped early:** {}\n", inert(why));
    }
    let _ = writeln!(
        out,
        "{} requests, {} judged, {} unusable; {} findings; {upheld} of {} cells upheld. Seed {}. {SEED_SENTENCE}\n",
        counts.attempted,
        counts.judged,
        counts.unusable,
        judgement.findings.len(),
        judgement.cells.len(),
        report.plan.seed
    );
    for finding in &judgement.findings {
        let _ = writeln!(
            out,
            "<details><summary><b>{}</b> {} ({}, {}, {} times)</summary>\n",
            finding.id,
            inert(&finding.sentence),
            inert(&finding.requirement),
            finding.oracle.word(),
            finding.occurrences
        );
        for witness in &finding.witness {
            let _ =
                writeln!(out, "**{}**, {}: {}\n", inert(&witness.part), inert(&witness.actor), inert(&witness.request));
            for shown in &witness.shows {
                let _ = writeln!(out, "- {}", inert(shown));
            }
            let _ = writeln!(out, "\n{}\n", fenced(&witness.curl));
        }
        let _ = writeln!(out, "</details>\n");
    }
    let matrix = Matrix::of(judgement);
    let _ = writeln!(out, "| operation | {} |", matrix.roles.iter().map(|r| inert(r)).collect::<Vec<_>>().join(" | "));
    let _ = writeln!(out, "|---|{}", ":-:|".repeat(matrix.roles.len()));
    for row in &matrix.rows {
        let squares: Vec<String> = row.squares.iter().map(|s| s.shape().to_string()).collect();
        let _ = writeln!(out, "| {} | {} |", inert(row.operation), squares.join(" | "));
    }
    let _ = writeln!(
        out,
        "\n● upheld  ✗ violated  ? inconclusive  · not in the plan\n\n| requirement | verdict | judged | controls |\n|---|---|--:|--:|"
    );
    for requirement in &judgement.requirements {
        let why = match &requirement.verdict {
            Verdict::Inconclusive(why) | Verdict::NotApplicable(why) => format!(": {}", inert(why)),
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "| {} | {}{why} | {} | {} |",
            inert(&requirement.requirement),
            requirement.verdict.word(),
            requirement.judged,
            requirement.controls
        );
    }
    let _ = writeln!(out, "\nThe same plan again:\n\n{}", fenced(&report.run.reproduce));
    out
}

/// Text that neither Markdown nor HTML takes for its own.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A code block whose fence no line of the text can end.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    format!("{fence}sh\n{text}\n{fence}")
}
