//! Constraints whose answer to one tenant depends on what another has.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::guard::catalog::{Command, ConstraintKind, Privilege, Relation};
use crate::guard::finding::Certainty;
use crate::guard::review::{Draft, Review, relation_object};
use crate::target::copy::quoted;

pub(super) fn check(review: &mut Review<'_>) -> Result<()> {
    for table in review.tables() {
        // A partition's and a child's keys are its parent's.
        if table.is_partition {
            continue;
        }
        keys(review, table)?;
        references(review, table)?;
        indexes(review, table)?;
    }
    Ok(())
}

/// The columns that tell the tenant: its own, or those that refer to the row whose tenant is this row's.
fn telling(review: &Review<'_>, table: &Relation) -> BTreeSet<i16> {
    let own = review.tenancy.column_of(table.oid).and_then(|column| table.column(column));
    if let Some(own) = own {
        return BTreeSet::from([own.number]);
    }
    let keys = review.catalog.constraints.iter().filter(|key| {
        key.relation == table.oid
            && key.kind == ConstraintKind::Foreign
            && key.references.is_some_and(|to| review.tenancy.is_tenant_table(to))
    });
    keys.flat_map(|key| key.columns.iter().copied()).collect()
}

/// Nobody hits upon a value of such a column by chance.
fn unguessable(table: &Relation, column: i16) -> bool {
    table.column_numbered(column).is_some_and(|column| matches!(column.type_name.as_str(), "uuid" | "bytea"))
}

/// Numbers that the database deals out.
fn dealt(table: &Relation, column: i16) -> bool {
    table.column_numbered(column).is_some_and(|column| {
        column.identity || column.default.as_deref().is_some_and(|default| default.starts_with("nextval("))
    })
}

fn keys(review: &mut Review<'_>, table: &Relation) -> Result<()> {
    let telling = telling(review, table);
    let indexes: Vec<_> = review
        .catalog
        .indexes
        .iter()
        .filter(|index| index.relation == table.oid && (index.unique || index.exclusion))
        .collect();
    for index in indexes {
        if index.columns.iter().any(|column| telling.contains(column) || unguessable(table, *column)) {
            continue;
        }
        let by_chance = !index.exclusion && index.columns.iter().all(|column| dealt(table, *column));
        let writer = review.roles().into_iter().find(|role| {
            [Privilege::Insert, Privilege::Update].into_iter().any(|privilege| {
                index.columns.iter().any(|column| match column {
                    0 => review.rights(role.oid, table).contains(&privilege),
                    column => {
                        review.catalog.may_use_schema(role.oid, table.schema_oid)
                            && review.catalog.may_column(role.oid, privilege, table.oid, *column)
                    }
                })
            })
        });
        let Some(writer) = writer else { continue };
        let rule = match (index.exclusion, by_chance) {
            (true, _) => "constraint/exclusion-across-tenants",
            (false, true) => "constraint/number-across-tenants",
            (false, false) => "constraint/unique-across-tenants",
        };
        let tenant = review.tenancy.column_of(table.oid).unwrap_or("the tenant's column");
        review.keep(Draft {
            rule,
            object: relation_object(table),
            certainty: Certainty::Inferred,
            sentence: format!(
                "{} is over all tenants of {}: whether a value is taken tells what others have",
                index.name,
                table.label()
            ),
            evidence: vec![index.definition.clone(), format!("{} may write what it is over", writer.name)],
            remedy: format!(
                "-- add {tenant} as the first column of {}:\nDROP INDEX {}.{}; -- or its constraint, and make it again",
                index.name,
                quoted(&table.schema),
                quoted(&index.name)
            ),
        })?;
    }
    Ok(())
}

fn references(review: &mut Review<'_>, table: &Relation) -> Result<()> {
    let telling = telling(review, table);
    if review.tenancy.column_of(table.oid).is_none() {
        // The row is its parent's tenant's: the wall of the table decides to whom it may refer.
        return Ok(());
    }
    let keys: Vec<_> = review
        .catalog
        .constraints
        .iter()
        .filter(|key| key.relation == table.oid && key.kind == ConstraintKind::Foreign)
        .collect();
    for key in keys {
        let Some(parent) = key.references.and_then(|parent| review.catalog.relations.get(&parent)) else { continue };
        let known = review.tenancy.table(parent.oid);
        let across =
            known.is_some_and(|known| !known.directory || !key.columns.iter().any(|column| telling.contains(column)));
        if !across || key.columns.iter().any(|column| telling.contains(column)) {
            continue;
        }
        let writer = review.roles().into_iter().find(|role| {
            review.catalog.may_use_schema(role.oid, table.schema_oid)
                && key.columns.iter().any(|column| {
                    [Privilege::Insert, Privilege::Update]
                        .into_iter()
                        .any(|p| review.catalog.may_column(role.oid, p, table.oid, *column))
                })
        });
        let Some(writer) = writer else { continue };
        // A policy that looks the parent up has decided already.
        let names: Vec<&str> =
            key.columns.iter().filter_map(|column| Some(table.column_numbered(*column)?.name.as_str())).collect();
        let checked = review.catalog.policies_of(table.oid).filter_map(|policy| policy.checked(Command::Insert));
        if checked.into_iter().any(|text| text.contains(&parent.name) && names.iter().all(|name| text.contains(name))) {
            continue;
        }
        let tenant = review.tenancy.column_of(table.oid).unwrap_or_default();
        let there = review.tenancy.column_of(parent.oid).unwrap_or("its tenant's column");
        let list = |first: &str, rest: &[&str]| {
            std::iter::once(first).chain(rest.iter().copied()).map(quoted).collect::<Vec<_>>().join(", ")
        };
        let referred: Vec<&str> = key
            .referenced_columns
            .iter()
            .filter_map(|column| Some(parent.column_numbered(*column)?.name.as_str()))
            .collect();
        review.keep(Draft {
            rule: "constraint/reference-across-tenants",
            object: relation_object(table),
            certainty: Certainty::Inferred,
            sentence: format!("a row of {} may refer to another tenant's row of {}, and the answer tells whether that exists", table.label(), parent.label()),
            evidence: vec![format!("{}: {}", key.name, key.definition), format!("{} may write {}", writer.name, names.join(", "))],
            remedy: format!(
                "ALTER TABLE {} ADD UNIQUE ({});\nALTER TABLE {} DROP CONSTRAINT {}, ADD FOREIGN KEY ({}) REFERENCES {} ({});",
                parent.sql(),
                list(there, &referred),
                table.sql(),
                quoted(&key.name),
                list(tenant, &names),
                parent.sql(),
                list(there, &referred)
            ),
        })?;
    }
    Ok(())
}

/// Without an index that begins with the tenant, a policy reads every tenant's rows to find one's.
fn indexes(review: &mut Review<'_>, table: &Relation) -> Result<()> {
    let Some(column) = review.tenancy.column_of(table.oid).and_then(|column| table.column(column)) else {
        return Ok(());
    };
    let leads = |index: &crate::guard::catalog::Index| {
        index.relation == table.oid && index.columns.first() == Some(&column.number)
    };
    if !table.row_security || review.catalog.indexes.iter().any(leads) {
        return Ok(());
    }
    review.keep(Draft {
        rule: "constraint/tenant-not-indexed",
        object: relation_object(table),
        certainty: Certainty::Inferred,
        sentence: format!(
            "no index of {} begins with {}: every tenant waits for the rows of all",
            table.label(),
            column.name
        ),
        evidence: Vec::new(),
        remedy: format!("CREATE INDEX ON {} ({});", table.sql(), quoted(&column.name)),
    })
}
