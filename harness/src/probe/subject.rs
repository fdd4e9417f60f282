//! What the probe reaches for: a relation or a routine of the database, as far as planting and trying need to know it.

use serde::{Deserialize, Serialize};

use crate::target::copy::quoted;

/// What a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An ordinary table.
    Table,
    /// A table that is kept in partitions.
    Partitioned,
    /// A partition, or a child by inheritance.
    Partition,
    /// A view.
    View,
    /// A materialised view.
    Materialised,
    /// A table on another server.
    Foreign,
    /// A sequence.
    Sequence,
    /// A function or procedure.
    Routine,
}

impl Kind {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Partitioned => "partitioned table",
            Self::Partition => "partition",
            Self::View => "view",
            Self::Materialised => "materialised view",
            Self::Foreign => "foreign table",
            Self::Sequence => "sequence",
            Self::Routine => "function",
        }
    }

    /// True where rows themselves are kept.
    pub fn is_leaf(self) -> bool {
        matches!(self, Self::Table | Self::Partition)
    }

    /// True where rows are kept under a wall of its own.
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Partitioned | Self::Partition)
    }
}

/// One column.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, with its modifiers.
    pub kind: String,
    /// The type below a domain; the same as `kind` elsewhere.
    pub base: String,
    /// True where it must hold something.
    pub not_null: bool,
    /// True where the database has a value for it.
    pub has_default: bool,
    /// True where the database makes its value, and no other.
    pub generated: bool,
    /// True for an identity that takes no value of the caller's.
    pub always: bool,
    /// The labels of an enumeration.
    pub labels: Vec<String>,
    /// True where the database role may read it.
    pub may_select: bool,
    /// True where the database role may give it.
    pub may_insert: bool,
    /// True where the database role may change it.
    pub may_update: bool,
}

impl Column {
    /// Quoted for SQL.
    pub fn sql(&self) -> String {
        quoted(&self.name)
    }
}

/// A key of which no two rows may have the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unique {
    /// The constraint's or index's name.
    pub name: String,
    /// Its columns; those of expressions among them.
    pub columns: Vec<String>,
    /// True for a primary key.
    pub primary: bool,
    /// True for an exclusion constraint.
    pub exclusion: bool,
    /// True where it holds for some rows alone.
    pub partial: bool,
}

/// A foreign key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reference {
    /// The constraint's name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The referenced table.
    pub target: i64,
    /// The referenced columns.
    pub target_columns: Vec<String>,
}

/// A condition that every row meets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// The columns it speaks of.
    pub columns: Vec<String>,
    /// The condition as SQL.
    pub expression: String,
}

/// What the database role may do to the whole, some columns of it included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// `USAGE` of its schema.
    pub usage: bool,
    /// `SELECT`.
    pub select: bool,
    /// `INSERT`.
    pub insert: bool,
    /// `UPDATE`.
    pub update: bool,
    /// `DELETE`.
    pub delete: bool,
    /// `TRUNCATE`.
    pub truncate: bool,
}

/// One relation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// Its object identifier; it tells subjects apart in one database.
    pub oid: i64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it is a partition or child of.
    pub parent: Option<i64>,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// The column that names the tenant.
    #[serde(default)]
    pub tenant: Option<String>,
    /// True where a tenant owns its rows.
    #[serde(default)]
    pub owned: bool,
    /// True for one that the configuration calls no tenant's.
    #[serde(default)]
    pub platform: bool,
    /// Its keys.
    pub uniques: Vec<Unique>,
    /// Its foreign keys.
    pub references: Vec<Reference>,
    /// Its checks, and its partition's bounds.
    pub checks: Vec<Check>,
    /// What its policies say, as SQL.
    pub policies: Vec<String>,
    /// Its owner.
    pub owner: String,
    /// True where something of the database's own happens when it is written to.
    pub triggers: bool,
    /// What its triggers' functions say.
    #[serde(default)]
    pub happens: Vec<String>,
    /// What the database role may do.
    pub rights: Rights,
    /// True for a sequence that fills a column without a grant of its own.
    #[serde(default)]
    pub identity: bool,
}

