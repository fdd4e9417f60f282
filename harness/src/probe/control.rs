//! The control beside a probe: what a tenant's own trial showed.

use super::judge::Record;
use super::outcome::Outcome;
use super::trial::{Act, Command};

/// What an own trial showed.
#[derive(Clone, Debug)]
pub enum Control {
    /// It saw or did what is its own.
    Held,
    /// Postgres or the grants refuse it to everybody: there is nothing to hold.
    Closed,
    /// Its owner is not let do it, or finds nothing there.
    Refused(String),
    /// It failed in another way.
    Failed(String),
}

/// What `record`, an own trial, showed.
pub fn control(record: &Record) -> Control {
    let trial = &record.trial;
    let bound = trial.bound();
    let run = |outcome: &&Outcome| !matches!(trial.acts.get(outcome.act), Some((_, Act::Look)));
    let Some(last) = record.outcomes.iter().rfind(run) else { return Control::Failed("it was not answered".into()) };
    let caller = bound.get(last.act).copied().flatten();
    if let (Some(code), message) = (&last.sqlstate, last.message.as_deref().unwrap_or_default()) {
        let closed = match (trial.command, code.as_str()) {
            // COPY FROM is not to be had under row security, and what has no unique index has no conflict.
            (Command::Lock, "42501") | (Command::SelectForUpdate, "25006") => true,
            (
                Command::CopyFrom
                | Command::SelectForUpdate
                | Command::Merge
                | Command::OnConflict
                | Command::CopyTo
                | Command::Update
                | Command::Insert
                | Command::Delete,
                "0A000" | "42P10" | "55000" | "42809" | "428C9",
            ) => true,
            _ => false,
        };
        let why = format!("{message} ({code})");
        return match code.as_str() {
            _ if closed => Control::Closed,
            "42501" => Control::Refused(why),
            _ => Control::Failed(why),
        };
    }
    let own = caller.and_then(|caller| last.of.get(&caller)).copied().unwrap_or_default();
    let answered = last.rows > 0 || last.affected > 0;
    let plain = last.of.is_empty() && last.of_others == 0;
    let held = match trial.command {
        Command::Explain | Command::Lock | Command::Nextval | Command::Call => true,
        // What nobody owns has nothing of anybody's own.
        _ if !trial.owned && trial.kind.is_table() => true,
        Command::Select if trial.kind.is_table() => own > 0,
        Command::Select | Command::Cursor | Command::Prepared | Command::CopyTo | Command::SelectForUpdate => {
            own > 0 || (plain && answered)
        }
        Command::SelectBy => own > 0 || answered,
        _ => last.affected > 0,
    };
    if held { Control::Held } else { Control::Refused("it succeeds and finds nothing of its own".into()) }
}
