//! Trials that read: every way in which a statement can be shown rows.

use super::cast::{Cast, UNBOUND};
use super::subject::{Kind, literal};
use super::trial::{Act, Command, Context, Expect, Lane, Relation, Trial};

/// Rows asked for at most; a table may hold any number.
const LIMIT: u32 = 5_000;
/// After five executions Postgres may keep one plan for all.
const EXECUTIONS: usize = 7;

/// Tells a setting every row that it is asked about, before it is known whether the row may be seen: it costs less than any
/// other condition, its argument included.
const TELL: &str = "CREATE FUNCTION pg_temp.partywall_tell(record) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS \
    $$ BEGIN PERFORM set_config('partywall.told', left(coalesce(current_setting('partywall.told', true), '') || $1::text, 200000), true); \
    RETURN true; END $$; GRANT EXECUTE ON FUNCTION pg_temp.partywall_tell(record) TO PUBLIC";

/// The trials that read `cast`'s subject; `number` tells prepared statements apart, `planted` is false where nothing may
/// be written.
pub fn reads(cast: &Cast<'_>, roles: &[String], number: usize, planted: bool) -> Vec<Trial> {
    let subject = cast.subject;
    if !(subject.rights.select && subject.rights.usage) || subject.kind == Kind::Sequence {
        return Vec::new();
    }
    let (table, columns) = (subject.sql(), cast.readable());
    let all = format!("SELECT {columns} FROM {table} LIMIT {LIMIT}");
    let own = match cast.of(cast.caller) {
        Some(own) => format!("SELECT {columns} FROM {table} WHERE {own} LIMIT {LIMIT}"),
        None => all.clone(),
    };
    let run = |sql: &str| vec![Act::Run(sql.into())];
    let mut trials = vec![
        cast.trial(Command::Select, Relation::Own, "its own rows", run(&own)),
        cast.exchanged().trial(
            Command::Select,
            Relation::Own,
            "the other's own rows",
            run(&cast
                .of(cast.victim)
                .map_or(all.clone(), |own| format!("SELECT {columns} FROM {table} WHERE {own} LIMIT {LIMIT}"))),
        ),
        cast.trial(Command::Select, Relation::Foreign, "all rows", run(&all)),
    ];
    if let Some(theirs) = cast.of(cast.victim) {
        let sql = format!("SELECT {columns} FROM {table} WHERE {theirs} LIMIT {LIMIT}");
        trials.push(cast.trial(Command::Select, Relation::Foreign, "the other's rows, by their tenant", run(&sql)));
    }
    if let (Some(row), true) = (cast.row(cast.victim), cast.can_name()) {
        let sql = format!("SELECT {columns} FROM {table} WHERE {}", cast.at(row));
        trials.push(cast.trial(Command::Select, Relation::Foreign, "the other's row, by its key", run(&sql)));
    }
    trials.extend(UNBOUND.map(|relation| cast.trial(Command::Select, relation, "all rows", run(&all))));
    trials.extend(switched(cast, &all));
    trials.extend(prepared(cast, &all, number));

    for relation in [Relation::Own, Relation::Foreign, Relation::None] {
        let sql = if relation == Relation::Own { &own } else { &all };
        let cursor = vec![
            Act::Run(format!("DECLARE partywall_cursor CURSOR FOR {sql}")),
            Act::Run("FETCH ALL FROM partywall_cursor".into()),
        ];
        trials.push(cast.trial(Command::Cursor, relation, "fetch all", cursor));
        let explain = format!("EXPLAIN (ANALYZE, VERBOSE, TIMING OFF, SUMMARY OFF) {sql}");
        trials.push(cast.trial(Command::Explain, relation, "what its plan shows", run(&explain)));
        let locks = matches!(subject.kind, Kind::Table | Kind::Partition | Kind::Partitioned | Kind::View);
        if subject.rights.update && locks {
            let sql = sql.replace(&format!(" LIMIT {LIMIT}"), " FOR UPDATE");
            trials.push(cast.trial(Command::SelectForUpdate, relation, "lock all rows", run(&sql)));
        }
        if matches!(subject.kind, Kind::Table | Kind::Partition) {
            let names: Vec<&_> = subject.columns.iter().filter(|c| c.may_select && !c.generated).collect();
            let list = names.iter().map(|c| c.sql()).collect::<Vec<_>>().join(", ");
            let copy = Act::CopyOut(
                format!("COPY {table} ({list}) TO STDOUT"),
                names.iter().map(|c| c.name.clone()).collect(),
            );
            trials.push(cast.trial(Command::CopyTo, relation, "copy all rows out", vec![copy]));
        }
    }
    let off = vec![Act::Run("SET LOCAL row_security = off".into()), Act::Run(all.clone())];
    if subject.kind.is_table() {
        trials.push(cast.trial(Command::RowSecurityOff, Relation::Foreign, "row security asked to be off", off));
    }
    for role in roles {
        let acts = vec![Act::Become(role.clone()), Act::Run(all.clone())];
        trials.push(cast.trial(Command::SetRole, Relation::Foreign, &format!("as {role}, which it may become"), acts));
    }
    if planted && subject.kind != Kind::Foreign {
        let row = subject.columns.iter().filter(|c| c.may_select).map(|c| format!("x.{}", c.sql())).collect::<Vec<_>>();
        let sql = format!("SELECT 1 FROM {table} x WHERE pg_temp.partywall_tell(ROW({}))", row.join(", "));
        let told = "SELECT current_setting('partywall.told', true) AS told".to_string();
        for relation in [Relation::Own, Relation::Foreign] {
            let acts = vec![Act::Privileged(TELL.into()), Act::Run(sql.clone()), Act::Run(told.clone())];
            trials.push(cast.trial(
                Command::SelectBy,
                relation,
                "a function of the caller's that tells what it is asked",
                acts,
            ));
        }
    }
    trials
}

