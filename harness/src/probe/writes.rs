//! Trials that write: each is looked at by the privileged role before it is rolled back.

use std::collections::BTreeMap;

use super::cast::{Cast, UNBOUND};
use super::ground::Row;
use super::subject::{Kind, literal};
use super::trial::{Act, Command, Context, Expect, Lane, Relation, Trial};

/// Leaves out triggers, those of foreign keys among them: a row that something refers to goes like any other.
const QUIET: &str = "SET LOCAL session_replication_role = replica";
/// The first version that merges, and the first that merges into views.
const MERGES: i32 = 150_000;
const MERGES_INTO_VIEWS: i32 = 170_000;

/// The trials that write to `cast`'s subject.
pub fn writes(cast: &Cast<'_>) -> Vec<Trial> {
    let subject = cast.subject;
    if !subject.rights.usage || matches!(subject.kind, Kind::Sequence | Kind::Materialised) {
        return Vec::new();
    }
    let mut trials = Vec::new();
    trials.extend(updates(cast));
    trials.extend(deletes(cast));
    trials.extend(inserts(cast));
    trials.extend(conflicts(cast));
    trials.extend(merges(cast));
    if subject.kind.is_table() && subject.rights.truncate {
        for (what, more) in [("empty it", ""), ("empty it and all that refers to it", " CASCADE")] {
            let acts = looked(format!("TRUNCATE {}{more}", subject.sql()));
            trials.push(cast.trial(Command::Truncate, Relation::Foreign, what, acts));
        }
    }
    if subject.kind.is_table() && (subject.rights.update || subject.rights.delete || subject.rights.truncate) {
        let sql = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", subject.sql());
        trials.push(cast.trial(Command::Lock, Relation::Own, "lock it against everybody", vec![Act::Run(sql)]));
    }
    trials
}

fn looked(sql: String) -> Vec<Act> {
    vec![Act::Run(sql), Act::Look]
}

/// With triggers, and where the privileged role can leave them out, without.
fn both(cast: &Cast<'_>, sql: &str) -> Vec<Vec<Act>> {
    let mut all = vec![looked(sql.into())];
    if cast.may_replicate {
        all.push(vec![Act::Privileged(QUIET.into()), Act::Run(sql.into()), Act::Look]);
    }
    all
}

fn value(row: &Row, column: &str) -> Option<String> {
    row.values.get(column)?.as_ref().map(|value| literal(value))
}

fn updates(cast: &Cast<'_>) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    let (Some(column), Some(mine)) = (subject.changeable(), cast.row(cast.caller)) else { return trials };
    let table = subject.sql();
    let set =
        format!("{} = {}::{}", column.sql(), value(mine, &column.name).unwrap_or_else(|| "NULL".into()), column.kind);
    let bare = format!("UPDATE {table} SET {set}");
    if cast.can_name() {
        let named = |row: &Row| format!("{bare} WHERE {}", cast.at(row));
        trials.push(cast.trial(Command::Update, Relation::Own, "its own row", looked(named(mine))));
        if let Some(theirs) = cast.row(cast.victim) {
            trials.push(cast.trial(
                Command::Update,
                Relation::Foreign,
                "the other's row, by its key",
                looked(named(theirs)),
            ));
            for relation in UNBOUND {
                trials.push(cast.trial(Command::Update, relation, "a row, by its key", looked(named(theirs))));
            }
        }
    } else {
        trials.push(cast.trial(Command::Update, Relation::Own, "its own rows", looked(bare.clone())));
    }
    trials.push(cast.trial(Command::Update, Relation::Foreign, "every row, without a condition", looked(bare.clone())));
    trials.extend(UNBOUND.map(|relation| cast.trial(Command::Update, relation, "every row", looked(bare.clone()))));
    if subject.rights.select {
        let returning = format!("{bare} RETURNING {}", cast.readable());
        trials.push(cast.trial(Command::Update, Relation::Foreign, "every row, and show them", looked(returning)));
    }
    trials.push(undone(cast, Command::Update, &bare));
    let tenant = subject.tenant.as_ref().and_then(|name| subject.column(name)).filter(|column| column.may_update);
    if let Some(tenant) = tenant {
        let give = |to: usize| {
            format!("UPDATE {table} SET {} = {}::{}", tenant.sql(), literal(&cast.ground.tenants[to].id), tenant.kind)
        };
        if cast.can_name() {
            let moved = format!("{} WHERE {}", give(cast.victim), cast.at(mine));
            trials.push(cast.trial(
                Command::Update,
                Relation::Foreign,
                "its own row, given to the other",
                looked(moved),
            ));
        }
        for acts in both(cast, &give(cast.victim)) {
            trials.push(cast.trial(Command::Update, Relation::Foreign, "every row, given to the other", acts));
        }
        for acts in both(cast, &give(cast.caller)) {
            trials.push(cast.trial(Command::Update, Relation::Foreign, "every row, taken for itself", acts));
        }
    }
    trials
}

