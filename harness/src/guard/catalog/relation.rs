//! Tables and all that is read like one, with their columns, parents and rules.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{FromRow, PgConnection};

use super::read::{self, OURS};
use super::{Command, Oid};
use crate::error::Result;

/// A schema.
#[derive(Clone, Debug, FromRow)]
pub struct Schema {
    /// Its number.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Who owns it.
    pub owner: Oid,
    /// The extension that it belongs to.
    pub extension: Option<String>,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An ordinary table, a partition among them.
    Table,
    /// A partitioned table.
    Partitioned,
    /// A view.
    View,
    /// A materialised view.
    MaterialisedView,
    /// A foreign table.
    Foreign,
    /// A sequence.
    Sequence,
}

impl Kind {
    fn of(letter: &str) -> Self {
        match letter {
            "p" => Self::Partitioned,
            "v" => Self::View,
            "m" => Self::MaterialisedView,
            "f" => Self::Foreign,
            "S" => Self::Sequence,
            _ => Self::Table,
        }
    }

    /// As SQL spells it, in lower case.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table | Self::Partitioned => "table",
            Self::View => "view",
            Self::MaterialisedView => "materialized view",
            Self::Foreign => "foreign table",
            Self::Sequence => "sequence",
        }
    }

    /// True for what holds rows that row security can guard.
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Partitioned)
    }
}

/// A relation.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Its number.
    pub oid: Oid,
    /// Its schema's number.
    pub schema_oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Who owns it.
    pub owner: Oid,
    /// `ENABLE ROW LEVEL SECURITY`.
    pub row_security: bool,
    /// `FORCE ROW LEVEL SECURITY`.
    pub force_row_security: bool,
    /// Storage options, such as `security_invoker=true`.
    pub options: Vec<String>,
    /// True for a partition; else a parent is one by inheritance.
    pub is_partition: bool,
    /// The relations it is a partition of, or inherits from.
    pub parents: Vec<Oid>,
    /// The extension that it belongs to.
    pub extension: Option<String>,
    /// The foreign server of a foreign table.
    pub server: Option<String>,
    /// The table that a sequence belongs to.
    pub owned_by: Option<Oid>,
    /// What a view or materialised view selects.
    pub definition: Option<String>,
    /// The planner's estimate of its rows; negative when nobody has counted.
    pub rows_estimated: f32,
    /// Columns, in order, without those that were dropped.
    pub columns: Vec<Column>,
}

impl Relation {
    /// Its name as SQL takes it, with its schema.
    pub fn sql(&self) -> String {
        format!("{}.{}", crate::target::copy::quoted(&self.schema), crate::target::copy::quoted(&self.name))
    }

    /// Its name as the server writes it: quoted where it must be.
    pub fn written(&self) -> String {
        let plain = |name: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
        };
        let part = |name: &str| if plain(name) { name.to_string() } else { crate::target::copy::quoted(name) };
        format!("{}.{}", part(&self.schema), part(&self.name))
    }

    /// Its name as people read it.
    pub fn label(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column of that number.
    pub fn column_numbered(&self, number: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.number == number)
    }

    /// True when a storage option is set to something that is not off.
    pub fn has_option(&self, name: &str) -> bool {
        self.options.iter().any(|option| match option.split_once('=') {
            Some((key, value)) => key == name && matches!(value, "true" | "on" | "1" | "yes" | "local" | "cascaded"),
            None => option == name,
        })
    }
}

/// A column.
#[derive(Clone, Debug, FromRow)]
pub struct Column {
    #[sqlx(rename = "relation")]
    relation: Oid,
    /// Its number in its relation.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type, as SQL spells it.
    pub type_name: String,
    /// The letter of `pg_type.typtype`: `b` base, `e` enum, `d` domain, `c` composite, `r` range.
    pub type_kind: String,
    /// The letter of `pg_type.typcategory` of the type below a domain.
    pub type_category: String,
    /// The first label of an enum.
    pub first_label: Option<String>,
    /// `NOT NULL`.
    pub not_null: bool,
    /// True for an identity column.
    pub identity: bool,
    /// True for a generated column.
    pub generated: bool,
    /// Its default, or what generates it.
    pub default: Option<String>,
}

/// A rule that is not a view's.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its relation.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// What it is on; none for SELECT.
    pub command: Command,
    /// `DO INSTEAD`.
    pub instead: bool,
    /// The whole rule, as SQL.
    pub definition: String,
}

pub(super) async fn schemas(connection: &mut PgConnection) -> Result<BTreeMap<Oid, Schema>> {
    let query = format!(
        "SELECT n.oid::int8, n.nspname::text AS name, n.nspowner::int8 AS owner, e.extname::text AS extension \
         FROM pg_namespace n \
         LEFT JOIN pg_depend d ON d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e' \
         LEFT JOIN pg_extension e ON e.oid = d.refobjid WHERE {OURS}"
    );
    let found: Vec<Schema> = read::all(connection, "schemas", &query).await?;
    Ok(found.into_iter().map(|schema| (schema.oid, schema)).collect())
}

#[derive(FromRow)]
struct RelationRow {
    oid: Oid,
    schema_oid: Oid,
    schema: String,
    name: String,
    kind: String,
    owner: Oid,
    row_security: bool,
    force_row_security: bool,
    options: Vec<String>,
    is_partition: bool,
    extension: Option<String>,
    server: Option<String>,
    owned_by: Option<Oid>,
    definition: Option<String>,
    rows_estimated: f32,
}

