//! Trials of what keys answer: a value that is another tenant's beside one that is nobody's. Values that nobody can guess
//! tell nothing that was not known before, and keys that the database draws have no meaning: both are left out.

use std::collections::BTreeMap;

use super::cast::Cast;
use super::ground::Row;
use super::subject::{Column, Reference, Subject, Unique, literal};
use super::trial::{Act, Answered, Command, Expect, Lane, Relation, Trial};

/// The trials of the subject's keys, exclusions and foreign keys.
pub fn keys(cast: &Cast<'_>, subjects: &[Subject]) -> Vec<Trial> {
    let subject = cast.subject;
    if !subject.owned || !subject.kind.is_table() || !subject.rights.usage {
        return Vec::new();
    }
    let mut trials = Vec::new();
    for unique in subject.uniques.iter().filter(|unique| tells(subject, unique, subjects)) {
        trials.extend(unique_answers(cast, unique));
    }
    for reference in subject.references.iter().filter(|reference| crosses(subject, reference, subjects)) {
        trials.extend(reference_answers(cast, reference));
    }
    let bound = |name: &String| {
        subject.tenant.as_ref() == Some(name) || subject.references.iter().any(|r| r.columns.contains(name))
    };
    for column in subject.columns.iter().filter(|column| guessable(column) && !bound(&column.name)) {
        trials.extend(lookup_answers(cast, column));
    }
    trials
}

/// Neither dealt out by the database nor beyond guessing.
fn guessable(column: &Column) -> bool {
    column.base != "uuid" && !column.has_default && !column.generated && !column.always
}

/// What a trigger, a policy or a condition answers that looks a value up among all tenants: to one of the other's, and to one
/// that the other might have.
fn lookup_answers(cast: &Cast<'_>, column: &Column) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    let value = |row: Option<&Row>| row.and_then(|row| row.values.get(&column.name).cloned().flatten());
    let (Some(taken), Some(free)) = (value(cast.row(cast.victim)), value(cast.spare(cast.victim))) else {
        return trials;
    };
    let telling = |value: &str| !cast.ground.sightings(value).is_empty();
    let had = cast.ground.rows.iter().any(|row| value(Some(row)).as_ref() == Some(&free));
    if had || !telling(&taken) || !telling(&free) {
        return trials;
    }
    let given = |row: &&Row| row.given.iter().any(|(name, _)| *name == column.name);
    if let (true, true, Some(mine)) = (column.may_insert, subject.rights.insert, cast.spare(cast.caller).filter(given))
    {
        let insert = |value: &String| cast.insert(mine, &BTreeMap::from([(column.name.clone(), Some(value.clone()))]));
        trials.extend(answers(cast, &format!("insert, {} looked up", column.name), insert(&taken), insert(&free)));
    }
    if let (true, Some(row), true) = (column.may_update, cast.row(cast.caller), cast.can_name()) {
        let update = |value: &String| {
            let set = format!("{} = {}::{}", column.sql(), literal(value), column.kind);
            Some(format!("UPDATE {} SET {set} WHERE {}", subject.sql(), cast.at(row)))
        };
        trials.extend(answers(cast, &format!("update, {} looked up", column.name), update(&taken), update(&free)));
    }
    trials
}

/// True for a key over all tenants whose values somebody may guess.
fn tells(subject: &Subject, unique: &Unique, subjects: &[Subject]) -> bool {
    // Below another tenant's parent nobody comes, or the parent's own key says so.
    let below = |name: &String| {
        subject.references.iter().any(|reference| {
            reference.columns.contains(name) && subjects.iter().any(|s| s.oid == reference.target && s.owned)
        })
    };
    let walled = subject.tenant.as_ref().is_some_and(|tenant| unique.columns.contains(tenant));
    let columns: Vec<&Column> = unique.columns.iter().filter_map(|name| subject.column(name)).collect();
    !walled && !columns.is_empty() && columns.iter().all(|c| guessable(c)) && !unique.columns.iter().any(below)
}