fn deletes(cast: &Cast<'_>) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    if !subject.rights.delete {
        return trials;
    }
    let bare = format!("DELETE FROM {}", subject.sql());
    let mine = cast.row(cast.caller).filter(|_| cast.can_name());
    if let Some(mine) = mine {
        let own = format!("{bare} WHERE {}", cast.at(mine));
        for acts in both(cast, &own) {
            trials.push(cast.trial(Command::Delete, Relation::Own, "its own row", acts));
        }
    } else {
        trials.push(cast.trial(Command::Delete, Relation::Own, "its own rows", looked(bare.clone())));
    }
    if let Some(theirs) = cast.row(cast.victim).filter(|_| cast.can_name()) {
        let named = format!("{bare} WHERE {}", cast.at(theirs));
        for acts in both(cast, &named) {
            trials.push(cast.trial(Command::Delete, Relation::Foreign, "the other's row, by its key", acts));
        }
    }
    for acts in both(cast, &bare) {
        trials.push(cast.trial(Command::Delete, Relation::Foreign, "every row, without a condition", acts.clone()));
        trials.extend(UNBOUND.map(|relation| cast.trial(Command::Delete, relation, "every row", acts.clone())));
    }
    if subject.rights.select {
        let returning = format!("{bare} RETURNING {}", cast.readable());
        trials.push(cast.trial(Command::Delete, Relation::Foreign, "every row, and show them", looked(returning)));
    }
    trials.push(undone(cast, Command::Delete, &bare));
    trials
}

/// `sql` after a savepoint in which another tenant was bound has been rolled back.
fn undone(cast: &Cast<'_>, command: Command, sql: &str) -> Trial {
    let acts = vec![
        Act::Begin,
        Act::Bind(Context::Tenant(cast.caller)),
        Act::Savepoint,
        Act::Bind(Context::Tenant(cast.victim)),
        Act::RollBackTo,
        Act::Run(sql.into()),
        Act::Look,
        Act::Rollback,
    ];
    let acts = acts.into_iter().map(|act| (Lane::First, act)).collect();
    cast.made(command, Relation::Switched, "after a savepoint with another was rolled back", acts, Expect::Sealed)
}

