//! Looks for holes in the wall, in the database's own catalog: `audit-api doctor` tells them all, and `serve` refuses
//! where there is one.

mod rules;

use anyhow::Context;
use serde::Serialize;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::defects::{Defect, on};
use crate::storage::migrating::{DIRECTORY, TENANT};
use crate::storage::model::SHARED;

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
pub async fn examine(connected: &[Connected<'_>]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for one in connected {
        let mut seen = broken(one, Concern::Role).await?;
        seen.extend(behind(one).await?);
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
    let unread = || format!("{}: the catalog cannot be read", one.variable);
    let mut seen = Vec::new();
    let mut reading = one.pool.begin().await.with_context(unread)?;
    // A place is told with its schema, and so alike, whatever the role finds by its bare name.
    sqlx::raw_sql("SET LOCAL search_path = pg_catalog, pg_temp").execute(&mut *reading).await.with_context(unread)?;
    for rule in rules::ALL.iter().filter(|rule| rule.concern == concern && !on(passed_over)) {
        // Safe: both parts are constants.
        let statement = AssertSqlSafe(format!("{} {}", rules::COMMON, rule.sql));
        let rows = sqlx::query(statement).fetch_all(&mut *reading).await;
        for row in rows.with_context(unread)? {
            let next = rule.next.replace("{expected}", one.expected).replace("{variable}", one.variable);
            seen.push(Finding { rule: rule.word, place: row.get("place"), what: row.get("what"), next });
        }
    }
    reading.rollback().await.with_context(unread)?;
    Ok(seen)
}

/// Where migrations of this program are not in the database, or not as they are here: in the directory, and in each
/// schema with tenant tables that the role may look into.
async fn behind(one: &Connected<'_>) -> anyhow::Result<Vec<Finding>> {
    let schemas = sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace \
          WHERE (nspname = $1 OR nspname ~ '^tenant_[0-9a-f]{32}$') AND has_schema_privilege(oid, 'USAGE') ORDER BY 1",
    );
    let schemas = schemas.bind(SHARED).fetch_all(one.pool).await;
    let schemas: Vec<String> = schemas.with_context(|| format!("{}: the catalog cannot be read", one.variable))?;
    let directory = missing(one, "public._sqlx_migrations", &DIRECTORY).await?;
    let mut places: Vec<_> =
        directory.map(|what| (format!("the database of {}", one.variable), what)).into_iter().collect();
    for schema in schemas {
        let what = missing(one, &format!("{schema}._tenant_migrations"), &TENANT).await?;
        places.extend(what.map(|what| (format!("schema {schema} in the database of {}", one.variable), what)));
    }
    let finding =
        |(place, what)| Finding { rule: "schema-behind", place, what, next: "run `audit-api migrate`".into() };
    Ok(places.into_iter().map(finding).collect())
}

/// Which of `migrations` the table `record` does not tell of.
async fn missing(one: &Connected<'_>, record: &str, migrations: &Migrator) -> anyhow::Result<Option<String>> {
    // Safe: the schema is `public`, `shared`, or `tenant_` and hexadecimal digits.
    let statement = AssertSqlSafe(format!("SELECT version, checksum FROM {record} WHERE success"));
    let applied: Vec<(i64, Vec<u8>)> = match sqlx::query(statement).fetch_all(one.pool).await {
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
    Ok((!missing.is_empty())
        .then(|| format!("migrations {} are not applied as this program has them", missing.join(", "))))
}
