//! Looks into the target's databases as administrator, while nothing is driven: wherever the planted tables are, since a
//! service may keep tenants in schemas or databases of their own.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::canary::{Owner, Scanner};
use crate::error::{Error, Result};
use crate::snapshot::{Held, Snapshot, Stray};
use crate::target::copy::{database_words, quoted};
use crate::target::database::{close, connect};
use crate::target::file::{Per, PlantTable};
use crate::tenant::{Holdings, WRITTEN};

/// What the planted tables hold in the databases at `urls`.
///
/// # Errors
/// A server that does not answer.
pub async fn inspect(urls: &[String], holdings: &Holdings, scanner: &Scanner) -> Result<Snapshot> {
    let mut readers: Vec<Reader> = holdings.tables().iter().filter_map(|table| Reader::new(holdings, table)).collect();
    for url in urls {
        let mut connection = connect(url).await?;
        for reader in &mut readers {
            for relation in reader.relations(&mut connection).await? {
                reader.read(&mut connection, &relation, scanner).await?;
            }
        }
        close(connection).await?;
    }
    Ok(Snapshot { aged: false, tables: readers.into_iter().map(Reader::finish).collect() })
}

/// Reads one planted table, wherever it is.
struct Reader<'h> {
    table: &'h PlantTable,
    key: &'h str,
    /// The column that names the tenant, when it is another than the key.
    tenant: Option<&'h str>,
    rows: HashMap<String, (Owner, u32)>,
    tenants: HashMap<String, Owner>,
    held: Held,
    strays: BTreeMap<(Owner, Owner), u64>,
}

impl<'h> Reader<'h> {
    /// None for a table whose rows have no value of their own to be told by.
    fn new(holdings: &'h Holdings, table: &'h PlantTable) -> Option<Self> {
        let column = |wanted: &[&str]| {
            let found = table.columns.iter().find(|(_, generator)| wanted.contains(&generator.as_str()));
            found.map(|(column, _)| column.as_str())
        };
        let home = if table.per == Per::Tenant { column(&["tenant"]) } else { None };
        let key = home
            .or_else(|| column(&["uuid", "principal"]))
            .or_else(|| column(&["bigint"]))
            .or_else(|| column(&["text", "email"]))?;
        let platform = holdings.is_platform(table).then_some(Owner::PLATFORM);
        let owners: Vec<Owner> = platform.map_or_else(|| holdings.owners().collect(), |owner| vec![owner]);
        let mut rows = HashMap::new();
        for owner in owners {
            for row in 0..holdings.rows_of(table) {
                let value = holdings.value(owner, row, &table.name, key).ok().and_then(|value| value.text())?;
                rows.insert(value, (owner, row));
            }
        }
        let tenants = holdings.owners().map(|owner| (holdings.tenant_id(owner).to_string(), owner)).collect();
        let tenant = column(&["tenant"]).filter(|column| *column != key);
        Some(Self { table, key, tenant, rows, tenants, held: Held::default(), strays: BTreeMap::new() })
    }

    /// Tables of that name that have the planted columns; a partition is read through the whole.
    async fn relations(&self, connection: &mut PgConnection) -> Result<Vec<String>> {
        let name = self.table.table.as_deref().unwrap_or(&self.table.name);
        let (schema, name) = name.rsplit_once('.').map_or((None, name), |(schema, name)| (Some(schema), name));
        let columns: Vec<String> = self.table.columns.keys().cloned().collect();
        sqlx::query_scalar(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relname = $1 AND ($2::text IS NULL OR n.nspname = $2) AND c.relkind IN ('r', 'p') \
             AND NOT c.relispartition AND n.nspname !~ '^pg_' AND $3 <@ ARRAY(SELECT attname::text FROM pg_attribute \
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) ORDER BY 1",
        )
        .bind(name)
        .bind(schema)
        .bind(columns)
        .fetch_all(connection)
        .await
        .map_err(|e| self.failed(&e))
    }

    async fn read(&mut self, connection: &mut PgConnection, relation: &str, scanner: &Scanner) -> Result<()> {
        let columns: Vec<String> = self.table.columns.keys().map(|column| format!("t.{}", quoted(column))).collect();
        let tenant = self.tenant.map_or_else(|| "NULL".into(), |column| format!("t.{}", quoted(column)));
        // The name comes from the catalogue, quoted where it needs to be.
        let statement = format!(
            "SELECT t.{}::text, {tenant}::text, left(md5(ROW({})::text), 16), t::text FROM {relation} t",
            quoted(self.key),
            columns.join(", ")
        );
        let mut found = sqlx::query(AssertSqlSafe(statement)).fetch(connection);
        let failed = |e| failed(&self.table.name, &e);
        let mut unknown = Vec::new();
        while let Some(row) = found.try_next().await.map_err(failed)? {
            let (key, tenant): (Option<String>, Option<String>) = (row.get(0), row.get(1));
            match key.and_then(|key| self.rows.get(&key)) {
                Some((owner, number)) => {
                    self.held.planted.entry(*owner).or_default().insert(*number, row.get(2));
                }
                None => unknown.extend(tenant.and_then(|id| self.tenants.get(&id)).map(|owner| (*owner, row.get(3)))),
            }
        }
        drop(found);
        unknown.into_iter().for_each(|(under, text): (Owner, String)| self.attribute(under, &text, scanner));
        Ok(())
    }

    /// A row that nobody planted: whose writing it holds. What nobody in particular wrote tells nothing.
    fn attribute(&mut self, under: Owner, text: &str, scanner: &Scanner) {
        let mut writers = Vec::new();
        scanner.scan(text.as_bytes(), &mut |sighting| {
            if sighting.column == Some(WRITTEN) && sighting.owner != Owner::ABSENT {
                writers.push(sighting.owner);
            }
        });
        match writers.iter().find(|writer| **writer != under) {
            Some(writer) => *self.strays.entry((under, *writer)).or_default() += 1,
            None if writers.is_empty() => {}
            None => *self.held.written.entry(under).or_default() += 1,
        }
    }

    fn finish(mut self) -> (String, Held) {
        let strays = self.strays.into_iter();
        self.held.strays = strays.map(|((under, writer), rows)| Stray { under, writer, rows }).collect();
        (self.table.name.clone(), self.held)
    }

    fn failed(&self, error: &sqlx::Error) -> Error {
        failed(&self.table.name, error)
    }
}

fn failed(table: &str, error: &sqlx::Error) -> Error {
    Error::Unreachable(format!("looking into planted table {table} failed: {}", database_words(error)))
}
