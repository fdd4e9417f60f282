//! The mark of a database that may be written to.

use super::place::MARK;
use super::schema::json;
use super::subject::literal;
use crate::error::{Error, Result};
use crate::target::copy::{execute, quoted};
use crate::target::database::{close, connect};

/// Puts the mark into the comment of the database at `url`, behind what stands there; what a reader should know of it.
///
/// # Errors
/// Nobody answers, the server is a standby, or the role is not the database's owner.
pub async fn mark(url: &str) -> Result<String> {
    let mut connection = connect(url).await?;
    let facts = "SELECT json_build_array(current_database(), coalesce(shobj_description(oid, 'pg_database'), ''), pg_is_in_recovery()::text)::text
        FROM pg_database WHERE datname = current_database()";
    let [database, comment, standby]: [String; 3] = json(&mut connection, facts).await?;
    if comment.contains(MARK) {
        return Ok(format!("{database} has the mark already: Partywall may write to it"));
    }
    if standby == "true" {
        return Err(Error::Usage("the server is a standby and takes no writes; mark the primary".into()));
    }
    let marked = if comment.is_empty() { MARK.to_string() } else { format!("{comment}; {MARK}") };
    let comment = format!("COMMENT ON DATABASE {} IS {}", quoted(&database), literal(&marked));
    execute(&mut connection, &comment).await.map_err(|error| {
        Error::Usage(format!("{database} cannot be marked: {error}. Connect as its owner, or as a superuser"))
    })?;
    close(connection).await?;
    Ok(format!(
        "marked {database}: its comment now says `{MARK}`. Where no copy of it can be made, `partywall probe` may try everything in \
         it, in a transaction that is rolled back. To take the mark away: COMMENT ON DATABASE {} IS NULL",
        quoted(&database)
    ))
}
