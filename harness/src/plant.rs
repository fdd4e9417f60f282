//! Puts tenants and their canaries in place, table by table, through COPY by a role that may bypass row security: COPY
//! is refused under it.

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use crate::canary::Owner;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::target::copy::{Field, copy_in, execute};
use crate::target::file::PlantTable;
use crate::target::identity::Secrets;
use crate::tenant::{Holdings, Planted, rfc3339};

/// Plants what `plan` says; the number of rows.
///
/// # Errors
/// The target file does not fit the schema, or what the server says.
pub async fn plant(plan: &Plan, holdings: &Holdings, secrets: &Secrets, connection: &mut PgConnection) -> Result<u64> {
    let window = plan.window();
    let end = window.start_unix_s + window.seconds as i64;
    for statement in &plan.target.plant.before_sql {
        let date = |unix_s: i64| rfc3339(unix_s * 1_000_000)[..10].to_string();
        let statement = statement.replace("{from}", &date(window.start_unix_s)).replace("{to}", &date(end));
        execute(connection, &statement).await?;
    }
    let hash = secrets.password_hash()?;
    let mut rows_total = 0;
    for table in holdings.tables() {
        let columns: Vec<String> = table.columns.keys().cloned().collect();
        let rows = rows(holdings, table, secrets, &hash);
        let name = table.table.as_deref().unwrap_or(&table.name);
        rows_total += copy_in(connection, name, &columns, rows).await?;
    }
    execute(connection, "ANALYZE").await?;
    Ok(rows_total)
}

/// The rows of `table`, all tenants', one at a time.
pub fn rows<'a>(
    holdings: &'a Holdings,
    table: &'a PlantTable,
    secrets: &'a Secrets,
    hash: &'a str,
) -> impl Iterator<Item = Result<Vec<Field>>> + 'a {
    let owners: Box<dyn Iterator<Item = Owner>> = if holdings.is_platform(table) {
        Box::new(std::iter::once(Owner::PLATFORM))
    } else {
        Box::new(holdings.owners())
    };
    owners.flat_map(move |owner| {
        (0..holdings.rows_of(table)).map(move |row| {
            let columns = table.columns.keys();
            columns.map(|column| field(holdings, table, secrets, hash, owner, row, column)).collect()
        })
    })
}

fn field(
    holdings: &Holdings,
    table: &PlantTable,
    secrets: &Secrets,
    hash: &str,
    owner: Owner,
    row: u32,
    column: &str,
) -> Result<Field> {
    let value = holdings.value(owner, row, &table.name, column).map_err(Error::Usage)?;
    Ok(match value {
        Planted::Uuid(id) => Field::Uuid(id),
        Planted::Text(text) => Field::Text(text),
        Planted::Time(us) => Field::Time(us),
        Planted::Inet(address) => Field::Inet(address),
        Planted::Json(value) => Field::Json(value),
        Planted::Bytes(bytes) => Field::Bytes(bytes),
        Planted::Bigint(n) => Field::Bigint(n),
        Planted::Learnt(name) => return Err(Error::Usage(format!("{name}: only what `by` makes is learnt"))),
        Planted::PasswordHash => Field::Text(hash.into()),
        Planted::SecretHash(principal) => {
            // The hash is of the whole secret, prefix included.
            let secret = format!("{}{}", holdings.secret_prefix(&principal.role), secrets.of(&principal));
            Field::Bytes(Sha256::digest(secret).to_vec())
        }
    })
}
