//! What a database's policies, and the views that stand for them, compare with what a session says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::catalog::{Catalog, ConstraintKind, Kind, Oid};
use super::expression::{Comparison, compared_in_calls, comparisons, looked_up, parse, parse_query};

/// What policies compare with a context, by table.
pub(super) fn compared(catalog: &Catalog) -> Vec<(Oid, Comparison)> {
    let mut found = Vec::new();
    let mut known: HashMap<&str, Vec<Comparison>> = HashMap::new();
    for policy in &catalog.policies {
        for text in [policy.using.as_deref(), policy.check.as_deref()].into_iter().flatten() {
            let all =
                known.entry(text).or_insert_with(|| parse(text).map_or_else(Vec::new, |e| comparisons(&e, catalog)));
            let own = catalog.relations.get(&policy.relation).map(|relation| relation.name.as_str());
            // A column of another table's is of that table: the subquery's, not the policy's own.
            for comparison in all {
                match &comparison.table {
                    Some(table) if Some(table.as_str()) != own => {
                        let other = catalog.relation_named(None, table);
                        found.extend(other.map(|relation| (relation.oid, comparison.clone())));
                    }
                    _ => found.push((policy.relation, comparison.clone())),
                }
            }
        }
    }
    found.extend(compared_by_views(catalog));
    found
}

/// A view that is asked in its tables' place has the condition that is a policy elsewhere.
fn compared_by_views(catalog: &Catalog) -> Vec<(Oid, Comparison)> {
    let mut found = Vec::new();
    for view in catalog.relations.values().filter(|view| view.kind == Kind::View && view.extension.is_none()) {
        let Some(query) = view.definition.as_deref().and_then(parse_query) else { continue };
        let sources: Vec<_> =
            catalog.reads.get(&view.oid).into_iter().flatten().filter_map(|oid| catalog.relations.get(oid)).collect();
        for comparison in comparisons(&query, catalog) {
            let named = |name: &String| sources.iter().find(|source| source.name == *name);
            let has = || sources.iter().find(|source| source.column(&comparison.column).is_some());
            let source = comparison.table.as_ref().and_then(named).or_else(has).filter(|source| source.kind.is_table());
            found.extend(source.map(|source| (source.oid, comparison)));
        }
    }
    found
}

/// Tables that say to which tenants who calls belongs, and the column that names the tenant: policies of other tables look
/// them up by who calls, and the rest of their key is one column.
pub(super) fn memberships(catalog: &Catalog) -> BTreeMap<Oid, String> {
    let mut found = BTreeMap::new();
    for policy in &catalog.policies {
        for expression in policy.using.iter().chain(&policy.check).filter_map(|text| parse(text)) {
            let own = comparisons(&expression, catalog).into_iter().map(|one| one.with_its_table(&expression));
            for comparison in own.chain(compared_in_calls(&expression, catalog)) {
                let table = comparison.table.as_deref().and_then(|name| catalog.relation_named(None, name));
                let Some(table) = table.filter(|table| table.oid != policy.relation) else { continue };
                let key = catalog
                    .constraints
                    .iter()
                    .find(|key| key.relation == table.oid && key.kind == ConstraintKind::Primary);
                let names: Vec<&str> = key
                    .into_iter()
                    .flat_map(|key| &key.columns)
                    .filter_map(|number| Some(table.column_numbered(*number)?.name.as_str()))
                    .collect();
                if let [a, b] = names[..]
                    && [a, b].contains(&comparison.column.as_str())
                {
                    let other = if a == comparison.column { b } else { a };
                    found.insert(table.oid, other.to_string());
                }
            }
        }
    }
    found
}

pub(super) fn looked_up_by_policies(catalog: &Catalog) -> BTreeSet<String> {
    let texts: BTreeSet<&str> = catalog
        .policies
        .iter()
        .flat_map(|policy| policy.using.iter().chain(&policy.check))
        .map(String::as_str)
        .collect();
    texts.into_iter().filter_map(parse).flat_map(|expression| looked_up(&expression, catalog)).collect()
}
