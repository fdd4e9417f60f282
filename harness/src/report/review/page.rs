//! `guard.html`: what each database role of the application can do to each relation, and the findings.

use askama::Template;

use crate::guard::Report;
use crate::guard::reach::{COMMANDS, Matrix, Reach};

const STYLE: &str = include_str!("../../../templates/report.css");

#[derive(Template)]
#[template(path = "guard.html")]
struct Page<'r> {
    report: &'r Report,
    matrix: &'r Matrix,
    style: &'static str,
}

impl Page<'_> {
    fn commands(&self) -> [&'static str; 5] {
        COMMANDS.map(|command| command.word())
    }

    fn legend(&self) -> [Reach; 4] {
        Reach::ALL
    }

    fn class(&self, reach: &Reach) -> &'static str {
        match reach {
            Reach::Nothing => "absent",
            Reach::Own => "upheld",
            Reach::Undecided => "inconclusive",
            Reach::Others => "violated",
        }
    }
}

/// `guard.html`. It loads nothing and runs no script.
///
/// # Panics
/// Never: the template is written to memory.
pub(super) fn to_html(report: &Report, matrix: &Matrix) -> String {
    Page { report, matrix, style: STYLE }.render().expect("a template written to memory")
}