fn inserts(cast: &Cast<'_>) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    if !subject.rights.insert {
        return trials;
    }
    let none = BTreeMap::new();
    let (Some(mine), Some(theirs)) = (cast.spare(cast.caller), cast.spare(cast.victim)) else { return trials };
    let (Some(own), Some(foreign)) = (cast.insert(mine, &none), cast.insert(theirs, &none)) else { return trials };
    let what = "a row of the other's";
    trials.push(cast.trial(Command::Insert, Relation::Own, "a row of its own", looked(own.clone())));
    for acts in both(cast, &foreign) {
        trials.push(cast.trial(Command::Insert, Relation::Foreign, what, acts));
    }
    if let Some(column) = subject.tenant.clone() {
        // Its own row in all but the tenant.
        let changed = BTreeMap::from([(column.clone(), Some(cast.ground.tenants[cast.victim].id.clone()))]);
        if let Some(sql) = cast.insert(mine, &changed) {
            for acts in both(cast, &sql) {
                trials.push(cast.trial(Command::Insert, Relation::Foreign, "its own row under the other's name", acts));
            }
        }
        let nullable = subject.column(&column).is_some_and(|column| !column.not_null);
        let changed = BTreeMap::from([(column, None)]);
        if let (true, true, Some(sql)) = (nullable, subject.rights.select, cast.insert(mine, &changed)) {
            // What is everybody's is seen by the other: the caller has shown it a row.
            let seen = format!("SELECT {} FROM {}", cast.readable(), subject.sql());
            let acts = vec![Act::Run(sql), Act::Bind(Context::Tenant(cast.victim)), Act::Run(seen)];
            trials.push(cast.trial(
                Command::Insert,
                Relation::Foreign,
                "a row without a tenant, which the other then reads",
                acts,
            ));
        }
    }
    trials.extend(
        UNBOUND.map(|relation| cast.trial(Command::Insert, relation, "a row of a tenant", looked(foreign.clone()))),
    );
    trials.push(undone(cast, Command::Insert, &foreign));
    if subject.kind.is_table() {
        for (relation, row) in [(Relation::Own, mine), (Relation::Foreign, theirs), (Relation::None, theirs)] {
            if let Some((sql, line)) = copy(cast, row) {
                trials.push(cast.trial(
                    Command::CopyFrom,
                    relation,
                    "copy a row in",
                    vec![Act::CopyIn(sql, line), Act::Look],
                ));
            }
        }
    }
    trials
}

/// `COPY … FROM` and its line.
fn copy(cast: &Cast<'_>, row: &Row) -> Option<(String, String)> {
    let given = row.given.iter().filter_map(|(name, value)| {
        let column = cast.subject.column(name).filter(|column| column.may_insert && !column.generated)?;
        let escaped = |value: &String| value.replace('\\', r"\\").replace('\t', r"\t").replace('\n', r"\n");
        Some((column.sql(), value.as_ref().map_or_else(|| r"\N".into(), escaped)))
    });
    let (names, values): (Vec<String>, Vec<String>) = given.unzip();
    let sql = format!("COPY {} ({}) FROM STDIN", cast.subject.sql(), names.join(", "));
    (!names.is_empty()).then(|| (sql, values.join("\t") + "\n"))
}

fn conflicts(cast: &Cast<'_>) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    let whole = |unique: &&super::subject::Unique| !unique.partial && !unique.exclusion && !unique.columns.is_empty();
    let key = subject.uniques.iter().filter(whole).find(|unique| {
        unique.columns.iter().all(|name| subject.column(name).is_some_and(|c| c.may_insert && c.may_select))
    });
    let (Some(key), Some(column)) = (key, subject.changeable()) else { return trials };
    let Some(mine) = cast.spare(cast.caller) else { return trials };
    if !subject.rights.insert || subject.kind == Kind::Foreign {
        return trials;
    }
    let columns: Vec<String> = key.columns.iter().map(|name| crate::target::copy::quoted(name)).collect();
    let made = |row: &Row, spare: &Row, keep_tenant: bool| {
        let taken = key.columns.iter().filter(|name| !keep_tenant || Some(*name) != subject.tenant.as_ref());
        let changed = taken.filter_map(|name| Some((name.clone(), row.values.get(name)?.clone()))).collect();
        let insert = cast.insert(spare, &changed)?;
        let target = columns.join(", ");
        Some(format!("{insert} ON CONFLICT ({target}) DO UPDATE SET {0} = excluded.{0}", column.sql()))
    };
    if let Some(sql) = cast.row(cast.caller).and_then(|row| made(row, mine, false)) {
        trials.push(cast.trial(Command::OnConflict, Relation::Own, "a row with its own key", looked(sql)));
    }
    let (Some(theirs), Some(spare)) = (cast.row(cast.victim), cast.spare(cast.victim)) else { return trials };
    for (what, sql) in [
        ("a row of its own with the other's key", made(theirs, mine, true)),
        ("a row of the other's with the other's key", made(theirs, spare, false)),
    ] {
        let Some(sql) = sql else { continue };
        trials.push(cast.trial(Command::OnConflict, Relation::Foreign, what, looked(sql.clone())));
        if subject.rights.select {
            let sql = format!("{sql} RETURNING {}", cast.readable());
            trials.push(cast.trial(Command::OnConflict, Relation::Foreign, what, looked(sql)));
        }
    }
    trials
}

