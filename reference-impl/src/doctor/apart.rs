//! The databases of tenants that have one of their own: looked into by the same rules, one tenant and one connection at
//! a time, so that however many there are the server has one guest more.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use uuid::Uuid;

use super::{Concern, Connected, Finding, behind, broken};
use crate::storage::model::name_of;

/// Longer than this nobody waits for one of them.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// The database roles that may be told which there are, each by a function of its own.
const LISTS: [(&str, &str); 2] = [("audit_platform", "platform_databases"), ("audit_worker", "worker_databases")];
/// The database roles that go into them.
const ENTER: [&str; 2] = ["audit_app", "audit_worker"];

/// Adds the holes in each tenant's own database; one that cannot be looked into is a hole.
pub(super) async fn examine(connected: &[Connected<'_>], findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    let lists = |one: &&Connected<'_>| LISTS.iter().any(|(role, _)| *role == one.expected);
    let Some(lister) = connected.iter().find(lists) else { return Ok(()) };
    let mut done = None;
    loop {
        let tenant = match next(lister, done).await {
            Ok(Some(tenant)) => tenant,
            Ok(None) => return Ok(()),
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("42501") => {
                findings.push(unlisted(lister));
                return Ok(());
            }
            // The migration that makes the function is missing, which is told already.
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("42883") => return Ok(()),
            Err(error) => return Err(error).context("the tenants' own databases cannot be listed"),
        };
        for one in connected.iter().filter(|one| ENTER.contains(&one.expected)) {
            let seen = match tokio::time::timeout(LOOK_MAX, within(one, tenant)).await {
                Ok(Ok(seen)) => seen,
                // Moved elsewhere, or erased, in this moment.
                _ if next(lister, done).await.ok().flatten() != Some(tenant) => continue,
                // Not why: a driver's error may quote what it connects with.
                _ => vec![unreachable(one, tenant)],
            };
            let unseen: Vec<_> = seen.into_iter().filter(|finding| !findings.contains(finding)).collect();
            findings.extend(unseen);
        }
        done = Some(tenant);
    }
}

/// The first tenant after `done` that has a database of its own.
async fn next(lister: &Connected<'_>, done: Option<Uuid>) -> sqlx::Result<Option<Uuid>> {
    let function = LISTS.iter().find(|(role, _)| *role == lister.expected).map_or("", |(_, function)| function);
    // Safe: a constant.
    let statement = AssertSqlSafe(format!("SELECT * FROM {function}($1, 1)"));
    sqlx::query_scalar(statement).bind(done).fetch_optional(lister.pool).await
}

/// The holes in the database of `tenant` that `one` can see.
async fn within(one: &Connected<'_>, tenant: Uuid) -> sqlx::Result<Vec<Finding>> {
    let name = name_of(tenant);
    let options = PgConnectOptions::clone(&one.pool.connect_options()).database(&name);
    let mut connection = options.connect().await?;
    let place = format!("database {name}");
    let mut seen = broken(one, Concern::Rights, &mut connection).await?;
    seen.extend(broken(one, Concern::Wall, &mut connection).await?);
    // A table, or a function, of that name is in every database.
    seen.iter_mut().for_each(|finding| finding.place = format!("{} in {place}", finding.place));
    seen.extend(behind(&place, Some(&name), &mut connection).await?);
    connection.close().await?;
    Ok(seen)
}

fn unreachable(one: &Connected<'_>, tenant: Uuid) -> Finding {
    Finding {
        rule: "database-unreachable",
        place: format!("database {}", name_of(tenant)),
        what: format!("{} cannot look into the own database of tenant {tenant}", one.expected),
        next: "see that it is there and takes this role's connections; then run `audit-api migrate`".into(),
    }
}

fn unlisted(lister: &Connected<'_>) -> Finding {
    Finding {
        rule: "databases-unlisted",
        place: format!("the database role of {}", lister.variable),
        what: "it is not told which tenants have databases of their own, so nobody looked into these".into(),
        next: format!("set {} to connect as {}", lister.variable, lister.expected),
    }
}
