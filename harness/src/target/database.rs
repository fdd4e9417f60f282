//! The target's database: made on the run's Postgres, with a password for every database role that serves.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::error::{Error, Result};
use crate::target::copy::{database_words, execute, quoted};
use crate::target::file::Database;

/// Connects.
///
/// # Errors
/// The URL is wrong or nothing answers there; the text holds no password.
pub async fn connect(url: &str) -> Result<PgConnection> {
    let options: PgConnectOptions = url.parse().map_err(|_| Error::Usage("the database URL cannot be read".into()))?;
    let options = options.disable_statement_logging();
    PgConnection::connect_with(&options).await.map_err(|e| {
        Error::Unreachable(format!("cannot connect to the database at {}: {}", options.get_host(), database_words(&e)))
    })
}

/// Closes, and so learns whether the last statement arrived.
///
/// # Errors
/// What the server says.
pub async fn close(connection: PgConnection) -> Result<()> {
    connection.close().await.map_err(|e| Error::Unreachable(database_words(&e)))
}

/// Gives each of the target's database roles a fresh password; their URLs.
///
/// # Errors
/// A role that the target's setup did not make.
pub async fn role_urls(
    admin_url: &str,
    database: &Database,
    url_for: &dyn Fn(&str, &str) -> String,
) -> Result<BTreeMap<String, String>> {
    let mut connection = connect(admin_url).await?;
    let mut urls = BTreeMap::new();
    for role in &database.roles {
        let password = crate::seed::secret(16);
        let statement = format!("ALTER ROLE {} LOGIN PASSWORD '{password}'", quoted(role));
        execute(&mut connection, &statement).await.map_err(|_| {
            Error::Usage(format!("[database] roles names `{role}`, which the target's setup did not make"))
        })?;
        urls.insert(role.clone(), url_for(role, &password));
    }
    close(connection).await?;
    Ok(urls)
}

/// The names of a server's roles.
///
/// # Errors
/// The server does not answer.
pub async fn role_names(admin_url: &str) -> Result<BTreeSet<String>> {
    names(admin_url, "SELECT rolname::text FROM pg_roles").await
}

/// The names of a server's databases that can be connected to.
///
/// # Errors
/// The server does not answer.
pub async fn database_names(admin_url: &str) -> Result<BTreeSet<String>> {
    names(admin_url, "SELECT datname::text FROM pg_database WHERE datallowconn").await
}

async fn names(admin_url: &str, statement: &'static str) -> Result<BTreeSet<String>> {
    let mut connection = connect(admin_url).await?;
    let names: Vec<String> = sqlx::query_scalar(statement)
        .fetch_all(&mut connection)
        .await
        .map_err(|e| Error::Unreachable(database_words(&e)))?;
    // The names are here; how the farewell goes does not matter.
    let _ = connection.close().await;
    Ok(names.into_iter().collect())
}

/// The databases of a server whose names fit one of `patterns`, in which `*` is anything.
///
/// # Errors
/// The server does not answer.
pub async fn databases_named(admin_url: &str, patterns: &[String]) -> Result<Vec<String>> {
    let escaped =
        |pattern: &String| pattern.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_").replace('*', "%");
    let mut connection = connect(admin_url).await?;
    let names = sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE datname LIKE ANY ($1) ORDER BY 1")
        .bind(patterns.iter().map(escaped).collect::<Vec<_>>())
        .fetch_all(&mut connection)
        .await
        .map_err(|e| Error::Unreachable(database_words(&e)))?;
    // The names are here; how the farewell goes does not matter.
    let _ = connection.close().await;
    Ok(names)
}

/// Removes roles that own nothing any more.
///
/// # Errors
/// The server does not answer, or something depends on a role.
pub async fn drop_roles(admin_url: &str, roles: &BTreeSet<String>) -> Result<()> {
    let mut connection = connect(admin_url).await?;
    for role in roles {
        execute(&mut connection, &format!("DROP ROLE IF EXISTS {}", quoted(role))).await?;
    }
    let _ = connection.close().await;
    Ok(())
}