impl Subject {
    /// Quoted and qualified for SQL.
    pub fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// Qualified for a reader.
    pub fn title(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns that tell one row from another: of the primary key, else of the first whole key, else all.
    pub fn key(&self) -> Vec<&str> {
        let whole = |unique: &&Unique| !unique.partial && !unique.exclusion && !unique.columns.is_empty();
        let key = self.uniques.iter().find(|unique| unique.primary).or_else(|| self.uniques.iter().find(whole));
        match key {
            Some(key) => key.columns.iter().map(String::as_str).collect(),
            None => self.columns.iter().map(|column| column.name.as_str()).collect(),
        }
    }

    /// True for the table that has one row a tenant: its key is what names the tenant.
    pub fn is_root(&self) -> bool {
        let Some(tenant) = &self.tenant else { return false };
        self.uniques.iter().any(|unique| !unique.partial && !unique.exclusion && unique.columns == [tenant.clone()])
    }

    /// True for a table of nobody's in which the database role may put a document, and read it.
    pub fn is_shared(&self) -> bool {
        let document = |column: &Column| column.base.starts_with("json") && column.may_select && column.may_insert;
        let open = self.rights.usage && self.rights.select && self.rights.insert;
        self.kind.is_leaf() && !self.owned && !self.platform && open && self.columns.iter().any(document)
    }

    /// The statements that fill a materialised view anew with all rows there are; `all` where the privileged role may stand in
    /// for its owner, whom row security may leave nothing.
    pub fn refreshed(&self, all: bool) -> String {
        let refresh = format!("REFRESH MATERIALIZED VIEW {}", self.sql());
        if !all {
            return refresh;
        }
        let owned = |by: &str| format!("ALTER MATERIALIZED VIEW {} OWNER TO {by}", self.sql());
        [owned("CURRENT_USER"), refresh, owned(&quoted(&self.owner))].join("; ")
    }

    /// A column that may be changed, the less depends on it the better.
    pub fn changeable(&self) -> Option<&Column> {
        let bound = |name: &str| {
            self.uniques.iter().any(|unique| unique.columns.iter().any(|column| column == name))
                || self.references.iter().any(|reference| reference.columns.iter().any(|column| column == name))
        };
        let open = |column: &&Column| column.may_update && !column.generated && !column.always;
        let free =
            |column: &&Column| open(column) && !bound(&column.name) && self.tenant.as_ref() != Some(&column.name);
        self.columns.iter().find(free).or_else(|| self.columns.iter().find(open))
    }
}

/// A routine that the database role may call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Routine {
    /// Its object identifier.
    pub oid: i64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Names of its arguments; empty where they have none.
    pub arguments: Vec<String>,
    /// Types of its arguments.
    pub types: Vec<String>,
    /// How many of the last ones may be left out.
    pub defaults: usize,
    /// True where it runs with its owner's rights.
    pub definer: bool,
    /// True for a procedure.
    pub procedure: bool,
    /// True where it may change what is kept.
    pub volatile: bool,
    /// True where its text binds a setting.
    pub binds: bool,
}

impl Routine {
    /// Its call.
    pub fn call(&self, arguments: &[String]) -> String {
        let name = format!("{}.{}", quoted(&self.schema), quoted(&self.name));
        let arguments: Vec<String> =
            arguments.iter().zip(&self.types).map(|(value, kind)| format!("{value}::{kind}")).collect();
        let arguments = arguments.join(", ");
        if self.procedure { format!("CALL {name}({arguments})") } else { format!("SELECT * FROM {name}({arguments})") }
    }

    /// Qualified for a reader.
    pub fn title(&self) -> String {
        format!("{}.{}({})", self.schema, self.name, self.types.join(", "))
    }
}

/// A literal of SQL.
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
