//! Rows into a table through binary COPY: PostgreSQL's `COPY FROM STDIN (FORMAT binary)`, framed here.

use std::net::Ipv6Addr;

use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::error::{Error, Result};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Bytes framed before they are sent.
const CHUNK: usize = 1 << 20;
/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A value on its way into a column.
#[derive(Clone, Debug)]
pub enum Field {
    /// `NULL`.
    Null,
    /// For `uuid`.
    Uuid(Uuid),
    /// For text types, and parsed for `bool`, `smallint`, `integer`, `bigint`.
    Text(String),
    /// Microseconds since the Unix epoch, for `timestamptz` and `timestamp`.
    Time(i64),
    /// For `inet`.
    Inet(Ipv6Addr),
    /// For `json` and `jsonb`.
    Json(serde_json::Value),
    /// For `bytea`.
    Bytes(Vec<u8>),
    /// For `bigint`.
    Bigint(i64),
}

/// A column's name and type.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    kind: String,
}

/// Copies `rows` into `columns` of `table`, which may be schema-qualified; the number of rows.
///
/// # Errors
/// No such table or column, a value that its type does not take, or what the server says.
pub async fn copy_in(
    connection: &mut PgConnection,
    table: &str,
    columns: &[String],
    rows: impl Iterator<Item = Result<Vec<Field>>>,
) -> Result<u64> {
    let columns = types(connection, table, columns).await?;
    let names: Vec<String> = columns.iter().map(|c| quoted(&c.name)).collect();
    let statement = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", quoted_name(table), names.join(", "));
    let failed = |e: sqlx::Error| Error::Unreachable(format!("planting into {table} failed: {}", database_words(&e)));
    let mut copy = connection.copy_in_raw(&statement).await.map_err(failed)?;
    let mut buffer = Vec::with_capacity(CHUNK + (64 << 10));
    buffer.extend_from_slice(SIGNATURE);
    for row in rows {
        let row = row?;
        buffer.extend_from_slice(&(row.len() as i16).to_be_bytes());
        for (field, column) in row.iter().zip(&columns) {
            put(&mut buffer, field, column).map_err(|why| Error::Usage(format!("{table}.{}: {why}", column.name)))?;
        }
        if buffer.len() >= CHUNK {
            copy.send(std::mem::take(&mut buffer)).await.map_err(failed)?;
            buffer.reserve(CHUNK + (64 << 10));
        }
    }
    buffer.extend_from_slice(&(-1i16).to_be_bytes());
    copy.send(buffer).await.map_err(failed)?;
    copy.finish().await.map_err(failed)
}

/// What the server says, without what it was sent.
pub fn database_words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => e.message().to_string(),
        other => other.to_string(),
    }
}

async fn types(connection: &mut PgConnection, table: &str, columns: &[String]) -> Result<Vec<Column>> {
    let found = sqlx::query(
        "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
         WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
    )
    .bind(quoted_name(table))
    .fetch_all(connection)
    .await
    .map_err(|e| Error::Unreachable(format!("cannot read the columns of {table}: {}", database_words(&e))))?;
    let known: Vec<Column> = found.iter().map(|row| Column { name: row.get(0), kind: row.get(1) }).collect();
    if known.is_empty() {
        return Err(Error::Usage(format!("[[plant.table]]: the database has no table {table}")));
    }
    columns
        .iter()
        .map(|name| {
            let column = known.iter().find(|c| c.name == *name).cloned();
            column.ok_or_else(|| {
                crate::error::unknown(&format!("column of {table}"), name, known.iter().map(|c| c.name.as_str()))
            })
        })
        .collect()
}

fn put(buffer: &mut Vec<u8>, field: &Field, column: &Column) -> std::result::Result<(), String> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    let kind = column.kind.as_str();
    match (field, kind) {
        (Field::Null, _) => {
            buffer[start..].copy_from_slice(&(-1i32).to_be_bytes());
            return Ok(());
        }
        (Field::Uuid(id), "uuid") => buffer.extend_from_slice(id.as_bytes()),
        (Field::Time(us), "timestamp with time zone" | "timestamp without time zone") => {
            buffer.extend_from_slice(&(us - EPOCH_US).to_be_bytes());
        }
        (Field::Inet(address), "inet") => {
            // Family 3 is PGSQL_AF_INET6; then prefix length, not a cidr, 16 bytes.
            buffer.extend_from_slice(&[3, 128, 0, 16]);
            buffer.extend_from_slice(&address.octets());
        }
        (Field::Json(value), "jsonb") => {
            buffer.push(1);
            buffer.extend_from_slice(value.to_string().as_bytes());
        }
        (Field::Text(text), "jsonb") => {
            serde_json::from_str::<serde_json::Value>(text).map_err(|_| format!("`{text}` is no JSON"))?;
            buffer.push(1);
            buffer.extend_from_slice(text.as_bytes());
        }
        (Field::Bytes(bytes), "bytea") => buffer.extend_from_slice(bytes),
        (Field::Bigint(n), "bigint") => buffer.extend_from_slice(&n.to_be_bytes()),
        (Field::Text(text), "boolean") => buffer.push(u8::from(text == "true")),
        (Field::Text(text), "smallint") => buffer.extend_from_slice(&number::<i16>(text)?.to_be_bytes()),
        (Field::Text(text), "integer") => buffer.extend_from_slice(&number::<i32>(text)?.to_be_bytes()),
        (Field::Text(text), "bigint") => buffer.extend_from_slice(&number::<i64>(text)?.to_be_bytes()),
        (Field::Text(text), "uuid") => {
            let id = Uuid::parse_str(text).map_err(|_| format!("`{text}` is no uuid"))?;
            buffer.extend_from_slice(id.as_bytes());
        }
        (field, "text" | "character varying" | "character" | "citext" | "json" | "name") => match field {
            Field::Text(text) => buffer.extend_from_slice(text.as_bytes()),
            Field::Uuid(id) => buffer.extend_from_slice(id.to_string().as_bytes()),
            Field::Json(value) => buffer.extend_from_slice(value.to_string().as_bytes()),
            Field::Inet(address) => buffer.extend_from_slice(address.to_string().as_bytes()),
            Field::Bigint(n) => buffer.extend_from_slice(n.to_string().as_bytes()),
            Field::Time(us) => buffer.extend_from_slice(crate::tenant::rfc3339(*us).as_bytes()),
            Field::Bytes(_) | Field::Null => return Err(format!("bytes do not fit a column of type {kind}")),
        },
        (field, kind) => {
            return Err(format!("{field:?} does not fit a column of type {kind}; choose another generator"));
        }
    }
    let length = (buffer.len() - start - 4) as i32;
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> std::result::Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no number of this type"))
}

/// A quoted identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted name that may be schema-qualified.
fn quoted_name(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

/// Runs a statement that Partywall made itself.
///
/// # Errors
/// What the server says.
pub async fn execute(connection: &mut PgConnection, statement: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_string())).execute(connection).await.map(drop).map_err(|e| {
        let first = statement.lines().next().unwrap_or_default();
        Error::Unreachable(format!("SQL failed: {} (in `{first}`)", database_words(&e)))
    })
}
