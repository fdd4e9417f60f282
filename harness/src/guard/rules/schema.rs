//! Tables without a wall, and what cannot have one.

use crate::error::Result;
use crate::guard::catalog::{Kind, Privilege, Relation};
use crate::guard::finding::{Certainty, Object};
use crate::guard::review::{Draft, Review, listed, relation_object};
use crate::target::copy::quoted;

pub(super) fn check(review: &mut Review<'_>) -> Result<()> {
    for table in review.tables() {
        unguarded(review, table)?;
        not_forced(review, table)?;
    }
    let relations: Vec<&Relation> = review.catalog.relations.values().collect();
    for relation in relations {
        match relation.kind {
            Kind::Foreign => foreign(review, relation)?,
            Kind::Sequence => sequence(review, relation)?,
            _ => {}
        }
    }
    publications(review)?;
    large_objects(review)
}

fn unguarded(review: &mut Review<'_>, table: &Relation) -> Result<()> {
    if table.row_security {
        return Ok(());
    }
    for role in review.roles() {
        let rights = review.rights(role.oid, table);
        if rights.is_empty() {
            continue;
        }
        let known = review.tenancy.table(table.oid);
        let guarded = |parent: &i64| review.catalog.relations.get(parent).is_some_and(|parent| parent.row_security);
        let rule = match () {
            () if table.parents.iter().any(guarded) => "schema/partition-open",
            () if known.is_some_and(|known| known.directory) => "schema/directory-open",
            () => "schema/row-security-off",
        };
        let policies = review.catalog.policies_of(table.oid).count();
        let mut evidence = vec![format!("{} holds {} on it", role.name, listed(&rights))];
        evidence.extend(known.map(|known| known.because.clone()));
        if policies > 0 {
            evidence.push(format!("{policies} policies are there and count for nothing"));
        }
        let name = table.sql();
        let mut remedy =
            format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {name} FORCE ROW LEVEL SECURITY;");
        match review.condition(table) {
            Some(condition) if policies == 0 => {
                remedy.push_str(&format!(
                    "\nCREATE POLICY own_tenant ON {name} USING ({condition}) WITH CHECK ({condition});"
                ));
            }
            None if policies == 0 => remedy.push_str("\n-- and a policy that asks the table that its rows refer to"),
            _ => {}
        }
        let sentence = match rule {
            "schema/partition-open" => {
                format!(
                    "{}, named directly, shows the rows of every tenant: its parent's policies do not count there",
                    table.label()
                )
            }
            "schema/directory-open" => format!("{} lists the tenants, and shows each to all the others", table.label()),
            _ => format!("{} holds rows of tenants and has no row security", table.label()),
        };
        let object = relation_object(table);
        review.keep(Draft { rule, object, certainty: Certainty::Inferred, sentence, evidence, remedy })?;
    }
    Ok(())
}

fn not_forced(review: &mut Review<'_>, table: &Relation) -> Result<()> {
    if !table.row_security || table.force_row_security {
        return Ok(());
    }
    review.keep(Draft {
        rule: "schema/not-forced",
        object: relation_object(table),
        certainty: Certainty::Inferred,
        sentence: format!("row security on {} does not hold for its owner", table.label()),
        evidence: vec![format!("its owner is {}", review.catalog.role_name(table.owner))],
        remedy: format!("ALTER TABLE {} FORCE ROW LEVEL SECURITY;", table.sql()),
    })
}

fn foreign(review: &mut Review<'_>, relation: &Relation) -> Result<()> {
    let tenants = review.tenancy.is_tenant_table(relation.oid);
    for role in review.roles() {
        let rights = review.rights(role.oid, relation);
        if rights.is_empty() {
            continue;
        }
        let server = relation.server.as_deref().unwrap_or("another server");
        review.keep(Draft {
            rule: "schema/foreign-table",
            object: relation_object(relation),
            certainty: if tenants { Certainty::Inferred } else { Certainty::Suspected },
            sentence: format!(
                "{} is on server {server}: it can have no row security, and the tenant context does not travel there",
                relation.label()
            ),
            evidence: vec![format!("{} holds {} on it", role.name, listed(&rights))],
            remedy: format!("REVOKE ALL ON {} FROM {};", relation.sql(), quoted(&role.name)),
        })?;
    }
    Ok(())
}

