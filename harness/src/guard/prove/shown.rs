//! What a relation or a call shows to a tenant that there is not: every row of it that names a tenant is another's.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::{Answer, binding, put, tenants};
use crate::error::Result;
use crate::guard::catalog::{Catalog, Column, Function, Relation, Volatility};
use crate::guard::finding::Finding;
use crate::guard::tenancy::Tenancy;
use crate::target::copy::quoted;

/// The rules that say that something is shown.
const RULES: [&str; 8] = [
    "schema/row-security-off",
    "schema/partition-open",
    "schema/directory-open",
    "view/shows-others",
    "view/undecided",
    "view/materialised",
    "function/past-the-wall",
    "role/owner-not-forced",
];

/// Let through where the server shows such a row; none where it was not asked, or has no row to show.
pub(super) async fn shown(
    connection: &mut PgConnection,
    catalog: &Catalog,
    tenancy: &Tenancy,
    finding: &Finding,
) -> Result<Option<Answer>> {
    if !RULES.contains(&finding.rule.as_str()) {
        return Ok(None);
    }
    let relation = catalog.relation_named(finding.object.schema.as_deref(), &finding.object.name);
    let called = || catalog.functions.values().find(|function| function.label() == finding.object.label());
    let question = match relation {
        Some(relation) => column_of(catalog, tenancy, relation).map(|column| {
            format!("SELECT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)", relation.sql(), quoted(&column.name))
        }),
        None => called().filter(|function| plain(function)).map(|function| {
            let names: BTreeSet<&str> = tenancy.tables().filter_map(|(_, table)| table.column.as_deref()).collect();
            let names: Vec<String> = names.into_iter().map(super::literal).collect();
            let call = format!("{}.{}()", quoted(&function.schema), quoted(&function.name));
            format!(
                "SELECT EXISTS (SELECT FROM {call} AS x, jsonb_each_text(CASE jsonb_typeof(to_jsonb(x)) WHEN 'object' \
                 THEN to_jsonb(x) ELSE '{{}}' END) AS part WHERE part.key IN ({}) AND part.value IS NOT NULL)",
                names.join(", ")
            )
        }),
    };
    // One that no row has: every kind of tenant's column is told it.
    let id = tenancy.tables().find_map(|(oid, table)| {
        let column = catalog.relations.get(&oid)?.column(table.column.as_deref()?)?;
        tenants(column)?.first()
    });
    let (Some(question), Some(id)) = (question, id) else { return Ok(None) };
    for role in &tenancy.application {
        let bound = binding(tenancy, Some(id));
        if put(connection, catalog.role_name(role.oid), &bound, &question).await? == Answer::LetThrough {
            return Ok(Some(Answer::LetThrough));
        }
    }
    Ok(None)
}

/// The column of a relation, or of a view's tables, that names the tenant.
fn column_of<'a>(catalog: &'a Catalog, tenancy: &Tenancy, relation: &'a Relation) -> Option<&'a Column> {
    let (mut open, mut seen) = (vec![relation.oid], BTreeSet::new());
    while let Some(one) = open.pop() {
        if let Some(column) = tenancy.column_of(one).and_then(|name| relation.column(name)) {
            return Some(column);
        }
        open.extend(catalog.reads.get(&one).into_iter().flatten().filter(|source| seen.insert(**source)));
    }
    None
}

/// One that takes nothing, and promises to change nothing.
fn plain(function: &Function) -> bool {
    function.inputs == function.defaults && function.volatility != Volatility::Volatile && function.kind == "f"
}
