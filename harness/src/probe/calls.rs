//! Trials that call: every routine that the application's database role may call, with what can be filled in.

use std::collections::BTreeSet;

use super::cast::{Cast, UNBOUND};
use super::ground::Row;
use super::subject::{Kind, Routine, Subject, literal};
use super::trial::{Act, Command, Context, Expect, Lane, Relation, Trial};

/// Sets of arguments tried with one routine at most.
const TRIED_MAX: usize = 10;

/// The trials of one routine. `subjects` are what its arguments may be taken from.
pub fn calls(cast: &Cast<'_>, routine: &Routine, subjects: &[Subject]) -> Vec<Trial> {
    let title = routine.title();
    let made = |trial: Trial| Trial { subject: title.clone(), kind: Kind::Routine, ..trial };
    let mut trials = Vec::new();
    let sets = |tenant: usize| arguments(cast, routine, subjects, tenant);
    for (number, arguments) in sets(cast.victim).into_iter().enumerate() {
        let acts = || vec![Act::Run(routine.call(&arguments)), Act::Look];
        trials.push(made(cast.trial(Command::Call, Relation::Foreign, "with what is the other's", acts())));
        if number == 0 {
            trials.extend(
                UNBOUND.map(|relation| made(cast.trial(Command::Call, relation, "with what is a tenant's", acts()))),
            );
        }
    }
    for arguments in sets(cast.caller) {
        let acts = vec![Act::Run(routine.call(&arguments)), Act::Look];
        trials.push(made(cast.trial(Command::Call, Relation::Own, "with what is its own", acts)));
    }
    trials
}

/// Whether a routine that binds a setting leaves it behind: called in a transaction that is kept, then looked for.
pub fn left(cast: &Cast<'_>, routine: &Routine, tables: &[&Subject], subjects: &[Subject]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for arguments in arguments(cast, routine, subjects, cast.victim).into_iter().take(2) {
        let mut acts = vec![Act::Begin, Act::Run(routine.call(&arguments)), Act::Commit, Act::Begin];
        acts.extend(tables.iter().map(|table| {
            let cast = Cast { subject: table, ..*cast };
            Act::Run(format!("SELECT {} FROM {} LIMIT 100", cast.readable(), table.sql()))
        }));
        acts.push(Act::Rollback);
        // On a connection of its own: what is left there is to be seen there, and nowhere else.
        let acts = acts.into_iter().map(|act| (Lane::Second, act)).collect();
        let trial =
            cast.made(Command::Call, Relation::Switched, "what it leaves on the connection", acts, Expect::Sealed);
        trials.push(Trial { subject: routine.title(), kind: Kind::Routine, ..trial });
    }
    trials
}

/// Sets of arguments, each from the rows of `tenant`, as SQL.
fn arguments(cast: &Cast<'_>, routine: &Routine, subjects: &[Subject], tenant: usize) -> Vec<Vec<String>> {
    if routine.types.is_empty() {
        return vec![Vec::new()];
    }
    let ground = cast.ground;
    let id = &ground.tenants[tenant].id;
    let rows: Vec<&Row> = ground.rows.iter().filter(|row| row.tenant == Some(tenant)).collect();
    let fitting: Vec<Vec<String>> = routine
        .arguments
        .iter()
        .zip(&routine.types)
        .map(|(name, kind)| {
            let mut found: Vec<(u8, String)> = Vec::new();
            for row in &rows {
                let Some(subject) = subjects.iter().find(|s| s.oid == row.table) else { continue };
                for column in &subject.columns {
                    let Some(value) = row.values.get(&column.name).cloned().flatten() else { continue };
                    let same = column.base.split('(').next() == Some(kind.as_str())
                        || (is_text(&column.base) && is_text(kind));
                    if same {
                        let keyed = subject.key().contains(&column.name.as_str());
                        let rank = likeness(name, &column.name, &subject.name) * 2 + u8::from(!keyed);
                        found.push((rank, literal(&value)));
                    }
                }
            }
            if super::value::certain(kind, id).unwrap_or(false) {
                let rank = if cast.ground.tenant_columns.iter().any(|c| likeness(name, c, "") == 0) { 0 } else { 3 };
                found.push((rank, literal(id)));
            }
            found.extend(plain(kind).map(|value| (9, value.to_string())));
            found.sort();
            let mut seen = BTreeSet::new();
            found.into_iter().map(|(_, value)| value).filter(|value| seen.insert(value.clone())).collect()
        })
        .collect();
    if fitting.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    let most = fitting.iter().map(Vec::len).max().unwrap_or(0).min(TRIED_MAX);
    // The best of each first; then each turns through its own.
    let sets: Vec<Vec<String>> =
        (0..most).map(|turn| fitting.iter().map(|values| values[turn % values.len()].clone()).collect()).collect();
    sets
}