/// True for a foreign key to what tenants own, whose columns leave the tenant out.
fn crosses(subject: &Subject, reference: &Reference, subjects: &[Subject]) -> bool {
    let Some(target) = subjects.iter().find(|s| s.oid == reference.target) else { return false };
    let walled = subject.tenant.as_ref().is_some_and(|tenant| reference.columns.contains(tenant));
    // A partition has its parent's foreign keys, and is tried through the parent's.
    target.owned && !walled && !target.is_root() && subject.parent.is_none()
}

fn unique_answers(cast: &Cast<'_>, unique: &Unique) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    let (Some(mine), Some(theirs)) = (cast.spare(cast.caller), cast.row(cast.victim)) else { return trials };
    let taken: BTreeMap<String, Option<String>> =
        unique.columns.iter().filter_map(|name| Some((name.clone(), theirs.values.get(name)?.clone()))).collect();
    if taken.values().any(Option::is_none) {
        return trials;
    }
    let may = |test: fn(&Column) -> bool| unique.columns.iter().all(|name| subject.column(name).is_some_and(test));
    if may(|column| column.may_insert) && subject.rights.insert {
        let absent = cast.insert(mine, &BTreeMap::new());
        let foreign = cast.insert(mine, &taken);
        trials.extend(answers(cast, &format!("insert, {}", unique.name), foreign, absent));
    }
    if let (true, Some(row), true) = (may(|column| column.may_update), cast.row(cast.caller), cast.can_name()) {
        let update = |from: &dyn Fn(&str) -> Option<String>| {
            let set: Option<Vec<String>> = unique
                .columns
                .iter()
                .map(|name| {
                    let column = subject.column(name)?;
                    Some(format!("{} = {}::{}", column.sql(), literal(&from(name)?), column.kind))
                })
                .collect();
            Some(format!("UPDATE {} SET {} WHERE {}", subject.sql(), set?.join(", "), cast.at(row)))
        };
        let foreign = update(&|name| taken.get(name).cloned().flatten());
        let absent = update(&|name| mine.given.iter().find(|(given, _)| given == name)?.1.clone());
        trials.extend(answers(cast, &format!("update, {}", unique.name), foreign, absent));
    }
    trials
}

/// A foreign key's answers: to another tenant's row, and to none at all.
fn reference_answers(cast: &Cast<'_>, reference: &Reference) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    let (Some(mine), Some(theirs)) = (cast.spare(cast.caller), cast.spare(cast.victim)) else { return trials };
    let value = |row: &Row, name: &String| {
        row.given.iter().find(|(given, _)| given == name).and_then(|(_, value)| value.clone())
    };
    let foreign: BTreeMap<String, Option<String>> =
        reference.columns.iter().map(|name| (name.clone(), value(theirs, name))).collect();
    if foreign.values().any(Option::is_none) {
        return trials;
    }
    let nobody: BTreeMap<String, Option<String>> = reference
        .columns
        .iter()
        .filter_map(|name| Some((name.clone(), Some(nobodys(subject.column(name)?, foreign[name].as_deref()?)))))
        .collect();
    let may = |test: fn(&Column) -> bool| reference.columns.iter().all(|name| subject.column(name).is_some_and(test));
    let made = |group: String, own: Option<String>, foreign: Option<String>, absent: Option<String>| {
        let mut all = answers(cast, &group, foreign.clone(), absent);
        if let (Some(own), Some(foreign)) = (own, foreign) {
            all.push(control(cast, &group, own));
            // A row below another tenant's parent is more than a sign.
            let acts =
                cast.trial(Command::Constraint, Relation::Foreign, "point at the other's row", vec![Act::Run(foreign)]);
            all.push(Trial { expect: Expect::Refused, group, ..acts });
        }
        all
    };
    if may(|column| column.may_insert) && subject.rights.insert {
        let own = cast.insert(mine, &BTreeMap::new());
        let (foreign, absent) = (cast.insert(mine, &foreign), cast.insert(mine, &nobody));
        trials.extend(made(format!("insert, {}", reference.name), own, foreign, absent));
    }
    if let (true, Some(row), true) = (may(|column| column.may_update), cast.row(cast.caller), cast.can_name()) {
        let update = |values: &BTreeMap<String, Option<String>>| {
            let set = values.iter().filter_map(|(name, value)| {
                let column = subject.column(name)?;
                Some(format!("{} = {}::{}", column.sql(), literal(value.as_deref()?), column.kind))
            });
            let set: Vec<String> = set.collect();
            (!set.is_empty()).then(|| format!("UPDATE {} SET {} WHERE {}", subject.sql(), set.join(", "), cast.at(row)))
        };
        let own: BTreeMap<String, Option<String>> =
            reference.columns.iter().map(|name| (name.clone(), value(mine, name))).collect();
        trials.extend(made(format!("update, {}", reference.name), update(&own), update(&foreign), update(&nobody)));
    }
    trials
}

