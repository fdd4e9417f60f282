//! What a probe of a database concluded: a summary with the matrix for the terminal, JSON for programs, and a folder a
//! finding with its witness and a script for psql.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::replace;
use crate::error::{Error, Result};
use crate::probe::{Act, Command, Ended, Finding, Kind, Record};
use crate::verdict::{CellState, Overall, Verdict};

/// Inconclusive cells that the summary names.
const OPEN_MAX: usize = 12;

/// Writes `report.json`, and a folder for each finding.
///
/// # Errors
/// The folder is not writable.
pub fn write(ended: &Ended) -> Result<()> {
    let file = |dir: &Path, name: &str, text: &str| {
        let path = dir.join(name);
        replace(&path, dir, text).map_err(|e| Error::write(&path, e))
    };
    file(&ended.dir, "report.json", &to_json(ended)?)?;
    for finding in &ended.judgement.findings {
        let dir = ended.dir.join("findings").join(&finding.id);
        std::fs::create_dir_all(&dir).map_err(|e| Error::write(&dir, e))?;
        let record = &ended.records[finding.record];
        file(&dir, "witness.md", &witness(ended, finding, record))?;
        file(&dir, "reproduce.sql", &reproduce(ended, finding, record))?;
    }
    Ok(())
}

/// The whole as JSON.
///
/// # Errors
/// A defect.
pub fn to_json(ended: &Ended) -> Result<String> {
    #[derive(Serialize)]
    struct Report<'a> {
        run: &'a crate::probe::Facts,
        overall: Overall,
        #[serde(flatten)]
        judgement: &'a crate::probe::Judgement,
    }
    let report = Report { run: &ended.facts, overall: ended.judgement.overall(), judgement: &ended.judgement };
    serde_json::to_string_pretty(&report).map(|text| text + "\n").map_err(|e| Error::Defect(e.to_string()))
}

/// What the terminal shows.
pub fn summary(ended: &Ended, quiet: bool) -> String {
    let (judgement, facts) = (&ended.judgement, &ended.facts);
    let word = match judgement.overall() {
        Overall::Upheld => "upheld",
        Overall::Violated => "VIOLATED",
        Overall::Inconclusive => "inconclusive",
    };
    let count = judgement.findings.len();
    let line = format!(
        "{word}: {} as {}, {} trials, {count} finding{}, {:.1} s\n",
        facts.database,
        facts.role,
        judgement.trials,
        if count == 1 { "" } else { "s" },
        facts.elapsed_ms as f64 / 1000.0
    );
    if quiet {
        return line;
    }
    let mut out = String::new();
    out.push_str(&matrix(ended));
    for finding in &judgement.findings {
        let _ =
            writeln!(out, "✗ {} {} ({:?}): {}", finding.id, finding.requirement, finding.severity, finding.sentence);
    }
    let open: Vec<String> = judgement
        .cells
        .iter()
        .filter_map(|cell| match &cell.state {
            CellState::Inconclusive(why) => Some(format!(
                "{} by {}, {}: {why}",
                cell.place.subject,
                cell.place.command.word(),
                cell.place.relation.word()
            )),
            _ => None,
        })
        .chain(judgement.gaps.iter().map(|gap| format!("{}: {}", gap.subject, gap.why)))
        .collect();
    for line in open.iter().take(OPEN_MAX) {
        let _ = writeln!(out, "? {line}");
    }
    if open.len() > OPEN_MAX {
        let _ = writeln!(out, "? and {} more; all are in report.json", open.len() - OPEN_MAX);
    }
    for requirement in &judgement.requirements {
        let why = match &requirement.verdict {
            Verdict::Inconclusive(why) | Verdict::NotApplicable(why) => format!(": {why}"),
            _ => String::new(),
        };
        let _ = writeln!(out, "{:<20} {}{why}", requirement.requirement, requirement.verdict.word());
    }
    let _ = writeln!(
        out,
        "tenant context: {}; mode: {}",
        if facts.context.is_empty() { "none found" } else { &facts.context },
        facts.mode
    );
    for note in &facts.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let _ = writeln!(out, "again: {}\n{}\nreport: {}", facts.reproduce, super::SEED_SENTENCE, ended.dir.display());
    out + &line
}

/// Subjects by commands; a cell stands for its worst relation.
fn matrix(ended: &Ended) -> String {
    let cells = &ended.judgement.cells;
    let commands: Vec<Command> =
        Command::ALL.into_iter().filter(|command| cells.iter().any(|cell| cell.place.command == *command)).collect();
    let mut rows: BTreeMap<&str, BTreeMap<Command, char>> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.kind != Kind::Partition || matches!(cell.state, CellState::Violated)) {
        let mark = match cell.state {
            CellState::Upheld => '✓',
            CellState::Inconclusive(_) => '?',
            CellState::Violated => '✗',
        };
        let kept = rows.entry(&cell.place.subject).or_default().entry(cell.place.command).or_insert(mark);
        if mark == '✗' || (mark == '?' && *kept == '✓') {
            *kept = mark;
        }
    }
    let width = rows.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    let letters: Vec<char> = ('a'..='z').collect();
    let head: Vec<String> =
        commands.iter().enumerate().map(|(n, command)| format!("{} {}", letters[n], command.word())).collect();
    let _ = writeln!(out, "{}", head.join(", "));
    let _ = writeln!(
        out,
        "{:width$}  {}",
        "",
        letters.iter().take(commands.len()).map(|l| format!("{l} ")).collect::<String>()
    );
    for (name, marks) in rows {
        let line: String = commands.iter().map(|command| format!("{} ", marks.get(command).unwrap_or(&'·'))).collect();
        let _ = writeln!(out, "{name:width$}  {}", line.trim_end());
    }
    let _ = writeln!(out, "✓ held  ✗ violated  ? no control  · nothing to try\n");
    out
}

