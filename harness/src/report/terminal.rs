//! The terminal: progress while it runs, then the verdict, a matrix and the findings, short.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub use super::summary::summary;
use super::summary::verdict_line;
use super::text::{count, line};
use crate::event::Event;
use crate::verdict::Report;

/// How often a progress line is written where no bar can be drawn.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

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
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    /// When the stage began: a rate is a stage's, not the run's.
    began: Mutex<Instant>,
    said: Mutex<Option<Instant>>,
}

impl Terminal {
    /// A terminal.
    pub fn new(options: TerminalOptions) -> Self {
        let drawn = !options.quiet && std::io::stderr().is_terminal();
        Self { options, bar: drawn.then(bar), began: Mutex::new(Instant::now()), said: Mutex::new(None) }
    }

    /// Shows one event.
    pub fn handle(&self, event: Event) {
        if self.options.quiet {
            return;
        }
        match event {
            Event::Stage(stage) => self.stage(stage),
            Event::Note(text) => self.say(&format!("note: {}", line(&text))),
            Event::Planned(text) => self.say(&format!("plan: {}", line(&text))),
            Event::Found(text) => self.say(&format!("✗ {}", line(&text))),
            Event::Progress { done, planned, findings } => self.progress(done, planned, findings),
        }
    }

    /// Takes the bar away and shows the summary.
    pub fn finish(&self, report: &Report, dir: &Path) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let text = match self.options.quiet {
            true => verdict_line(report) + "\n",
            false => summary(report, dir, self.options.color),
        };
        // The reader may have gone, as `head` does; the files are written all the same.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }

    fn stage(&self, stage: &'static str) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        match &self.bar {
            Some(bar) => {
                bar.reset_elapsed();
                bar.set_prefix(stage);
            }
            None => self.say(stage),
        }
    }

    fn progress(&self, done: u64, planned: u64, findings: u64) {
        let found = count(usize::try_from(findings).unwrap_or(usize::MAX), "finding");
        match &self.bar {
            Some(bar) => {
                bar.set_length(planned.max(done));
                bar.set_position(done);
                bar.set_message(found);
            }
            None if self.is_due() => {
                let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
                let rate = done as f64 / began.elapsed().as_secs_f64().max(0.001);
                self.say(&format!("{done}/{planned} requests, {rate:.0}/s, {found}"));
            }
            None => {}
        }
    }

    /// Whether a plain line of progress is due, and if so, from when the next one counts.
    fn is_due(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said.is_none_or(|at| at.elapsed() >= PLAIN_EVERY);
        if due {
            *said = Some(Instant::now());
        }
        due
    }

    fn say(&self, text: &str) {
        let write = || {
            // Nobody listens to a closed standard error.
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let style = "{spinner} {prefix} {wide_bar} {pos}/{len} requests, {per_sec}, {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message("0 findings");
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