fn sequence(review: &mut Review<'_>, sequence: &Relation) -> Result<()> {
    let drawn = format!("nextval('{}'", sequence.written());
    let numbers = |table: &&Relation| {
        let drawn =
            table.columns.iter().any(|c| c.default.as_deref().is_some_and(|default| default.starts_with(&drawn)));
        sequence.owned_by == Some(table.oid) || drawn
    };
    let Some(table) = review.tables().into_iter().find(numbers) else { return Ok(()) };
    for role in review.roles() {
        if !review.catalog.may_use_schema(role.oid, sequence.schema_oid) {
            continue;
        }
        let reads = review.catalog.may(role.oid, Privilege::Select, sequence.oid);
        let draws = review.catalog.may(role.oid, Privilege::Usage, sequence.oid)
            || review.rights(role.oid, table).contains(&Privilege::Insert);
        let rule = match (reads, draws) {
            (true, _) => "schema/sequence-visible",
            (false, true) => "schema/sequence-shared",
            (false, false) => continue,
        };
        let can = if reads { "may read how far it has come" } else { "sees the gaps between its own numbers" };
        review.keep(Draft {
            rule,
            object: relation_object(sequence),
            certainty: Certainty::Inferred,
            sentence: format!(
                "{} numbers the rows of all tenants in {}, and so tells how many there are",
                sequence.label(),
                table.label()
            ),
            evidence: vec![format!("{} {can}", role.name)],
            remedy: format!(
                "REVOKE SELECT ON SEQUENCE {} FROM {};\n-- better: number each tenant's rows by themselves, or by uuid",
                sequence.sql(),
                quoted(&role.name)
            ),
        })?;
    }
    Ok(())
}

fn publications(review: &mut Review<'_>) -> Result<()> {
    let publications: Vec<_> = review.catalog.publications.iter().collect();
    for publication in publications {
        let object = Object { schema: None, name: publication.name.clone(), kind: "publication".into() };
        let table = publication
            .table
            .as_deref()
            .and_then(|table| review.catalog.relation_named(publication.schema.as_deref(), table));
        let Some(table) = table.filter(|table| review.tenancy.is_tenant_table(table.oid)) else { continue };
        if publication.row_filter.is_some() {
            continue;
        }
        let remedy = if publication.all_tables {
            format!(
                "DROP PUBLICATION {};\n-- then publish the tables that are no tenant's, by name",
                quoted(&publication.name)
            )
        } else {
            format!("ALTER PUBLICATION {} DROP TABLE {};", quoted(&publication.name), table.sql())
        };
        review.keep(Draft {
            rule: "schema/publication",
            object,
            certainty: Certainty::Inferred,
            sentence: format!("publication {} hands every tenant's rows to whoever subscribes", publication.name),
            evidence: vec![format!("it publishes {} without a row filter", table.label())],
            remedy,
        })?;
    }
    Ok(())
}

fn large_objects(review: &mut Review<'_>) -> Result<()> {
    for role in review.roles() {
        let held = review.catalog.inherited(role.oid);
        let count: i64 = review.catalog.large_objects.iter().filter(|o| held.contains(&o.owner)).map(|o| o.count).sum();
        if count == 0 {
            continue;
        }
        review.keep(Draft {
            rule: "schema/large-objects",
            object: crate::guard::review::role_object(role),
            certainty: Certainty::Inferred,
            sentence: format!(
                "{} owns {count} large objects, and whoever serves any tenant reads each by its number",
                role.name
            ),
            evidence: vec!["large objects have no row security".into()],
            remedy: "-- keep such data in a bytea column of a tenant's table, or outside the database".into(),
        })?;
    }
    Ok(())
}
