//! Looks for holes in the wall, in the database's own catalog: `audit-api doctor` tells them all, and `serve` refuses
//! where there is one.

mod apart;
mod rules;

use anyhow::Context;
use serde::Serialize;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row};

use crate::defects::{Defect, on};
use crate::storage::migrating::{DIRECTORY, TENANT};

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
    /// The database role that is connected: the same in every database of the server.
    Role,
    /// What that role may do in this database.
    Rights,
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

/// Every hole that one of the connected database roles can see, each told once: in the directory's database, then in
/// those of the tenants that have one of their own.
///
/// # Errors
/// The directory's catalog cannot be read.
pub async fn examine(connected: &[Connected<'_>]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for one in connected {
        let unread = || format!("{}: the catalog cannot be read", one.variable);
        let mut connection = one.pool.acquire().await.with_context(unread)?;
        let mut seen = broken(one, Concern::Role, &mut connection).await.with_context(unread)?;
        seen.extend(broken(one, Concern::Rights, &mut connection).await.with_context(unread)?);
        seen.extend(
            behind(&format!("the database of {}", one.variable), None, &mut connection).await.with_context(unread)?,
        );
        seen.extend(broken(one, Concern::Wall, &mut connection).await.with_context(unread)?);
        seen.retain(|finding| !findings.contains(finding));
        findings.extend(seen);
    }
    apart::examine(connected, &mut findings).await?;
    Ok(findings)
}

/// What breaks the rules about `concern`.
async fn broken(one: &Connected<'_>, concern: Concern, connection: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let passed_over = match concern {
        Concern::Role | Concern::Rights => Defect::AsOwner,
        Concern::Wall => Defect::ServeUnwalled,
    };
    let mut seen = Vec::new();
    let mut reading = connection.begin().await?;
    // A place is told with its schema, and so alike, whatever the role finds by its bare name.
    sqlx::raw_sql("SET LOCAL search_path = pg_catalog, pg_temp").execute(&mut *reading).await?;
    for rule in rules::ALL.iter().filter(|rule| rule.concern == concern && !on(passed_over)) {
        // Safe: both parts are constants.
        let statement = AssertSqlSafe(format!("{} {}", rules::COMMON, rule.sql));
        for row in sqlx::query(statement).fetch_all(&mut *reading).await? {
            let next = rule.next.replace("{expected}", one.expected).replace("{variable}", one.variable);
            seen.push(Finding { rule: rule.word, place: row.get("place"), what: row.get("what"), next });
        }
    }
    reading.rollback().await?;
    Ok(seen)
}

/// Where migrations of this program are not in `database`, or not as they are here: in its directory, and in the schema
/// `home` alone, or in each with tenant tables that the role may look into.
async fn behind(database: &str, home: Option<&str>, connection: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let schemas = sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace \
          WHERE CASE WHEN $1::text IS NULL THEN nspname ~ '^(shared|tenant_[0-9a-f]{32})$' ELSE nspname = $1 END \
            AND has_schema_privilege(oid, 'USAGE') ORDER BY 1",
    );
    let schemas: Vec<String> = schemas.bind(home).fetch_all(&mut *connection).await?;
    let directory = missing("public._sqlx_migrations", &DIRECTORY, connection).await?;
    let mut places: Vec<_> = directory.map(|what| (database.to_string(), what)).into_iter().collect();
    for schema in schemas {
        let what = missing(&format!("{schema}._tenant_migrations"), &TENANT, connection).await?;
        places.extend(what.map(|what| (format!("schema {schema} in {database}"), what)));
    }
    let finding =
        |(place, what)| Finding { rule: "schema-behind", place, what, next: "run `audit-api migrate`".into() };
    Ok(places.into_iter().map(finding).collect())
}

/// Which of `migrations` the table `record` does not tell of.
async fn missing(record: &str, migrations: &Migrator, connection: &mut PgConnection) -> sqlx::Result<Option<String>> {
    // Safe: the schema is `public`, `shared`, or `tenant_` and hexadecimal digits.
    let statement = AssertSqlSafe(format!("SELECT version, checksum FROM {record} WHERE success"));
    let applied: Vec<(i64, Vec<u8>)> = match sqlx::query(statement).fetch_all(connection).await {
        Ok(rows) => rows.iter().map(|row| (row.get("version"), row.get("checksum"))).collect(),
        // No such table, or one that no migration has opened to this role yet.
        Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42P01" | "42501")) => Vec::new(),
        Err(error) => return Err(error),
    };
    let missing: Vec<String> = migrations
        .iter()
        .filter(|m| !applied.iter().any(|(version, checksum)| *version == m.version && *checksum == *m.checksum))
        .map(|m| format!("{:04}", m.version))
        .collect();
    Ok((!missing.is_empty())
        .then(|| format!("migrations {} are not applied as this program has them", missing.join(", "))))
}
