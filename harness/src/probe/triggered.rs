//! Trials of what comes of a row beyond the row: what a trigger makes of one that speaks of another tenant, and what the next
//! who comes finds in a table of nobody's.

use std::collections::BTreeMap;

use super::cast::Cast;
use super::filling::document;
use super::subject::{Column, Subject, literal};
use super::trial::{Act, Command, Context, Relation, Trial};
use super::value::literals;

/// Marks between the parts of a text that are tried at most.
const MARKS_MAX: usize = 4;

/// A row of one's own that speaks of the other in each column where a trigger may look for a tenant.
pub fn triggered(cast: &Cast<'_>) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    let bound = |column: &&Column| {
        subject.tenant.as_ref() == Some(&column.name)
            || subject.references.iter().any(|reference| reference.columns.contains(&column.name))
    };
    if subject.happens.is_empty() || !subject.rights.usage {
        return trials;
    }
    let what = "a row of its own that speaks of the other";
    for column in subject.columns.iter().filter(|column| !bound(column) && !column.generated) {
        for spoken in speaking(cast, column) {
            let changed = BTreeMap::from([(column.name.clone(), Some(spoken.clone()))]);
            let mine = cast.spare(cast.caller).filter(|row| row.given.iter().any(|(name, _)| *name == column.name));
            if let (true, Some(sql)) = (subject.rights.insert, mine.and_then(|row| cast.insert(row, &changed))) {
                trials.push(cast.trial(Command::Insert, Relation::Foreign, what, vec![Act::Run(sql), Act::Look]));
            }
            if let (true, true, Some(row)) = (column.may_update, cast.can_name(), cast.row(cast.caller)) {
                let set = format!("{} = {}::{}", column.sql(), literal(&spoken), column.kind);
                let sql = format!("UPDATE {} SET {set} WHERE {}", subject.sql(), cast.at(row));
                trials.push(cast.trial(Command::Update, Relation::Foreign, what, vec![Act::Run(sql), Act::Look]));
            }
        }
    }
    trials
}

/// Values of `column` in which a trigger of the table might find the other tenant's id.
fn speaking(cast: &Cast<'_>, column: &Column) -> Vec<String> {
    let (id, own) = (&cast.ground.tenants[cast.victim].id, &cast.ground.tenants[cast.caller].id);
    match column.base.split('(').next().unwrap_or_default() {
        "json" | "jsonb" => {
            let looked_for = Subject { policies: cast.subject.happens.clone(), ..cast.subject.clone() };
            document(&looked_for, &serde_json::json!({}), id).into_iter().collect()
        }
        "text" | "character varying" | "citext" => {
            let mark = |text: &String| (1..3).contains(&text.len()) && !text.chars().any(char::is_alphanumeric);
            let mut marks: Vec<String> = cast.subject.happens.iter().flat_map(|body| literals(body)).collect();
            marks.retain(mark);
            marks.sort();
            marks.dedup();
            let parts =
                marks.iter().take(MARKS_MAX).flat_map(|mark| [format!("{id}{mark}{own}"), format!("{own}{mark}{id}")]);
            std::iter::once(id.clone()).chain(parts).collect()
        }
        "uuid" | "bigint" | "integer"
            if cast
                .subject
                .tenant
                .as_deref()
                .and_then(|t| cast.subject.column(t))
                .is_some_and(|t| t.base == column.base) =>
        {
            vec![id.clone()]
        }
        _ => Vec::new(),
    }
}

/// What one tenant puts into a table of nobody's, and the other then reads there.
pub fn handed_on(cast: &Cast<'_>) -> Vec<Trial> {
    let insert = |tenant: usize| cast.spare(tenant).and_then(|row| cast.insert(row, &BTreeMap::new()));
    let (Some(own), Some(_)) = (insert(cast.caller), insert(cast.victim)) else { return Vec::new() };
    let seen = format!("SELECT {} FROM {} LIMIT 5000", cast.readable(), cast.subject.sql());
    let acts = vec![Act::Run(own.clone()), Act::Bind(Context::Tenant(cast.victim)), Act::Run(seen)];
    vec![
        cast.trial(Command::Insert, Relation::Own, "a row of its own", vec![Act::Run(own)]),
        cast.trial(Command::Insert, Relation::Foreign, "a document, which the other then reads", acts),
    ]
}
