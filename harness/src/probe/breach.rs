//! What one trial shows that it should not: rows, changes and answers that are another's.

use super::judge::Record;
use super::outcome::{Change, Outcome};
use super::subject::Kind;
use super::trial::{Act, Answered, Command, Expect, Relation, Trial};
use crate::finding::OracleId;

/// A violation in one trial.
pub struct Breach {
    /// The requirement violated.
    pub requirement: &'static str,
    /// Who saw it.
    pub oracle: OracleId,
    /// What happened.
    pub sentence: String,
}

/// True where a record shows a violation on its own.
pub fn shows(record: &Record) -> bool {
    !breaches(&record.trial, &record.outcomes).is_empty()
}

/// The requirement that stands for what was read, by how the caller stood to it.
pub fn of_reading(trial: &Trial) -> &'static str {
    match (trial.command, trial.relation) {
        (Command::SetRole, _) => "sql/role",
        (Command::Call, Relation::Switched) => "sql/left",
        (Command::Call, _) => "sql/function",
        (_, Relation::None | Relation::Empty | Relation::Malformed) => "sql/unbound",
        (_, Relation::Switched) => "sql/switched",
        _ => "sql/read",
    }
}

/// What outcomes of one trial show.
pub fn breaches(trial: &Trial, outcomes: &[Outcome]) -> Vec<Breach> {
    let bound = trial.bound();
    let mut found = Vec::new();
    let subject = &trial.subject;
    for outcome in outcomes {
        let caller = bound.get(outcome.act).copied().flatten();
        let who = || caller.map_or_else(|| unbound(trial).to_string(), |caller| format!("tenant {caller}"));
        let foreign: u64 = outcome.of.iter().filter(|(tenant, _)| Some(**tenant) != caller).map(|(_, rows)| rows).sum();
        // What is left on a connection is its last tenant's alone; what is everybody's was not left.
        let left = trial.command != Command::Call || trial.relation != Relation::Switched;
        if foreign + outcome.of_others > 0 && (left || (outcome.of.len() == 1 && outcome.of_others == 0)) {
            let tenants: Vec<String> =
                outcome.of.keys().filter(|t| Some(**t) != caller).map(|t| format!("tenant {t}")).collect();
            let mut whose = tenants.join(", ");
            if outcome.of_others > 0 {
                whose = if whose.is_empty() { "other tenants".into() } else { format!("{whose} and others") };
            }
            let rows = foreign + outcome.of_others;
            found.push(Breach {
                requirement: of_reading(trial),
                oracle: OracleId::CanarySighting,
                sentence: format!(
                    "{} of {subject} showed {} {rows} row{} of {whose}",
                    verb(trial),
                    who(),
                    plural(rows)
                ),
            });
        }
        if left && outcome.error_of.iter().any(|tenant| Some(*tenant) != caller) {
            found.push(Breach {
                requirement: "sql/error",
                oracle: OracleId::CanarySighting,
                sentence: format!(
                    "an error of {} on {subject} showed {} a value of another tenant",
                    verb(trial),
                    who()
                ),
            });
        }
        // Where all that is bound changes something, what stands at a look has come of all of it.
        let rightful = match trial.command {
            Command::Generated => trial.bound_before(outcome.act),
            _ => caller.into_iter().collect(),
        };
        // A summary that is written anew for everybody, and says what it said, is no change: the subject itself is not one.
        let itself =
            |table: &str| matches!(trial.kind, Kind::View | Kind::Partition | Kind::Foreign) || table == trial.subject;
        let counts = |change: &&Change| !change.rewritten || itself(&change.table);
        for change in outcome.changes.iter().filter(|change| !rightful.contains(&change.tenant)).filter(counts) {
            let (requirement, did) = match change.after - change.before {
                more if more > 0 => (
                    "sql/misattribution",
                    format!(
                        "put {more} row{} under the name of tenant {} in {}",
                        plural(more as u64),
                        change.tenant,
                        change.table
                    ),
                ),
                less if less < 0 => (
                    "sql/change",
                    format!(
                        "took {} row{} of tenant {} from {}",
                        -less,
                        plural(-less as u64),
                        change.tenant,
                        change.table
                    ),
                ),
                _ => ("sql/change", format!("changed rows of tenant {} in {}", change.tenant, change.table)),
            };
            let requirement = match trial.relation {
                Relation::None | Relation::Empty | Relation::Malformed => "sql/unbound",
                Relation::Switched => "sql/switched",
                _ if trial.command == Command::Call => "sql/function",
                _ => requirement,
            };
            let sentence = format!("{} on {subject}, by {}, {did}", verb(trial), who());
            found.push(Breach { requirement, oracle: OracleId::WriteContainment, sentence });
        }
    }
    match &trial.expect {
        Expect::Refused if done(trial, outcomes) => found.push(refused(trial)),
        Expect::Unmoved => {
            let digests: Vec<&str> =
                outcomes.iter().filter(|o| o.succeeded() && o.changes.is_empty()).map(|o| o.digest.as_str()).collect();
            if let [first, again, after] = digests[..]
                && first == again
                && first != after
            {
                found.push(Breach {
                    requirement: "sql/influence",
                    oracle: OracleId::Noninterference,
                    sentence: format!("what {subject} answers one tenant depends on rows of another"),
                });
            }
        }
        _ => {}
    }
    found
}