/// One tenant after another, and nobody after both, on one connection.
fn switched(cast: &Cast<'_>, all: &str) -> Vec<Trial> {
    let (caller, victim) = (Context::Tenant(cast.caller), Context::Tenant(cast.victim));
    let run = || Act::Run(all.into());
    let first = |acts: Vec<Act>| acts.into_iter().map(|act| (Lane::First, act)).collect::<Vec<_>>();
    let make =
        |what: &str, acts: Vec<Act>| cast.made(Command::Select, Relation::Switched, what, first(acts), Expect::Sealed);
    let mut after = vec![Act::Begin, Act::Bind(victim.clone()), run(), Act::Commit];
    after.extend([Act::Begin, Act::Bind(caller.clone()), run(), Act::Commit, Act::Begin, run(), Act::Rollback]);
    let mut rolled = vec![Act::Begin, Act::Bind(victim.clone()), run(), Act::Rollback];
    rolled.extend([Act::Begin, run(), Act::Rollback]);
    let saved = vec![
        Act::Begin,
        Act::Bind(caller.clone()),
        Act::Savepoint,
        Act::Bind(victim.clone()),
        run(),
        Act::RollBackTo,
        run(),
        Act::Rollback,
    ];
    let again = vec![Act::Begin, Act::Bind(victim), run(), Act::Bind(caller), run(), Act::Rollback];
    vec![
        make("one tenant, another, then nobody, each in its transaction", after),
        make("nobody, after a transaction of a tenant was rolled back", rolled),
        make("the first tenant, after a savepoint with another was rolled back", saved),
        make("another tenant in the same transaction", again),
    ]
}

fn prepared(cast: &Cast<'_>, all: &str, number: usize) -> Vec<Trial> {
    let name = |part: &str| format!("partywall_{part}_{number}");
    let prepare = |part: &str| Act::Run(format!("PREPARE {} AS {all}", name(part)));
    let execute = |part: &str, times: usize| Act::Run(vec![format!("EXECUTE {}", name(part)); times].join("; "));
    let mut trials: Vec<Trial> = [(Relation::Own, "own"), (Relation::Foreign, "foreign"), (Relation::None, "none")]
        .into_iter()
        .map(|(relation, part)| {
            let acts = vec![prepare(part), execute(part, EXECUTIONS)];
            cast.trial(Command::Prepared, relation, "executed seven times", acts)
        })
        .collect();
    for (mode, part) in [("auto", "auto"), ("force_generic_plan", "generic")] {
        let acts = vec![
            Act::Begin,
            Act::Run(format!("SET LOCAL plan_cache_mode = {}", literal(mode))),
            Act::Bind(Context::Tenant(cast.victim)),
            prepare(part),
            execute(part, EXECUTIONS),
            Act::Bind(Context::Tenant(cast.caller)),
            execute(part, 1),
            Act::Rollback,
            Act::Begin,
            execute(part, 1),
            Act::Rollback,
        ];
        let acts = acts.into_iter().map(|act| (Lane::First, act)).collect();
        let what = "executed for one tenant, then for another, then for nobody";
        trials.push(cast.made(Command::Prepared, Relation::Switched, what, acts, Expect::Sealed));
    }
    trials
}
