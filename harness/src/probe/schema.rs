//! Reads what planting and trying need to know of a database: relations with types, keys, conditions and the database
//! role's rights, and routines it may call. What belongs to an extension or to Postgres is left out.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, PgConnection};

use super::subject::{Routine, Subject, literal};
use crate::error::{Error, Result};
use crate::target::copy::database_words;

/// What the probe knows of a database.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Tables, views and sequences, parents before their partitions.
    pub subjects: Vec<Subject>,
    /// Functions and procedures that the database role may call.
    pub routines: Vec<Routine>,
    /// Roles that the database role can become.
    pub roles: Vec<String>,
    /// `server_version_num`.
    pub version: i32,
}

/// True for what is somebody's own: not Postgres's, not an extension's.
const OWN: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

const SUBJECTS: &str = "
SELECT coalesce(json_agg(s ORDER BY s.schema, s.name), '[]')::text FROM (
 SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name,
  CASE WHEN c.relkind IN ('r','p') AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) AND c.relkind = 'r' THEN 'partition'
       ELSE CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialised'
                           WHEN 'f' THEN 'foreign' ELSE 'sequence' END END AS kind,
  (SELECT min(i.inhparent::int8) FROM pg_inherits i WHERE i.inhrelid = c.oid) AS parent,
  pg_get_userbyid(c.relowner) AS owner, EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
   OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1') AS triggers,
  coalesce((SELECT json_agg(f.prosrc) FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
   WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'), '[]') AS happens,
  c.relkind = 'S' AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i') AS identity,
  json_build_object('usage', has_schema_privilege(R, n.oid, 'USAGE'),
   'select', CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(R, c.oid, 'SELECT') ELSE has_any_column_privilege(R, c.oid, 'SELECT') END,
   'insert', CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(R, c.oid, 'USAGE') ELSE has_any_column_privilege(R, c.oid, 'INSERT') END,
   'update', CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(R, c.oid, 'UPDATE') ELSE has_any_column_privilege(R, c.oid, 'UPDATE') END,
   'delete', c.relkind <> 'S' AND has_table_privilege(R, c.oid, 'DELETE'),
   'truncate', c.relkind <> 'S' AND has_table_privilege(R, c.oid, 'TRUNCATE')) AS rights,
  coalesce((SELECT json_agg(json_build_object('name', a.attname, 'kind', format_type(a.atttypid, a.atttypmod),
    'base', CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END,
    'not_null', a.attnotnull OR t.typnotnull, 'has_default', a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL,
    'generated', a.attgenerated <> '', 'always', a.attidentity = 'a',
    'labels', coalesce((SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), '[]'),
    'may_select', c.relkind <> 'S' AND has_column_privilege(R, c.oid, a.attnum, 'SELECT'),
    'may_insert', c.relkind <> 'S' AND has_column_privilege(R, c.oid, a.attnum, 'INSERT'),
    'may_update', c.relkind <> 'S' AND has_column_privilege(R, c.oid, a.attnum, 'UPDATE')) ORDER BY a.attnum)
   FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]') AS columns,
  coalesce((SELECT json_agg(json_build_object('name', k.relname, 'primary', x.indisprimary, 'exclusion', x.indisexclusion,
    'partial', x.indpred IS NOT NULL,
    'columns', (SELECT coalesce(json_agg(DISTINCT a.attname), '[]') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
      AND (a.attnum = ANY (x.indkey[0:x.indnkeyatts - 1]) OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = x.indexrelid AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND x.indexprs IS NOT NULL
        AND NOT a.attnum = ANY (x.indkey))))) ORDER BY x.indisprimary DESC, k.relname)
   FROM pg_index x JOIN pg_class k ON k.oid = x.indexrelid WHERE x.indrelid = c.oid AND (x.indisunique OR x.indisexclusion)), '[]') AS uniques,
  coalesce((SELECT json_agg(json_build_object('name', f.conname, 'target', f.confrelid::int8,
    'columns', (SELECT json_agg(a.attname ORDER BY u.place) FROM unnest(f.conkey) WITH ORDINALITY u(attnum, place)
                JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum),
    'target_columns', (SELECT json_agg(a.attname ORDER BY u.place) FROM unnest(f.confkey) WITH ORDINALITY u(attnum, place)
                JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = u.attnum)) ORDER BY f.conname)
   FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'
     AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = f.confrelid AND f.conparentid <> 0
                     AND EXISTS (SELECT FROM pg_constraint p WHERE p.oid = f.conparentid AND p.conrelid = c.oid))), '[]') AS references,
  coalesce((SELECT json_agg(k) FROM (
    SELECT (SELECT coalesce(json_agg(a.attname), '[]') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey)) AS columns,
      pg_get_expr(k.conbin, k.conrelid) AS expression
     FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'
    UNION ALL
    SELECT json_build_array(a.attname), regexp_replace(pg_get_expr(k.conbin, 0), '\\mVALUE\\M', quote_ident(a.attname), 'g')
     FROM pg_constraint k JOIN pg_attribute a ON a.atttypid = k.contypid AND a.attrelid = c.oid AND NOT a.attisdropped
     WHERE k.contypid <> 0 AND k.contype = 'c'
    UNION ALL
    SELECT (SELECT coalesce(json_agg(a.attname), '[]') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND pg_get_partition_constraintdef(c.oid) ~ ('\\m' || regexp_replace(quote_ident(a.attname), '([^\\w])', '\\\\\\1', 'g'))),
      pg_get_partition_constraintdef(c.oid) WHERE c.relispartition AND pg_get_partition_constraintdef(c.oid) IS NOT NULL) k), '[]') AS checks
  , coalesce((SELECT json_agg(concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)))
   FROM pg_policy p WHERE p.polrelid = c.oid), '[]') AS policies
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r','p','v','m','f','S') AND OWN
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')) s";