fn refused(trial: &Trial) -> Breach {
    let subject = &trial.subject;
    let (requirement, sentence) = match trial.command {
        Command::LastValue => ("sql/sequence", format!("{subject} tells every tenant how much all of them write")),
        Command::Setval => ("sql/sequence", format!("{subject} can be set by one tenant for all")),
        _ => ("sql/link", format!("a row of one tenant in {subject} points at a row of another ({})", trial.group)),
    };
    Breach { requirement, oracle: OracleId::ExistenceSignal, sentence }
}

/// True where the last statement succeeded, and did something.
fn done(trial: &Trial, outcomes: &[Outcome]) -> bool {
    outcomes.last().is_some_and(|last| {
        let run = matches!(trial.acts.get(last.act), Some((_, Act::Run(_) | Act::CopyOut(..) | Act::CopyIn(..))));
        run && last.succeeded() && (last.affected > 0 || last.rows > 0)
    })
}

fn unbound(trial: &Trial) -> &'static str {
    match trial.relation {
        Relation::Empty => "somebody with an empty context",
        Relation::Malformed => "somebody whose context names no tenant",
        _ => "somebody without a tenant",
    }
}

fn verb(trial: &Trial) -> String {
    match trial.command {
        Command::Call => "a call".into(),
        Command::SelectBy => "a function in the condition".into(),
        command => command.word().to_string(),
    }
}

fn plural(rows: u64) -> &'static str {
    if rows == 1 { "" } else { "s" }
}

/// The breach of answers that are not alike, told by the one with the foreign value.
pub fn unlike(records: &[Record], record: &Record) -> Option<Breach> {
    let trial = &record.trial;
    if trial.expect != Expect::Alike(Answered::Foreign) {
        return None;
    }
    let absent = records.iter().find(|r| {
        r.trial.subject == trial.subject
            && r.trial.group == trial.group
            && r.trial.expect == Expect::Alike(Answered::Absent)
    })?;
    let (foreign, absent) = (record.outcomes.last()?, absent.outcomes.last()?);
    if foreign.answer() == absent.answer() {
        return None;
    }
    let sentence = format!(
        "{} answers {} to a value that another tenant has and {} to one that nobody has ({})",
        trial.subject,
        foreign.answer(),
        absent.answer(),
        trial.group
    );
    Some(Breach { requirement: "sql/existence", oracle: OracleId::ExistenceSignal, sentence })
}
