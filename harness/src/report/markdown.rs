//! `summary.md`: what a CI step shows.

use super::SEED_SENTENCE;
use super::matrix::{Matrix, Square, Tally};
use super::text::{
    also, clean, count, duration, ended_early, fewest, found, grouped, headline, line, shortened, times,
};
use crate::finding::{Cause, Finding, Witness};
use crate::verdict::{Report, Verdict};

/// Findings told in full: CI services cut a summary that grows past a mebibyte.
const FINDINGS_MAX: usize = 25;

/// Characters kept of a body, for the same reason.
const BODY_MAX: usize = 2_000;

/// `summary.md`. Text from outside is written as character references, so that it is neither Markdown nor HTML.
pub fn to_markdown(report: &Report) -> String {
    let parts = [head(report), findings(report), matrix(report), requirements(report), again(report)];
    let mut out = parts.concat();
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn head(report: &Report) -> String {
    let judgement = &report.judgement;
    let counts = &judgement.counts;
    let said = headline(report.overall);
    let target = inert(&report.run.target);
    let mut out = format!("# {} {}: {target}\n\n{}\n\n", said.shape, said.word, said.lead);
    if let Some(early) = ended_early(report) {
        out += &format!("**{}**\n\n", inert(&early));
    }
    let rows = [
        ("findings", found(judgement)),
        ("requirements", Tally::requirements(judgement).words("not applicable")),
        ("cells", Tally::cells(judgement).words("not in plan")),
        (
            "requests",
            format!(
                "{} sent, {} judged, {} unusable",
                grouped(counts.attempted),
                grouped(counts.judged),
                grouped(counts.unusable)
            ),
        ),
        ("canary sightings", grouped(counts.sightings)),
        ("time", duration(report.run.elapsed_ms)),
    ];
    out += "| | |\n|---|---|\n";
    for (name, value) in rows {
        out += &format!("| {name} | {value} |\n");
    }
    out + "\n"
}

fn findings(report: &Report) -> String {
    let causes = report.judgement.causes.len();
    if causes == 0 {
        return String::new();
    }
    let mut out = String::from("## Findings\n\n");
    for (cause, finding) in report.judgement.told().take(FINDINGS_MAX) {
        out += &one(cause, finding);
    }
    if causes > FINDINGS_MAX {
        let more = count(causes - FINDINGS_MAX, "more cause");
        out += &format!("And {more}, in the full report.\n\n");
    }
    out
}

fn one(cause: &Cause, finding: &Finding) -> String {
    let mut out = format!(
        "<details><summary>✗ <b>{}</b> {}</summary>\n\n<code>{}</code>, seen {} by <code>{}</code>; observer {}",
        inert(&finding.id),
        inert(&finding.sentence),
        inert(&finding.requirement),
        times(finding.occurrences),
        finding.oracle.word(),
        inert(&finding.observer),
    );
    if let Some(owner) = &finding.owner {
        out += &format!(", owner {}", inert(owner));
    }
    out += ".\n\n";
    for text in also(cause).into_iter().chain(fewest(finding)) {
        out += &format!("{}.\n\n", inert(&text));
    }
    for witness in &finding.witness {
        out += &witnessed(witness);
    }
    out + "</details>\n\n"
}

pub(super) fn witnessed(witness: &Witness) -> String {
    let status = witness.status.map_or("no answer".into(), |s| format!("status {s}"));
    let mut out = format!(
        "**{}**: <code>{}</code>, {status}, by {}, {}\n\n",
        inert(&witness.part),
        inert(&witness.request),
        inert(&witness.actor),
        inert(&witness.pool_state)
    );
    for shown in &witness.shows {
        out += &format!("- shows {}\n", inert(shown));
    }
    if !witness.shows.is_empty() {
        out += "\n";
    }
    let bodies = [("Request body", &witness.request_body), ("Answer, an excerpt", &witness.body_excerpt)];
    for (name, body) in bodies {
        if let Some(body) = body {
            out += &format!("{name}:\n\n{}", fenced("text", &shortened(body, BODY_MAX)));
        }
    }
    out + &fenced("sh", &witness.curl)
}

fn matrix(report: &Report) -> String {
    let matrix = Matrix::of(&report.judgement);
    if matrix.rows.is_empty() {
        return String::new();
    }
    let roles: Vec<String> = matrix.roles.iter().map(|r| inert(r)).collect();
    let mut out = format!("## Operations × application roles\n\n| operation | {} |\n", roles.join(" | "));
    out += &format!("|---|{}\n", ":-:|".repeat(roles.len()));
    for row in &matrix.rows {
        let squares: Vec<String> = row.squares.iter().map(|s| s.shape().into()).collect();
        out += &format!("| {} | {} |\n", inert(row.operation), squares.join(" | "));
    }
    let legend = Square::ALL.map(|s| format!("{} {}", s.shape(), s.word()));
    out + &format!("\n{}; the worst of relations and pool states.\n\n", legend.join(", "))
}

fn requirements(report: &Report) -> String {
    let mut out =
        String::from("## Requirements\n\n| requirement | verdict | why | judged | controls |\n|---|---|---|--:|--:|\n");
    for requirement in &report.judgement.requirements {
        let why = match &requirement.verdict {
            Verdict::Inconclusive(why) | Verdict::NotApplicable(why) => inert(why),
            Verdict::Violated => inert(&requirement.sentence),
            Verdict::Upheld => String::new(),
        };
        out += &format!(
            "| {} | {} {} | {why} | {} | {} |\n",
            inert(&requirement.requirement),
            Square::of_verdict(&requirement.verdict).shape(),
            requirement.verdict.word(),
            grouped(requirement.judged),
            grouped(requirement.controls)
        );
    }
    out + "\n"
}

fn again(report: &Report) -> String {
    let mut out = format!(
        "## How to reproduce\n\nSeed {}. {SEED_SENTENCE}\n\n{}",
        report.plan.seed,
        fenced("sh", &report.run.reproduce)
    );
    for note in &report.run.notes {
        out += &format!("- {}\n", inert(note));
    }
    out
}

/// Text on one line that neither Markdown nor HTML takes for its own.
pub(super) fn inert(text: &str) -> String {
    let text = line(text);
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '"' | '|' | '`' | '*' | '[' | ']' | '\\' | '~' | '#' | '@' | '!' | '$' | '{' | '}' => {
                out += &format!("&#{};", u32::from(c))
            }
            // Between letters an underline is only that.
            '_' if !before.is_alphanumeric() => out += "&#95;",
            // Links that Markdown would make by itself.
            '/' if before == ':' => out += "&#47;",
            '.' if before.eq_ignore_ascii_case(&'w') => out += "&#46;",
            _ => out.push(c),
        }
        before = c;
    }
    out
}

/// A code block whose fence no line of the text can end.
pub(super) fn fenced(language: &str, text: &str) -> String {
    let text = clean(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{text}\n{fence}\n\n")
}
