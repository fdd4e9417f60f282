//! Which tables tenants own, and by which setting a tenant is bound: from the catalog, where nobody says it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sqlx::PgConnection;

use super::schema::json;
use super::subject::{Kind, Subject};
use crate::error::Result;

/// What is said, or found.
#[derive(Clone, Debug, Default)]
pub struct Tenancy {
    /// The settings that policies, and functions that they call, read.
    pub settings: Vec<String>,
}

/// Names of columns that name a tenant, before `_id`.
const WORDS: [&str; 12] = [
    "tenant", "org", "organization", "organisation", "account", "workspace", "customer", "company", "team", "client", "school", "merchant",
];

#[derive(Deserialize)]
struct Policy {
    table: i64,
    text: String,
}

/// Policies as text, and texts of functions: what a setting is read in.
const POLICIES: &str = "SELECT coalesce(json_agg(json_build_object('table', polrelid::int8, 'text',
   coalesce(pg_get_expr(polqual, polrelid), '') || ' ' || coalesce(pg_get_expr(polwithcheck, polrelid), ''))), '[]')::text FROM pg_policy";
const FUNCTIONS: &str = "SELECT coalesce(json_agg(json_build_object('table', 0, 'text', pg_get_functiondef(p.oid))), '[]')::text
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND p.prokind = 'f' AND pg_get_functiondef(p.oid) ~ 'current_setting'
   AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid)";

impl Tenancy {
    /// Finds the tenancy of `subjects`, and notes in each what it found; `told` names the tenant column where somebody
    /// said so.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn find(connection: &mut PgConnection, subjects: &mut [Subject], told: Option<&str>) -> Result<Self> {
        let policies: Vec<Policy> = json(connection, POLICIES).await?;
        let functions: Vec<Policy> = json(connection, FUNCTIONS).await?;
        let mut settings: Vec<String> = Vec::new();
        for policy in policies.iter().chain(&functions) {
            for name in settings_in(&policy.text) {
                if !settings.contains(&name) {
                    settings.push(name);
                }
            }
        }
        let mut columns: BTreeMap<i64, String> = BTreeMap::new();
        for subject in subjects.iter().filter(|s| s.kind != Kind::Sequence) {
            let texts: Vec<&str> = policies.iter().filter(|p| p.table == subject.oid).map(|p| p.text.as_str()).collect();
            if let Some(column) = column_of(subject, &texts, told) {
                columns.insert(subject.oid, column);
            }
        }
        // The table that the tenant columns refer to has one row a tenant.
        let roots: BTreeSet<(i64, String)> = subjects
            .iter()
            .flat_map(|subject| {
                let tenant = columns.get(&subject.oid).cloned();
                subject.references.iter().filter_map(move |reference| {
                    let [column] = &reference.columns[..] else { return None };
                    (Some(column) == tenant.as_ref() && reference.target != subject.oid)
                        .then(|| (reference.target, reference.target_columns[0].clone()))
                })
            })
            .filter(|(target, _)| !columns.contains_key(target))
            .collect();
        columns.extend(roots);
        for subject in subjects.iter_mut() {
            subject.tenant = columns.get(&subject.oid).cloned();
            subject.owned = subject.kind.is_table() && subject.tenant.is_some();
        }
        // What is kept below a parent has its parent's columns, and what refers to what is owned is owned.
        loop {
            let known: BTreeMap<i64, (bool, Option<String>)> =
                subjects.iter().map(|s| (s.oid, (s.owned, s.tenant.clone()))).collect();
            let roots: BTreeSet<i64> = subjects.iter().filter(|s| s.is_root()).map(|s| s.oid).collect();
            let mut changed = false;
            for subject in subjects.iter_mut().filter(|s| s.kind.is_table() && !s.owned) {
                let parent = subject.parent.and_then(|parent| known.get(&parent)).filter(|(owned, _)| *owned);
                let refers = subject.references.iter().any(|r| {
                    known.get(&r.target).is_some_and(|(owned, _)| *owned) && !roots.contains(&r.target)
                });
                if let Some((_, tenant)) = parent {
                    (subject.owned, subject.tenant, changed) = (true, tenant.clone(), true);
                } else if refers {
                    (subject.owned, changed) = (true, true);
                }
            }
            if !changed {
                return Ok(Self { settings });
            }
        }
    }
}

/// The column of `subject` that names its tenant: the one told, one that a policy compares with a setting, or one so named.
fn column_of(subject: &Subject, policies: &[&str], told: Option<&str>) -> Option<String> {
    let has = |name: &str| subject.column(name).map(|column| column.name.clone());
    if let Some(told) = told {
        return has(told);
    }
    let named = WORDS.iter().flat_map(|word| [format!("{word}_id"), format!("{word}id"), (*word).to_string(), format!("{word}_uuid"), format!("{word}_key"), format!("{word}_slug")]);
    let named: Vec<String> = named.filter_map(|name| subject.columns.iter().find(|c| c.name.to_lowercase() == name)).map(|c| c.name.clone()).collect();
    if let Some(name) = named.first() {
        return Some(name.clone());
    }
    subject.columns.iter().map(|column| &column.name).find(|name| policies.iter().any(|text| compared(text, name))).cloned()
}

/// True where `text` compares the column with a setting, as Postgres writes expressions.
fn compared(text: &str, column: &str) -> bool {
    let quoted = crate::target::copy::quoted(column);
    [column.to_string(), quoted].iter().any(|name| {
        [format!("({name} = "), format!("(({name})::text = ")].iter().any(|lead| {
            text.split(lead.as_str()).skip(1).any(|rest| {
                let side: String = rest.chars().take(120).collect();
                side.contains("current_setting(")
            })
        })
    })
}

/// Names of the settings that a text reads.
fn settings_in(text: &str) -> Vec<String> {
    let parts = text.split("current_setting(").skip(1);
    let named = parts.filter_map(|part| part.trim_start().strip_prefix('\'')?.split('\'').next());
    named.filter(|name| name.contains('.')).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_a_policy_compares_with_a_setting_names_the_tenant() {
        let text = "((owner_key)::text = NULLIF(current_setting('app.who'::text, true), ''::text))";
        assert!(compared(text, "owner_key"));
        assert!(!compared(text, "key"));
        assert_eq!(settings_in(text), ["app.who"]);
    }
}
