//! Looks for holes in the wall, in the database's own catalog: `audit-api doctor` tells them all, and `serve` refuses
//! where there is one.

mod rules;

use anyhow::Context;
use serde::Serialize;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::defects::{Defect, on};

/// A hole in the wall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule that is broken: a word that stays the same.
    pub rule: &'static str,
    /// Where: the database role, table, policy, view or function.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do next.
    pub next: String,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concern {
    /// The database role that is connected.
    Role,
    /// Tables, policies, views and functions, whoever is connected.
    Wall,
}

/// A connected database role.
pub struct Connected<'p> {
    /// The variable that holds its URL.
    pub variable: &'static str,
    /// The database role that belongs there.
    pub expected: &'static str,
    /// Its connections.
    pub pool: &'p PgPool,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}]: {}; {}", self.place, self.rule, self.what, self.next)
    }
}

/// Every hole that one of the connected database roles can see, each told once.
///
/// # Errors
/// The catalog cannot be read.
pub async fn examine(connected: &[Connected<'_>], migrations: &Migrator) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for one in connected {
        let mut seen = broken(one, Concern::Role).await?;
        seen.extend(behind(one, migrations).await?);
        seen.extend(broken(one, Concern::Wall).await?);
        seen.retain(|finding| !findings.contains(finding));
        findings.extend(seen);
    }
    Ok(findings)
}

/// What breaks the rules about `concern`.
async fn broken(one: &Connected<'_>, concern: Concern) -> anyhow::Result<Vec<Finding>> {
    let passed_over = match concern {
        Concern::Role => Defect::AsOwner,
        Concern::Wall => Defect::ServeUnwalled,
    };
    let mut seen = Vec::new();
    for rule in rules::ALL.iter().filter(|rule| rule.concern == concern && !on(passed_over)) {
        // Safe: both parts are constants.
        let statement = AssertSqlSafe(format!("{} {}", rules::COMMON, rule.sql));
        let rows = sqlx::query(statement).fetch_all(one.pool).await;
        for row in rows.with_context(|| format!("{}: the catalog cannot be read", one.variable))? {
            let next = rule.next.replace("{expected}", one.expected).replace("{variable}", one.variable);
            seen.push(Finding { rule: rule.word, place: row.get("place"), what: row.get("what"), next });
        }
    }
    Ok(seen)
}

/// Whether migrations of this program are not in the database, or not as they are here.
async fn behind(one: &Connected<'_>, migrations: &Migrator) -> anyhow::Result<Option<Finding>> {
    let applied = sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success").fetch_all(one.pool).await;
    let applied: Vec<(i64, Vec<u8>)> = match applied {
        Ok(rows) => rows.iter().map(|row| (row.get("version"), row.get("checksum"))).collect(),
        // No such table, or one that no migration has opened to this role yet.
        Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42P01" | "42501")) => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("{}: the schema's version is not told", one.variable)),
    };
    let missing: Vec<String> = migrations
        .iter()
        .filter(|m| !applied.iter().any(|(version, checksum)| *version == m.version && *checksum == *m.checksum))
        .map(|m| format!("{:04}", m.version))
        .collect();
    Ok((!missing.is_empty()).then(|| Finding {
        rule: "schema-behind",
        place: format!("the database of {}", one.variable),
        what: format!("migrations {} are not applied as this program has them", missing.join(", ")),
        next: "run `audit-api migrate`".into(),
    }))
}