fn merges(cast: &Cast<'_>) -> Vec<Trial> {
    let (subject, mut trials) = (cast.subject, Vec::new());
    let able = match subject.kind {
        Kind::View => cast.version >= MERGES_INTO_VIEWS,
        kind => kind.is_table() && cast.version >= MERGES,
    };
    let all = subject.columns.iter().all(|column| column.may_select);
    let (true, true, Some(mine)) = (able, all, cast.row(cast.caller)) else { return trials };
    let merge = |condition: &str, then: &str| {
        format!("MERGE INTO {} x USING (VALUES (1)) s(one) ON {condition} {then}", subject.sql())
    };
    let at = |row: &Row| super::engine::by_key(subject, &row.values, "x.");
    if let Some(column) = subject.changeable() {
        let set = value(mine, &column.name).unwrap_or_else(|| "NULL".into());
        let update = format!("WHEN MATCHED THEN UPDATE SET {} = {set}::{}", column.sql(), column.kind);
        trials.push(cast.trial(Command::Merge, Relation::Own, "change its own row", looked(merge(&at(mine), &update))));
        if let Some(theirs) = cast.row(cast.victim) {
            trials.push(cast.trial(
                Command::Merge,
                Relation::Foreign,
                "change the other's row",
                looked(merge(&at(theirs), &update)),
            ));
        }
        trials.push(cast.trial(Command::Merge, Relation::Foreign, "change every row", looked(merge("true", &update))));
        trials.push(cast.trial(Command::Merge, Relation::None, "change every row", looked(merge("true", &update))));
    }
    if subject.rights.delete {
        let own = merge(&at(mine), "WHEN MATCHED THEN DELETE");
        for acts in both(cast, &own) {
            trials.push(cast.trial(Command::Merge, Relation::Own, "delete its own row", acts));
        }
        for acts in both(cast, &merge("true", "WHEN MATCHED THEN DELETE")) {
            trials.push(cast.trial(Command::Merge, Relation::Foreign, "delete every row", acts));
        }
    }
    if let (true, Some(theirs)) = (subject.rights.insert, cast.spare(cast.victim))
        && let Some((names, values)) = cast.given(theirs, &BTreeMap::new())
    {
        let identity = subject.columns.iter().any(|c| c.always && theirs.given.iter().any(|(name, _)| *name == c.name));
        let overriding = if identity { "OVERRIDING SYSTEM VALUE " } else { "" };
        let insert =
            |names: &str, values: &str| format!("WHEN NOT MATCHED THEN INSERT ({names}) {overriding}VALUES ({values})");
        trials.push(cast.trial(
            Command::Merge,
            Relation::Foreign,
            "insert a row of the other's",
            looked(merge("false", &insert(&names, &values))),
        ));
        let own = cast.spare(cast.caller).and_then(|row| cast.given(row, &BTreeMap::new()));
        if let Some((names, values)) = own {
            trials.push(cast.trial(
                Command::Merge,
                Relation::Own,
                "insert a row of its own",
                looked(merge("false", &insert(&names, &values))),
            ));
        }
    }
    trials
}
