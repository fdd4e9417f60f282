//! What the database roles of the application can do to whose rows: relation × command.

use super::catalog::{Catalog, Command, Kind, Oid, Privilege, Relation};
use super::expression::{Bound, Evaluator, Whose};
use super::finding::Certainty;
use super::report::Report;
use super::tenancy::Tenancy;
use crate::requirement::Severity;

/// The commands of the matrix, by the privilege that each needs.
pub const COMMANDS: [Privilege; 5] =
    [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete, Privilege::Truncate];

/// Whose rows a command can touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nobody's: the privilege is not there.
    Nothing,
    /// The bound tenant's alone.
    Own,
    /// Reading cannot decide.
    Undecided,
    /// Another tenant's too.
    Others,
}

impl Reach {
    /// What a legend lists.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Own, Self::Undecided, Self::Others];

    /// A shape that can be told without its colour.
    pub fn shape(self) -> char {
        match self {
            Self::Nothing => '·',
            Self::Own => '●',
            Self::Undecided => '?',
            Self::Others => '✗',
        }
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Own => "its own rows",
            Self::Undecided => "cannot be told by reading",
            Self::Others => "other tenants' rows too",
        }
    }
}

/// The matrix of a database.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// A table for each database role of the application.
    pub roles: Vec<RoleReach>,
}

/// What one database role can do.
#[derive(Clone, Debug)]
pub struct RoleReach {
    /// Its name.
    pub name: String,
    /// The relations that are tenants' and those that it holds something on.
    pub rows: Vec<Row>,
}

/// One relation.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name, with the schema.
    pub relation: String,
    /// `table`, `view`.
    pub kind: &'static str,
    /// As [`COMMANDS`].
    pub reaches: [Reach; 5],
}

impl Matrix {
    /// The matrix of what was read and found.
    pub fn of(catalog: &Catalog, tenancy: &Tenancy, report: &Report) -> Self {
        let one = |role: Oid| {
            let shown = |relation: &&Relation| match relation.kind {
                Kind::Sequence => false,
                kind if kind.is_table() => tenancy.is_tenant_table(relation.oid),
                _ => COMMANDS.iter().any(|privilege| catalog.may_in_part(role, *privilege, relation.oid)),
            };
            let mut rows: Vec<Row> = catalog
                .relations
                .values()
                .filter(shown)
                .map(|relation| Row {
                    relation: relation.label(),
                    kind: relation.kind.word(),
                    reaches: COMMANDS.map(|privilege| reach(catalog, tenancy, report, role, relation, privilege)),
                })
                .collect();
            rows.sort_by(|a, b| a.relation.cmp(&b.relation));
            RoleReach { name: catalog.role_name(role).into(), rows }
        };
        Self { roles: tenancy.application.iter().map(|role| one(role.oid)).collect() }
    }
}

fn reach(
    catalog: &Catalog,
    tenancy: &Tenancy,
    report: &Report,
    role: Oid,
    relation: &Relation,
    privilege: Privilege,
) -> Reach {
    if !catalog.may_use_schema(role, relation.schema_oid) || !catalog.may_in_part(role, privilege, relation.oid) {
        return Reach::Nothing;
    }
    let command = match privilege {
        _ if !relation.kind.is_table() => return found(report, relation),
        Privilege::Insert => Command::Insert,
        Privilege::Update => Command::Update,
        Privilege::Delete => Command::Delete,
        Privilege::Select => Command::Select,
        // Row security does not apply to it.
        _ => return Reach::Others,
    };
    if !relation.row_security || catalog.bypasses(role, relation) {
        return Reach::Others;
    }
    let mut worst = Reach::Own;
    for bound in [Bound::Tenant, Bound::Unset, Bound::Empty] {
        let evaluator = Evaluator::new(catalog, tenancy, role, bound);
        let there = (command != Command::Insert).then(|| evaluator.lets(relation, command, &Whose::Foreign));
        let new = matches!(command, Command::Insert | Command::Update)
            .then(|| evaluator.accepts(relation, command, &Whose::Foreign));
        for truth in there.into_iter().chain(new) {
            let one = match () {
                () if truth.is_true() => Reach::Others,
                () if truth.may_be_true() => Reach::Undecided,
                () => Reach::Own,
            };
            worst = worst.max(one);
        }
    }
    worst
}

/// Of what has no policies of its own, what was found says it.
fn found(report: &Report, relation: &Relation) -> Reach {
    let about = report.findings.iter().filter(|finding| {
        finding.severity != Severity::Info
            && finding.object.schema.as_ref() == Some(&relation.schema)
            && finding.object.name == relation.name
    });
    let reach = |certainty| if certainty == Certainty::Suspected { Reach::Undecided } else { Reach::Others };
    about.map(|finding| reach(finding.certainty)).max().unwrap_or(Reach::Own)
}
