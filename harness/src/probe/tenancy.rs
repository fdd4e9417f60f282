//! Which tables tenants own, and what binds a tenant: as the catalog review finds them, noted in the probe's subjects.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::bind::Binding;
use super::subject::{Subject, literal};
use crate::error::Result;
use crate::guard::catalog::{Catalog, Oid};
use crate::guard::config::Config;
use crate::guard::tenancy::Tenancy;

/// Notes in each subject whether tenants own it and which column names them; how a tenant is bound, where settings do.
///
/// # Errors
/// The server does not answer, or the configuration names what is not there.
pub async fn find(
    connection: &mut PgConnection,
    subjects: &mut [Subject],
    config: &Config,
    role: &str,
) -> Result<Binding> {
    let catalog = Catalog::read(connection).await?;
    let tenancy = Tenancy::read(&catalog, config, &[role.to_string()])?;
    for subject in subjects.iter_mut() {
        subject.platform = config.is_platform(&subject.title(), &subject.name);
        let Some(table) = u32::try_from(subject.oid).ok().and_then(|oid| tenancy.table(oid as Oid)) else { continue };
        subject.owned = subject.kind.is_table();
        subject.tenant = table.column.clone().filter(|name| subject.column(name).is_some());
    }
    // Where who calls decides, and no tenant is bound, that is bound.
    let found = binding(tenancy.contexts());
    Ok(if found.is_empty() { binding(tenancy.principals()) } else { found })
}

/// Settings hold the tenant itself, or a document of which it is a part.
fn binding<'a>(contexts: impl Iterator<Item = &'a str>) -> Binding {
    let mut settings: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for context in contexts {
        let mut parts = context.split("->").map(|part| part.trim_start_matches('>').trim().trim_matches('\''));
        let Some(setting) = parts.next().filter(|name| name.contains('.') && !name.contains('(')) else { continue };
        settings.entry(setting).or_default().push(parts.collect());
    }
    let statements = settings.into_iter().map(|(setting, paths)| {
        let whole = paths.iter().all(Vec::is_empty);
        let document = || {
            let inner = paths.iter().filter(|path| !path.is_empty()).map(|path| {
                path.iter().rev().fold("to_jsonb($1::text)".to_string(), |value, key| {
                    format!("jsonb_build_object({}, {value})", literal(key))
                })
            });
            // Nothing bound is nothing, not a document about it.
            format!("CASE WHEN $1 = '' THEN '' ELSE ({})::text END", inner.collect::<Vec<_>>().join(" || "))
        };
        let value = if whole { "$1".into() } else { document() };
        format!("SELECT set_config({}, {value}, true)", literal(setting))
    });
    Binding::by(statements.collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_holds_the_tenant_or_a_document_that_holds_it() {
        assert_eq!(binding(["app.t"].into_iter()).shown(), "SELECT set_config('app.t', $1, true)");
        let claims = binding(["request.jwt.claims->app_metadata->org", "f()"].into_iter());
        assert_eq!(claims.width(), 1);
        assert!(
            claims
                .shown()
                .contains("jsonb_build_object('app_metadata', jsonb_build_object('org', to_jsonb($1::text)))")
        );
    }
}
