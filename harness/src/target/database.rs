//! The target's database: made on the run's Postgres, with a password for every database role that serves.

use std::collections::BTreeMap;

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
    connection.close().await.map_err(|e| Error::Unreachable(database_words(&e)))?;
    Ok(urls)
}