fn witness(ended: &Ended, finding: &Finding, record: &Record) -> String {
    let mut out = format!("# {} {}\n\n{}.\n\n", finding.id, finding.requirement, finding.sentence);
    let requirement = ended.judgement.requirements.iter().find(|r| r.requirement == finding.requirement);
    if let Some(requirement) = requirement {
        let _ = writeln!(out, "> {}\n", requirement.sentence);
    }
    let cells: BTreeSet<String> =
        finding.cells.iter().map(|(command, relation)| format!("{} ({})", command.word(), relation.word())).collect();
    let _ = writeln!(
        out,
        "Seen {} times on {} {}, as {}, by: {}.\n\nThe shortest trial that shows it, \"{}\":\n",
        finding.occurrences,
        finding.kind.word(),
        finding.subject,
        ended.facts.role,
        cells.into_iter().collect::<Vec<_>>().join(", "),
        record.trial.what
    );
    for (number, (_, act)) in record.trial.acts.iter().enumerate() {
        let _ = writeln!(out, "{}. `{}`", number + 1, act.to_string().replace('`', "'"));
        for outcome in record.outcomes.iter().filter(|outcome| outcome.act == number) {
            if let (Some(code), Some(message)) = (&outcome.sqlstate, &outcome.message) {
                let _ = writeln!(out, "   - refused: {message} ({code})");
            } else if !matches!(act, Act::Look) {
                let _ = writeln!(out, "   - {} rows told, {} touched", outcome.rows, outcome.affected);
            }
            for (tenant, rows) in &outcome.of {
                let _ = writeln!(out, "   - rows of tenant {tenant}: {rows}");
            }
            if outcome.of_others > 0 {
                let _ = writeln!(out, "   - rows of other tenants: {}", outcome.of_others);
            }
            for change in &outcome.changes {
                let _ = writeln!(
                    out,
                    "   - tenant {} in {}: {} rows before, {} after",
                    change.tenant, change.table, change.before, change.after
                );
            }
            for row in &outcome.excerpt {
                let _ = writeln!(out, "   - `{}`", row.replace('`', "'").replace('\n', " "));
            }
        }
    }
    out + "\n`reproduce.sql` does it again with psql.\n"
}

/// A script that plants and does the acts in one session of a role that bypasses row security, and keeps nothing.
fn reproduce(ended: &Ended, finding: &Finding, record: &Record) -> String {
    let mut out = format!(
        "-- {}: {}\n-- {}.\n-- psql $DATABASE_URL -f reproduce.sql, as a superuser, on a copy of the database; look for {}.\n\\set ON_ERROR_STOP off\n",
        finding.id,
        finding.requirement,
        finding.sentence,
        if record.trial.acts.iter().any(|(_, act)| *act == Act::Look) {
            "what the last SELECTs show of the other's rows"
        } else {
            "rows of the other tenant"
        }
    );
    let commits = record.trial.commits();
    out.push_str(if commits { "-- It commits: run it on a copy.\n" } else { "" });
    if !commits {
        out.push_str("BEGIN;\n");
    }
    for (_, statement) in &ended.planted {
        let _ = writeln!(out, "{statement};");
    }
    let role = crate::target::copy::quoted(&ended.facts.role);
    for (_, act) in &record.trial.acts {
        let line = match act {
            Act::Begin if commits => format!("BEGIN; SET LOCAL SESSION AUTHORIZATION {role};"),
            Act::Begin => format!("SAVEPOINT trial; SET LOCAL SESSION AUTHORIZATION {role};"),
            Act::Rollback if commits => "ROLLBACK;".into(),
            Act::Rollback => "ROLLBACK TO SAVEPOINT trial;".into(),
            Act::Commit => "COMMIT;".into(),
            Act::Savepoint => "SAVEPOINT a;".into(),
            Act::RollBackTo => "ROLLBACK TO SAVEPOINT a;".into(),
            Act::Bind(context) => format!("{};", ended.bound(context)),
            Act::Become(other) => format!("SET LOCAL ROLE {};", crate::target::copy::quoted(other)),
            Act::Run(sql) | Act::CopyOut(sql, _) => format!("{sql};"),
            Act::CopyIn(sql, lines) => format!("{sql};\n{lines}\\."),
            Act::Privileged(sql) => {
                format!("SET LOCAL SESSION AUTHORIZATION DEFAULT; {sql}; SET LOCAL SESSION AUTHORIZATION {role};")
            }
            Act::Look => format!(
                "SET LOCAL SESSION AUTHORIZATION DEFAULT;\nTABLE {};",
                finding.subject.split('.').map(crate::target::copy::quoted).collect::<Vec<_>>().join(".")
            ),
        };
        let _ = writeln!(out, "{line}");
    }
    if !commits {
        out.push_str("ROLLBACK;\n");
    }
    out
}
