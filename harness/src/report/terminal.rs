//! The terminal: progress while it runs, then a matrix and the findings, short.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::SEED_SENTENCE;
use super::matrix::{Matrix, Square};
use crate::event::Event;
use crate::verdict::{CellState, Overall, Report, Verdict};

/// Findings shown; the page has all.
const FINDINGS_MAX: usize = 5;

/// How the terminal is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct TerminalOptions {
    /// Say nothing but the verdict.
    pub quiet: bool,
    /// Use colours.
    pub color: bool,
}

/// Draws events on standard error, the summary on standard output.
pub struct Terminal {
    options: TerminalOptions,
    bar: ProgressBar,
}

impl Terminal {
    /// A terminal.
    pub fn new(options: TerminalOptions) -> Self {
        let drawn = !options.quiet && std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            None,
            if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {pos}/{len} requests, {per_sec}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { options, bar }
    }

    /// Shows one event.
    pub fn handle(&self, event: Event) {
        if self.options.quiet {
            return;
        }
        match event {
            Event::Stage(stage) => self.bar.set_message(stage),
            Event::Note(text) => self.line(&format!("note: {text}")),
            Event::Planned(text) => self.line(&format!("plan: {text}")),
            Event::Found(text) => self.line(&format!("found: {text}")),
            Event::Progress { done, planned, .. } => {
                self.bar.set_length(planned);
                self.bar.set_position(done);
            }
        }
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Shows the summary.
    pub fn finish(&self, report: &Report, dir: &Path) {
        self.bar.finish_and_clear();
        if self.options.quiet {
            println!("{}", verdict_line(report));
        } else {
            print!("{}", summary(report, dir, self.options.color));
        }
    }
}

fn verdict_line(report: &Report) -> String {
    let what = match report.overall {
        Overall::Upheld => "UPHELD: every selected requirement, nothing left out",
        Overall::Violated => "VIOLATED: the wall has a hole",
        Overall::Inconclusive => "INCONCLUSIVE: nothing violated, but not everything shown",
    };
    match &report.run.stopped_because {
        _ if report.run.interrupted => format!("{what} (interrupted)"),
        Some(_) => format!("{what} (stopped early)"),
        None => what.into(),
    }
}

/// The summary as text.
pub fn summary(report: &Report, dir: &Path, color: bool) -> String {
    let paint = |code: &str, text: &str| if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() };
    let mut out = String::new();
    let judgement = &report.judgement;
    let matrix = Matrix::of(judgement);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n{:24} {}", "", matrix.roles.join(" "));
    for row in &matrix.rows {
        let squares = row.squares.iter().zip(&matrix.roles).map(|(square, role)| {
            let code = match square {
                Square::Upheld => "32",
                Square::Violated => "31;1",
                Square::Inconclusive => "33",
                Square::Absent => "2",
            };
            format!("{}{}", paint(code, &square.shape().to_string()), " ".repeat(role.len().saturating_sub(1)))
        });
        let _ = writeln!(out, "{:24} {}", row.operation, squares.collect::<Vec<_>>().join(" ").trim_end());
    }
    for finding in judgement.findings.iter().take(FINDINGS_MAX) {
        let _ = writeln!(out, "\n{} {}", paint("31;1", &finding.id), finding.sentence);
        let times = finding.occurrences;
        let _ = writeln!(out, "   {} by {}, seen {times} times", finding.requirement, finding.oracle.word());
        if let Some(probe) = finding.witness.first() {
            let _ = writeln!(out, "   {}", probe.request);
            for shown in probe.shows.iter().take(2) {
                let _ = writeln!(out, "   shows {shown}");
            }
            let _ = writeln!(out, "   {}", probe.curl);
        }
    }
    if judgement.findings.len() > FINDINGS_MAX {
        let _ = writeln!(out, "\n{} more findings are in the report", judgement.findings.len() - FINDINGS_MAX);
    }
    let wanting: Vec<String> = judgement
        .requirements
        .iter()
        .filter_map(|r| match &r.verdict {
            Verdict::Inconclusive(why) => Some(format!("? {:22} {why}", r.requirement)),
            Verdict::NotApplicable(why) => Some(format!("· {:22} not applicable: {why}", r.requirement)),
            _ => None,
        })
        .collect();
    if !wanting.is_empty() {
        let _ = writeln!(out, "\n{}", wanting.join("\n"));
    }
    let upheld = judgement.cells.iter().filter(|c| c.state == CellState::Upheld).count();
    let counts = &judgement.counts;
    let _ = writeln!(
        out,
        "\n{} requests, {} judged, {} unusable; {} canary sightings in {} KiB; {upheld} of {} cells upheld; {:.1} s",
        counts.attempted,
        counts.judged,
        counts.unusable,
        counts.sightings,
        counts.bytes_scanned / 1024,
        judgement.cells.len(),
        report.run.elapsed_ms as f64 / 1000.0
    );
    let _ = writeln!(out, "seed {}. {SEED_SENTENCE}", report.plan.seed);
    let code = match report.overall {
        Overall::Upheld => "32;1",
        Overall::Violated => "31;1",
        Overall::Inconclusive => "33;1",
    };
    let _ = writeln!(out, "{}", paint(code, &verdict_line(report)));
    let _ = writeln!(out, "report {}", dir.join("report.html").display());
    out
}
