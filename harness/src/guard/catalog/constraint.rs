//! Constraints and indexes: where the answer to one tenant depends on what another has.

use sqlx::{FromRow, PgConnection};

use super::Oid;
use super::read::{self, OURS};
use crate::error::Result;

/// What a constraint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstraintKind {
    /// `PRIMARY KEY`.
    Primary,
    /// `UNIQUE`.
    Unique,
    /// `EXCLUDE`.
    Exclusion,
    /// `FOREIGN KEY`.
    Foreign,
    /// `CHECK`.
    Check,
}

/// A constraint.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// Its table.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ConstraintKind,
    /// The columns' numbers; 0 for an expression.
    pub columns: Vec<i16>,
    /// The table that a foreign key refers to.
    pub references: Option<Oid>,
    /// The columns' numbers there, in the same order.
    pub referenced_columns: Vec<i16>,
    /// The index that stands behind it.
    pub index: Option<Oid>,
    /// As SQL.
    pub definition: String,
}

/// An index.
#[derive(Clone, Debug, FromRow)]
pub struct Index {
    /// Its number.
    pub oid: Oid,
    /// Its table.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// True when it admits a key once.
    pub unique: bool,
    /// True for a primary key's.
    pub primary: bool,
    /// True for an exclusion constraint's.
    pub exclusion: bool,
    /// The key columns' numbers; 0 for an expression.
    pub columns: Vec<i16>,
    /// `btree`, `gin`, …
    pub method: String,
    /// As SQL.
    pub definition: String,
}

#[derive(FromRow)]
struct ConstraintRow {
    relation: Oid,
    name: String,
    kind: String,
    columns: Vec<i16>,
    references: Option<Oid>,
    referenced_columns: Vec<i16>,
    index: Option<Oid>,
    definition: String,
}

pub(super) async fn constraints(connection: &mut PgConnection) -> Result<Vec<Constraint>> {
    let query = format!(
        "SELECT k.conrelid::int8 AS relation, k.conname::text AS name, k.contype::text AS kind, \
         coalesce(k.conkey, '{{}}') AS columns, nullif(k.confrelid, 0)::int8 AS \"references\", \
         coalesce(k.confkey, '{{}}') AS referenced_columns, nullif(k.conindid, 0)::int8 AS \"index\", \
         pg_get_constraintdef(k.oid) AS definition \
         FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE k.contype IN ('p', 'u', 'x', 'f', 'c') AND {OURS}"
    );
    let found: Vec<ConstraintRow> = read::all(connection, "constraints", &query).await?;
    let kind = |letter: &str| match letter {
        "p" => ConstraintKind::Primary,
        "u" => ConstraintKind::Unique,
        "x" => ConstraintKind::Exclusion,
        "f" => ConstraintKind::Foreign,
        _ => ConstraintKind::Check,
    };
    let constraint = |row: ConstraintRow| Constraint {
        relation: row.relation,
        name: row.name,
        kind: kind(&row.kind),
        columns: row.columns,
        references: row.references,
        referenced_columns: row.referenced_columns,
        index: row.index,
        definition: row.definition,
    };
    Ok(found.into_iter().map(constraint).collect())
}

pub(super) async fn indexes(connection: &mut PgConnection) -> Result<Vec<Index>> {
    let query = format!(
        "SELECT i.indexrelid::int8 AS oid, i.indrelid::int8 AS relation, x.relname::text AS name, \
         i.indisunique AS \"unique\", i.indisprimary AS \"primary\", i.indisexclusion AS exclusion, \
         (string_to_array(i.indkey::text, ' ')::int2[])[1:i.indnkeyatts] AS columns, m.amname::text AS method, \
         pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
         JOIN pg_am m ON m.oid = x.relam JOIN pg_class c ON c.oid = i.indrelid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.indislive AND c.relkind IN ('r', 'p', 'm') AND {OURS}"
    );
    read::all(connection, "indexes", &query).await
}