fn is_text(kind: &str) -> bool {
    ["text", "character varying", "citext", "name", "character"].iter().any(|text| kind.starts_with(text))
}

/// How little an argument's name is like a column's: 0 for the same.
fn likeness(argument: &str, column: &str, table: &str) -> u8 {
    let bare = |name: &str| {
        let name = name.to_lowercase();
        let name = ["p_", "in_", "_", "v_", "arg_", "the_"]
            .iter()
            .find_map(|p| name.strip_prefix(p).map(String::from))
            .unwrap_or(name);
        name.replace('_', "")
    };
    let (argument, column, table) = (bare(argument), bare(column), bare(table));
    let singular = table.trim_end_matches('s');
    if argument == column || argument == format!("{singular}{column}") || format!("{argument}id") == column {
        0
    } else if !argument.is_empty() && (column.contains(&argument) || argument.contains(&column)) {
        1
    } else {
        2
    }
}

/// Values that say nothing, for arguments that no row has a value for.
fn plain(kind: &str) -> std::slice::Iter<'static, &'static str> {
    let values: &[&str] = match kind {
        "boolean" => &["true"],
        "integer" | "smallint" | "bigint" | "numeric" | "real" | "double precision" => &["10", "1"],
        "date" => &["'2024-01-01'", "current_date"],
        "timestamp with time zone" | "timestamp without time zone" => &["now()", "'2024-01-01'"],
        "interval" => &["'1 day'"],
        "json" | "jsonb" => &["'{}'"],
        "regclass" => &["'pg_class'"],
        "uuid" => &[],
        kind if is_text(kind) => &["'a'"],
        _ => &["NULL"],
    };
    values.iter()
}

/// Whether what a view or a routine answers moves when the other's rows go, though it shows none of them.
pub fn influence(cast: &Cast<'_>, statement: &str, title: &str, kind: Kind, without: &str) -> Trial {
    let run = || Act::Run(statement.to_string());
    let acts = vec![run(), run(), Act::Privileged(without.into()), run()];
    let trial = cast.trial(Command::Influence, Relation::Foreign, "before and after the other's rows went", acts);
    Trial { subject: title.into(), kind, expect: Expect::Unmoved, ..trial }
}

/// The statements that take all rows of `tenant` away, and bring what is stored of them up to date.
pub fn without(subjects: &[Subject], cast: &Cast<'_>, tenant: usize) -> String {
    let mut statements = vec![String::new()];
    if cast.may_replicate {
        statements[0] = "SET LOCAL session_replication_role = replica".into();
    } else {
        statements.clear();
    }
    for subject in subjects.iter().filter(|s| s.owned && s.kind.is_leaf()) {
        let rows: Vec<String> = cast
            .ground
            .rows_of(subject.oid, tenant)
            .map(|row| super::engine::by_key(subject, &row.values, ""))
            .collect();
        if !rows.is_empty() {
            statements.push(format!("DELETE FROM {} WHERE {}", subject.sql(), rows.join(" OR ")));
        }
    }
    let stored = subjects.iter().filter(|s| s.kind == Kind::Materialised);
    statements.extend(stored.map(|s| s.refreshed(cast.may_replicate)));
    statements.join("; ")
}

/// Binds a tenant in a transaction that is kept, and looks whether it is still bound: what the service's own way of binding leaves.
pub fn binding_left(cast: &Cast<'_>, tables: &[&Subject]) -> Trial {
    let mut acts = vec![Act::Begin, Act::Bind(Context::Tenant(cast.victim)), Act::Commit, Act::Begin];
    acts.extend(tables.iter().map(|table| {
        let cast = Cast { subject: table, ..*cast };
        Act::Run(format!("SELECT {} FROM {} LIMIT 100", cast.readable(), table.sql()))
    }));
    acts.push(Act::Rollback);
    let acts = acts.into_iter().map(|act| (Lane::Second, act)).collect();
    let what = "what binding a tenant leaves on the connection";
    let trial = cast.made(Command::Call, Relation::Switched, what, acts, Expect::Sealed);
    Trial { subject: "the tenant context".into(), kind: Kind::Routine, ..trial }
}
