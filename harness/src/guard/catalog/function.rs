//! Functions, procedures and triggers.

use std::collections::BTreeMap;

use sqlx::{FromRow, PgConnection};

use super::Oid;
use super::read::{self, OURS};
use crate::error::Result;
use crate::target::copy::quoted;

/// What a function promises the planner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// The same for ever.
    Immutable,
    /// The same within a statement.
    Stable,
    /// Nothing.
    Volatile,
}

/// A function or procedure.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its number.
    pub oid: Oid,
    /// Its schema's number.
    pub schema_oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its arguments' types, as `DROP FUNCTION` takes them.
    pub arguments: String,
    /// Names of the arguments that go in; empty text for one without.
    pub argument_names: Vec<String>,
    /// How many arguments go in.
    pub inputs: i16,
    /// How many of them may be left out.
    pub defaults: i16,
    /// Its result's type.
    pub returns: String,
    /// True when it answers rows.
    pub returns_set: bool,
    /// Who owns it.
    pub owner: Oid,
    /// `f` function, `p` procedure, `a` aggregate, `w` window function.
    pub kind: String,
    /// `sql`, `plpgsql`, …
    pub language: String,
    /// What it does, in its language.
    pub body: String,
    /// True when the body is one that was parsed when it was made: `RETURN` or `BEGIN ATOMIC`.
    pub parsed: bool,
    /// What it promises.
    pub volatility: Volatility,
    /// `LEAKPROOF`.
    pub leakproof: bool,
    /// `SECURITY DEFINER`.
    pub definer: bool,
    /// `STRICT`.
    pub strict: bool,
    /// `SET` clauses, such as `search_path=pg_catalog`.
    pub config: Vec<String>,
    /// The extension that it belongs to.
    pub extension: Option<String>,
}

impl Function {
    /// Its name and arguments as SQL takes them, with its schema.
    pub fn sql(&self) -> String {
        format!("{}.{}({})", quoted(&self.schema), quoted(&self.name), self.arguments)
    }

    /// Its name and arguments as people read them.
    pub fn label(&self) -> String {
        format!("{}.{}({})", self.schema, self.name, self.arguments)
    }

    /// The value of a `SET` clause.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.config.iter().find_map(|set| set.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }

    /// True for a trigger's or an event trigger's, which nobody can call.
    pub fn is_trigger(&self) -> bool {
        matches!(self.returns.as_str(), "trigger" | "event_trigger")
    }
}

/// A trigger.
#[derive(Clone, Debug, FromRow)]
pub struct Trigger {
    /// Its table or view.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// What it calls.
    pub function: Oid,
    /// False after `DISABLE TRIGGER`.
    pub enabled: bool,
    /// `BEFORE`.
    pub before: bool,
    /// `INSTEAD OF`.
    pub instead: bool,
    /// `FOR EACH ROW`.
    pub for_each_row: bool,
    /// On INSERT.
    pub on_insert: bool,
    /// On DELETE.
    pub on_delete: bool,
    /// On UPDATE.
    pub on_update: bool,
    /// On TRUNCATE.
    pub on_truncate: bool,
}

#[derive(FromRow)]
struct FunctionRow {
    oid: Oid,
    schema_oid: Oid,
    schema: String,
    name: String,
    arguments: String,
    argument_names: Vec<String>,
    inputs: i16,
    defaults: i16,
    returns: String,
    returns_set: bool,
    owner: Oid,
    kind: String,
    language: String,
    body: String,
    parsed: bool,
    volatility: String,
    leakproof: bool,
    definer: bool,
    strict: bool,
    config: Vec<String>,
    extension: Option<String>,
}

pub(super) async fn functions(connection: &mut PgConnection) -> Result<BTreeMap<Oid, Function>> {
    let query = format!(
        "SELECT p.oid::int8, n.oid::int8 AS schema_oid, n.nspname::text AS schema, p.proname::text AS name, \
         oidvectortypes(p.proargtypes) AS arguments, coalesce(CASE WHEN p.proargmodes IS NULL \
         THEN p.proargnames ELSE ARRAY(SELECT a.name FROM unnest(p.proargnames, p.proargmodes) a(name, mode) \
         WHERE a.mode IN ('i', 'b', 'v')) END, '{{}}') AS argument_names, \
         p.pronargs AS inputs, p.pronargdefaults AS defaults, format_type(p.prorettype, NULL) AS returns, \
         p.proretset AS returns_set, p.proowner::int8 AS owner, p.prokind::text AS kind, l.lanname::text AS language, \
         coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) AS body, p.prosqlbody IS NOT NULL AS parsed, \
         p.provolatile::text AS volatility, p.proleakproof AS leakproof, p.prosecdef AS definer, \
         p.proisstrict AS strict, coalesce(p.proconfig, '{{}}') AS config, e.extname::text AS extension \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang \
         LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' \
         LEFT JOIN pg_extension e ON e.oid = d.refobjid WHERE {OURS}"
    );
    let found: Vec<FunctionRow> = read::all(connection, "functions", &query).await?;
    Ok(found.into_iter().map(|row| (row.oid, row.into())).collect())
}

impl From<FunctionRow> for Function {
    fn from(row: FunctionRow) -> Self {
        let volatility = match row.volatility.as_str() {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        };
        Self {
            oid: row.oid,
            schema_oid: row.schema_oid,
            schema: row.schema,
            name: row.name,
            arguments: row.arguments,
            argument_names: row.argument_names,
            inputs: row.inputs,
            defaults: row.defaults,
            returns: row.returns,
            returns_set: row.returns_set,
            owner: row.owner,
            kind: row.kind,
            language: row.language,
            body: row.body,
            parsed: row.parsed,
            volatility,
            leakproof: row.leakproof,
            definer: row.definer,
            strict: row.strict,
            config: row.config,
            extension: row.extension,
        }
    }
}

pub(super) async fn triggers(connection: &mut PgConnection) -> Result<Vec<Trigger>> {
    let query = format!(
        "SELECT t.tgrelid::int8 AS relation, t.tgname::text AS name, t.tgfoid::int8 AS function, \
         t.tgenabled <> 'D' AS enabled, t.tgtype & 2 <> 0 AS before, t.tgtype & 64 <> 0 AS instead, \
         t.tgtype & 1 <> 0 AS for_each_row, t.tgtype & 4 <> 0 AS on_insert, t.tgtype & 8 <> 0 AS on_delete, \
         t.tgtype & 16 <> 0 AS on_update, t.tgtype & 32 <> 0 AS on_truncate \
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE NOT t.tgisinternal AND {OURS}"
    );
    read::all(connection, "triggers", &query).await
}