/// A value like `value` that nobody has.
fn nobodys(column: &Column, value: &str) -> String {
    match column.base.as_str() {
        "uuid" => "99999999-9999-4999-8999-999999999999".into(),
        "smallint" => "32001".into(),
        "integer" => "2147000001".into(),
        "bigint" | "numeric" => "9000000000000000001".into(),
        _ => value.chars().rev().collect::<String>() + "x",
    }
}

/// The two answers that are to be alike, and for the control that without the foreign value it succeeds.
fn answers(cast: &Cast<'_>, group: &str, foreign: Option<String>, absent: Option<String>) -> Vec<Trial> {
    let (Some(foreign), Some(absent)) = (foreign, absent) else { return Vec::new() };
    let one = |sql: String, relation: Relation, answered: Answered, what: &str| Trial {
        expect: Expect::Alike(answered),
        group: group.into(),
        ..cast.trial(Command::Constraint, relation, what, vec![Act::Run(sql)])
    };
    vec![
        one(foreign, Relation::Foreign, Answered::Foreign, "a value that the other has"),
        one(absent, Relation::Foreign, Answered::Absent, "a value that nobody has"),
    ]
}

fn control(cast: &Cast<'_>, group: &str, sql: String) -> Trial {
    let trial = cast.trial(Command::Constraint, Relation::Own, "point at its own row", vec![Act::Run(sql)]);
    Trial { group: group.into(), ..trial }
}

/// The trials of a sequence: what it tells of how much others write, and who may move it.
pub fn sequence(cast: &Cast<'_>, may_keep: bool) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    if !subject.rights.usage {
        return trials;
    }
    let name = literal(&subject.sql());
    if subject.rights.select {
        let read = || Act::Run(format!("SELECT last_value FROM {}", subject.sql()));
        let trial =
            cast.trial(Command::LastValue, Relation::Foreign, "how far it has counted for everybody", vec![read()]);
        trials.push(Trial { expect: Expect::Refused, ..trial });
    }
    // What a sequence has given is not taken back with the transaction.
    if subject.rights.update && may_keep {
        let set = Act::Run(format!("SELECT setval({name}, 1000000, true)"));
        let trial = cast.trial(Command::Setval, Relation::Foreign, "set it for everybody", vec![set]);
        trials.push(Trial { expect: Expect::Refused, ..trial });
    }
    if (subject.rights.insert || subject.rights.update) && may_keep {
        let next = Act::Run(format!("SELECT nextval({name})"));
        trials.push(cast.made(
            Command::Nextval,
            Relation::Own,
            "draw a number",
            [Act::Begin, next, Act::Rollback].map(|act| (Lane::First, act)).to_vec(),
            Expect::Own,
        ));
    }
    trials
}