pub(super) async fn relations(connection: &mut PgConnection) -> Result<BTreeMap<Oid, Relation>> {
    let query = format!(
        "SELECT c.oid::int8, n.oid::int8 AS schema_oid, n.nspname::text AS schema, c.relname::text AS name, \
         c.relkind::text AS kind, c.relowner::int8 AS owner, c.relrowsecurity AS row_security, \
         c.relforcerowsecurity AS force_row_security, coalesce(c.reloptions, '{{}}') AS options, \
         c.relispartition AS is_partition, e.extname::text AS extension, s.srvname::text AS server, \
         o.refobjid::int8 AS owned_by, c.reltuples AS rows_estimated, \
         CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e' \
         LEFT JOIN pg_extension e ON e.oid = d.refobjid \
         LEFT JOIN pg_depend o ON c.relkind = 'S' AND o.classid = 'pg_class'::regclass AND o.objid = c.oid \
           AND o.refclassid = 'pg_class'::regclass AND o.deptype IN ('a', 'i') \
         LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {OURS}"
    );
    let found: Vec<RelationRow> = read::all(connection, "relations", &query).await?;
    let relation = |row: RelationRow| Relation {
        oid: row.oid,
        schema_oid: row.schema_oid,
        schema: row.schema,
        name: row.name,
        kind: Kind::of(&row.kind),
        owner: row.owner,
        row_security: row.row_security,
        force_row_security: row.force_row_security,
        options: row.options,
        is_partition: row.is_partition,
        parents: Vec::new(),
        extension: row.extension,
        server: row.server,
        owned_by: row.owned_by,
        definition: row.definition,
        rows_estimated: row.rows_estimated,
        columns: Vec::new(),
    };
    Ok(found.into_iter().map(|row| (row.oid, relation(row))).collect())
}

pub(super) async fn columns(connection: &mut PgConnection, relations: &mut BTreeMap<Oid, Relation>) -> Result<()> {
    let query = format!(
        "SELECT a.attrelid::int8 AS relation, a.attnum AS number, a.attname::text AS name, \
         format_type(a.atttypid, a.atttypmod) AS type_name, t.typtype::text AS type_kind, \
         coalesce(b.typcategory, t.typcategory)::text AS type_category, \
         CASE WHEN t.typtype = 'e' THEN (SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = t.oid \
           ORDER BY l.enumsortorder LIMIT 1) END AS first_label, \
         a.attnotnull AS not_null, a.attidentity <> '' AS identity, a.attgenerated <> '' AS generated, \
         pg_get_expr(d.adbin, d.adrelid) AS \"default\" \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype \
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {OURS} \
         ORDER BY a.attrelid, a.attnum"
    );
    let found: Vec<Column> = read::all(connection, "columns", &query).await?;
    for column in found {
        if let Some(relation) = relations.get_mut(&column.relation) {
            relation.columns.push(column);
        }
    }
    Ok(())
}

pub(super) async fn parents(connection: &mut PgConnection, relations: &mut BTreeMap<Oid, Relation>) -> Result<()> {
    let query = "SELECT inhrelid::int8, inhparent::int8 FROM pg_inherits ORDER BY inhrelid, inhseqno";
    let found: Vec<(Oid, Oid)> = read::all(connection, "inheritance", query).await?;
    for (child, parent) in found {
        if let Some(relation) = relations.get_mut(&child) {
            relation.parents.push(parent);
        }
    }
    Ok(())
}

#[derive(FromRow)]
struct RuleRow {
    relation: Oid,
    name: String,
    command: String,
    instead: bool,
    definition: String,
}

pub(super) async fn rules(connection: &mut PgConnection) -> Result<Vec<Rule>> {
    let query = format!(
        "SELECT r.ev_class::int8 AS relation, r.rulename::text AS name, r.ev_type::text AS command, \
         r.is_instead AS instead, pg_get_ruledef(r.oid) AS definition FROM pg_rewrite r \
         JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE r.rulename <> '_RETURN' AND {OURS}"
    );
    let found: Vec<RuleRow> = read::all(connection, "rules", &query).await?;
    let command = |letter: &str| match letter {
        "1" => Command::Select,
        "2" => Command::Update,
        "3" => Command::Insert,
        _ => Command::Delete,
    };
    let rule = |row: RuleRow| Rule {
        relation: row.relation,
        name: row.name,
        command: command(&row.command),
        instead: row.instead,
        definition: row.definition,
    };
    Ok(found.into_iter().map(rule).collect())
}

type Edges = BTreeMap<Oid, BTreeSet<Oid>>;

/// What views, materialised views and rules read, and what they call.
pub(super) async fn dependencies(connection: &mut PgConnection) -> Result<(Edges, Edges)> {
    let query = "SELECT DISTINCT r.ev_class::int8, d.refobjid::int8, d.refclassid = 'pg_proc'::regclass \
         FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid \
         WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass) \
         AND d.refobjid <> r.ev_class AND r.ev_class >= 16384";
    let found: Vec<(Oid, Oid, bool)> = read::all(connection, "dependencies", query).await?;
    let (mut reads, mut calls) = (Edges::new(), Edges::new());
    for (from, to, called) in found {
        let edges = if called { &mut calls } else { &mut reads };
        edges.entry(from).or_default().insert(to);
    }
    Ok((reads, calls))
}
