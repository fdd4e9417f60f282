//! Privileges on objects, as access control lists have them, defaults spelt out.

use sqlx::{FromRow, PgConnection};

use super::Oid;
use super::read::{self, OURS};
use crate::error::Result;

/// Who stands for everybody in an access control list.
pub const PUBLIC: Oid = 0;

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privilege {
    /// SELECT.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
    /// REFERENCES.
    References,
    /// TRIGGER.
    Trigger,
    /// MAINTAIN, since 17.
    Maintain,
    /// EXECUTE.
    Execute,
    /// USAGE.
    Usage,
    /// CREATE.
    Create,
    /// CONNECT.
    Connect,
    /// TEMPORARY.
    Temporary,
}

impl Privilege {
    const ALL: [Self; 13] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::References,
        Self::Trigger,
        Self::Maintain,
        Self::Execute,
        Self::Usage,
        Self::Create,
        Self::Connect,
        Self::Temporary,
    ];

    /// As SQL spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::References => "REFERENCES",
            Self::Trigger => "TRIGGER",
            Self::Maintain => "MAINTAIN",
            Self::Execute => "EXECUTE",
            Self::Usage => "USAGE",
            Self::Create => "CREATE",
            Self::Connect => "CONNECT",
            Self::Temporary => "TEMPORARY",
        }
    }

    /// What a newer server may have and this does not know is none.
    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|privilege| privilege.word() == word)
    }
}

/// What kind of object a grant is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A table, view, sequence, or a column of one.
    Relation,
    /// A schema.
    Schema,
    /// A function or procedure.
    Function,
    /// The database that is connected to.
    Database,
}

impl ObjectKind {
    fn of(letter: &str) -> Self {
        match letter {
            "n" => Self::Schema,
            "f" => Self::Function,
            "d" => Self::Database,
            _ => Self::Relation,
        }
    }
}

/// One privilege of one role, or of everybody, on one object.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What kind of object.
    pub kind: ObjectKind,
    /// The object.
    pub object: Oid,
    /// The column's number, of a grant on a column alone.
    pub column: Option<i16>,
    /// Who has it; [`PUBLIC`] for everybody.
    pub grantee: Oid,
    /// What.
    pub privilege: Privilege,
    /// `WITH GRANT OPTION`.
    pub grantable: bool,
}

#[derive(FromRow)]
struct GrantRow {
    kind: String,
    object: Oid,
    column: Option<i16>,
    grantee: Oid,
    privilege: String,
    grantable: bool,
}

pub(super) async fn grants(connection: &mut PgConnection) -> Result<Vec<Grant>> {
    let query = format!(
        "SELECT g.kind, g.object::int8, g.\"column\", x.grantee::int8, x.privilege_type AS privilege, \
         x.is_grantable AS grantable FROM ( \
           SELECT 'r' AS kind, c.oid AS object, NULL::int2 AS \"column\", coalesce(c.relacl, \
             acldefault((CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\", c.relowner)) AS acl \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {OURS} \
           UNION ALL SELECT 'r', c.oid, a.attnum, a.attacl FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND {OURS} \
           UNION ALL SELECT 'n', n.oid, NULL, coalesce(n.nspacl, acldefault('n', n.nspowner)) FROM pg_namespace n WHERE {OURS} \
           UNION ALL SELECT 'f', p.oid, NULL, coalesce(p.proacl, acldefault('f', p.proowner)) \
             FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS} \
           UNION ALL SELECT 'd', d.oid, NULL, coalesce(d.datacl, acldefault('d', d.datdba)) \
             FROM pg_database d WHERE d.datname = current_database()) g, aclexplode(g.acl) x"
    );
    let found: Vec<GrantRow> = read::all(connection, "privileges", &query).await?;
    let grant = |row: GrantRow| {
        Some(Grant {
            kind: ObjectKind::of(&row.kind),
            object: row.object,
            column: row.column,
            grantee: row.grantee,
            privilege: Privilege::of(&row.privilege)?,
            grantable: row.grantable,
        })
    };
    Ok(found.into_iter().filter_map(grant).collect())
}

/// What objects that a role will make are granted: `ALTER DEFAULT PRIVILEGES`.
#[derive(Clone, Debug)]
pub struct DefaultGrant {
    /// Who makes the objects.
    pub maker: Oid,
    /// In which schema; none for every one.
    pub schema: Option<Oid>,
    /// The letter of `pg_default_acl.defaclobjtype`: `r` tables, `S` sequences, `f` functions, `n` schemas, `T` types.
    pub objects: String,
    /// Who will have it; [`PUBLIC`] for everybody.
    pub grantee: Oid,
    /// What.
    pub privilege: Privilege,
}

#[derive(FromRow)]
struct DefaultRow {
    maker: Oid,
    schema: Option<Oid>,
    objects: String,
    grantee: Oid,
    privilege: String,
}

pub(super) async fn default_grants(connection: &mut PgConnection) -> Result<Vec<DefaultGrant>> {
    let query = "SELECT d.defaclrole::int8 AS maker, nullif(d.defaclnamespace, 0)::int8 AS schema, \
         d.defaclobjtype::text AS objects, x.grantee::int8, x.privilege_type AS privilege \
         FROM pg_default_acl d, aclexplode(d.defaclacl) x";
    let found: Vec<DefaultRow> = read::all(connection, "default privileges", query).await?;
    let grant = |row: DefaultRow| {
        Some(DefaultGrant {
            maker: row.maker,
            schema: row.schema,
            objects: row.objects,
            grantee: row.grantee,
            privilege: Privilege::of(&row.privilege)?,
        })
    };
    Ok(found.into_iter().filter_map(grant).collect())
}
