//! A variant of the reference with one deliberate defect; the catalogue is data in `scenarios/mutants`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::campaign::Variant;
use crate::error::{Error, Result, unknown};

/// One mutant.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MutantFile {
    /// Its ID.
    pub id: String,
    /// The defect, in one sentence.
    pub sentence: String,
    /// Layers taken away besides, without which an inner layer would still stop it: `database`, `context`, `store`.
    #[serde(default)]
    pub layers_removed: Vec<String>,
    /// SQL run as administrator once rows are planted.
    #[serde(default)]
    pub sql: Option<String>,
    /// Defects switched on in the service, the layers' removal included.
    #[serde(default)]
    pub defects: Vec<String>,
    /// Database role to serve with instead of `audit_app`.
    #[serde(default)]
    pub serve_as: Option<String>,
    /// Why nothing can be seen of it from outside, where that is so.
    #[serde(default)]
    pub equivalent: Option<String>,
}

macro_rules! mutants {
    ($($id:literal),+ $(,)?) => {
        &[$(($id, include_str!(concat!("../../scenarios/mutants/", $id, ".toml")))),+]
    };
}

const FILES: &[(&str, &str)] = mutants![
    "rls-disabled",
    "owner-no-force",
    "using-true",
    "fail-open-no-context",
    "new-partition-no-rls",
    "tenant-from-query",
    "session-set-not-local",
    "idor-by-id",
    "count-unscoped",
    "cursor-unbound",
    "tenant-from-header",
    "tenant-from-body",
    "role-unchecked",
    "sight-ignored",
    "signature-unverified",
    "nobody-operates",
    "me-kept",
    "annotation-by-id",
    "transaction-left-open",
    "sign-in-of-another",
    "lists-kept",
    "days-unscoped",
    "forbidden-for-foreign",
    "tag-for-foreign",
    "detail-for-foreign",
    "unchanged-for-foreign",
    "name-held-by-another",
    "gone-for-foreign",
    "unique-over-tenants",
    "idempotency-over-tenants",
    "cursor-known",
    "account-known",
    "numbers-over-tenants",
    "update-touches-another",
    "delete-takes-anothers",
    "written-under-another",
    "tenant-from-host",
    "tenant-from-forwarded",
    "tenant-from-cookie",
    "tenant-from-path",
    "tenant-from-name",
    "tenant-from-last",
    "tenant-from-nested",
    "override-unguarded",
    "counts-shared",
    "keys-shared",
    "signed-unverified",
    "export-scope-kept",
    "export-by-id",
    "streams-shared",
    "credential-kept",
    "log-tells",
    "error-tells",
    "header-tells",
    "claims-believed",
    "filtered-late",
    "looked-at-unbound",
    "bound-to-session",
    "temporary-table-kept",
    "lock-kept",
    "listening-kept",
    "reset-after-success",
    "failed-given-back",
    "deliveries-shared",
    "limits-shared",
    "asked-together",
    "stale-for-all",
    "tenant-from-form",
    "retention-idle",
    "retention-over-tenants",
    "hold-ignored",
    "signed-out-in-name",
    "key-from-file",
    "key-from-query",
    "deleted-by-name",
    "removed-in-name",
    "stream-outlives",
];

/// All mutants.
///
/// # Errors
/// A file that does not parse is a defect of this build.
pub fn catalogue() -> Result<Vec<MutantFile>> {
    FILES
        .iter()
        .map(|(id, text)| {
            let mutant: MutantFile = toml::from_str(text).map_err(|e| Error::Defect(format!("mutant {id}: {e}")))?;
            Ok(mutant)
        })
        .collect()
}

/// The mutants that `only` names, all when it is empty.
///
/// # Errors
/// An unknown ID names the nearest right one.
pub fn select(only: &[String]) -> Result<Vec<MutantFile>> {
    let all = catalogue()?;
    for id in only {
        if !all.iter().any(|m| m.id == *id) {
            return Err(unknown("mutant", id, all.iter().map(|m| m.id.as_str())));
        }
    }
    Ok(all.into_iter().filter(|m| only.is_empty() || only.contains(&m.id)).collect())
}

impl MutantFile {
    /// What it changes about the reference.
    pub fn variant(&self) -> Variant {
        let mut defects = self.defects.clone();
        if self.serve_as.is_some() {
            defects.push("as-owner".into());
        }
        Variant {
            mutant: Some(self.id.clone()),
            sql: self.sql.clone(),
            defects_build: true,
            defects,
            instead: self.serve_as.iter().map(|role| ("audit_app".into(), role.clone())).collect(),
        }
    }
}