const ROUTINES: &str = "
SELECT coalesce(json_agg(s ORDER BY s.schema, s.name, s.oid), '[]')::text FROM (
 SELECT p.oid::int8 AS oid, n.nspname AS schema, p.proname AS name, p.pronargdefaults AS defaults, p.prosecdef AS definer,
  p.prokind = 'p' AS procedure, p.provolatile = 'v' AS volatile,
  pg_get_functiondef(p.oid) ~* '(set_config|\\mSET\\s+(SESSION|LOCAL|[a-z_]+\\.))' AS binds,
  coalesce((SELECT json_agg(coalesce(p.proargnames[a.place], '') ORDER BY a.place) FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]))
    WITH ORDINALITY a(kind, place) WHERE coalesce(p.proargmodes[a.place], 'i') IN ('i', 'b')), '[]') AS arguments,
  coalesce((SELECT json_agg(format_type(a.kind, NULL) ORDER BY a.place) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a(kind, place)), '[]') AS types
 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE OWN AND p.prokind IN ('f', 'p') AND p.provariadic = 0
  AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)
  AND NOT EXISTS (SELECT FROM pg_type t WHERE t.typtype = 'p' AND t.oid = ANY (p.proargtypes))
  AND has_schema_privilege(R, n.oid, 'USAGE') AND has_function_privilege(R, p.oid, 'EXECUTE')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')) s";

/// Roles that SET ROLE reaches, besides the role itself.
const ROLES: &str = "SELECT coalesce(json_agg(rolname ORDER BY rolname), '[]')::text FROM pg_roles
 WHERE rolname <> R AND pg_has_role(R, oid, 'MEMBER') AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = R)";

impl Schema {
    /// Reads it, as `role` finds it.
    ///
    /// # Errors
    /// There is no such role, or the server does not answer.
    pub async fn read(connection: &mut PgConnection, role: &str) -> Result<Self> {
        let known: Vec<String> = json(connection, "SELECT json_agg(rolname)::text FROM pg_roles").await?;
        if !known.iter().any(|name| name == role) {
            return Err(crate::error::unknown("database role", role, known.iter().map(String::as_str)));
        }
        let role = format!("{}::name", literal(role));
        let filled = |query: &str| query.replace("(R,", &format!("({role},")).replace("= R", &format!("= {role}"));
        let filled = |query: &str| filled(query).replace("<> R", &format!("<> {role}")).replace("OWN", OWN);
        let version: Vec<i32> =
            json(connection, "SELECT json_build_array(current_setting('server_version_num')::int)::text").await?;
        Ok(Self {
            subjects: json(connection, &filled(SUBJECTS)).await?,
            routines: json(connection, &filled(ROUTINES)).await?,
            roles: json(connection, &filled(ROLES)).await?,
            version: version.first().copied().unwrap_or_default(),
        })
    }

    /// The subject of that identifier.
    pub fn subject(&self, oid: i64) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.oid == oid)
    }
}

/// The one value of `query`, which is JSON.
pub(super) async fn json<T: DeserializeOwned>(connection: &mut PgConnection, query: &str) -> Result<T> {
    let text: String = sqlx::query_scalar(AssertSqlSafe(query.to_string()))
        .fetch_one(connection)
        .await
        .map_err(|e| Error::Unreachable(format!("cannot read the catalog: {}", database_words(&e))))?;
    serde_json::from_str(&text).map_err(|e| Error::Defect(format!("the catalog reads as nothing known: {e}")))
}

/// Settings that a connection as `role` begins with, in this database.
///
/// # Errors
/// The server does not answer.
pub async fn settings_of(connection: &mut PgConnection, role: &str) -> Result<Vec<(String, String)>> {
    #[derive(Deserialize)]
    struct Setting {
        name: String,
        value: String,
    }
    let query = format!(
        "SELECT coalesce(json_agg(json_build_object('name', split_part(s, '=', 1), 'value', substr(s, strpos(s, '=') + 1)) ORDER BY rank), '[]')::text
         FROM (SELECT unnest(setconfig) AS s, (setrole <> 0)::int * 2 + (setdatabase <> 0)::int AS rank FROM pg_db_role_setting
         WHERE setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = {}))
           AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))) x",
        literal(role)
    );
    let settings: Vec<Setting> = json(connection, &query).await?;
    Ok(settings.into_iter().map(|setting| (setting.name, setting.value)).collect())
}
