//! Who owns what: the account that planting follows, that the plan draws from and that the shadow model compares with.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

use crate::ageing::Ageing;
use crate::canary::{Canary, Mint, Owner};
use crate::content;
use crate::ledger;
use crate::placeholder;
use crate::principal::Principal;
use crate::target::credential::Credential;
use crate::target::file::{Per, PlantTable, TargetFile};
use crate::target::tenants::is_learnt;

/// Code of a column that nobody planted: the value was written through the service during the run.
pub const WRITTEN: u16 = 1022;
/// The column by which other tables refer to a row.
const ID: &str = "id";
/// The column of whatever else stands in the body that made a row.
pub const BODY: &str = "body";

/// A planted column: table and column by the target file's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// The planted table.
    pub table: &'a str,
    /// Its column.
    pub column: &'a str,
}

impl fmt::Display for Column<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// A planted value, before it is put into a row, a URL or a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Planted {
    /// A UUID.
    Uuid(Uuid),
    /// Text.
    Text(String),
    /// Microseconds since the Unix epoch.
    Time(i64),
    /// An IPv6 address.
    Inet(std::net::Ipv6Addr),
    /// A document.
    Json(serde_json::Value),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A number.
    Bigint(i64),
    /// The run's password, as a hash.
    PasswordHash,
    /// The SHA-256 of a principal's secret.
    SecretHash(Principal),
    /// What the service makes and the ledger knows, by its name there.
    Learnt(String),
}

/// The planted tenants' account.
#[derive(Clone, Debug)]
pub struct Holdings {
    /// Tenants planted.
    pub tenants: u32,
    /// Rows planted a tenant in each table planted per row.
    pub rows: u32,
    mint: Mint,
    owners: Vec<Owner>,
    tables: Vec<PlantTable>,
    platform_roles: Vec<String>,
    prefixes: BTreeMap<String, String>,
    codes: Vec<(usize, String)>,
    given_tenants: bool,
    ageing: Option<Ageing>,
}

impl Holdings {
    /// The account of `target` with so many tenants and rows.
    pub fn new(target: &TargetFile, tenants: u32, rows: u32, mint: Mint) -> Self {
        let tables = target.plant.table.clone();
        let codes = tables
            .iter()
            .enumerate()
            .flat_map(|(i, table)| {
                let body = table.by.iter().filter(|_| !table.columns.contains_key(BODY)).map(|_| BODY.to_string());
                table.columns.keys().cloned().chain(body).map(move |column| (i, column))
            })
            .collect();
        let platform_roles = target.role.iter().filter(|r| r.platform).map(|r| r.name.clone()).collect();
        let prefixes = target.role.iter().filter_map(|role| match target.credential.get(&role.credential)? {
            Credential::Secret { prefix, .. } => Some((role.name.clone(), prefix.clone())),
            _ => None,
        });
        let prefixes = prefixes.collect();
        let owners = (0..tenants).map(Owner::new).collect();
        let given_tenants = !target.tenant.is_empty();
        Self { tenants, rows, mint, owners, tables, platform_roles, prefixes, codes, given_tenants, ageing: None }
    }

    /// The same account, of which only those are planted.
    pub fn only(self, owners: Vec<Owner>) -> Self {
        Self { owners, ..self }
    }

    /// The same account, of which rows are old.
    pub fn aged(mut self, ageing: Ageing) -> Self {
        let (table, column) = ageing.place();
        // What is planted there anyhow keeps its place; what is not needs none, for it is no canary.
        for aged in self.tables.iter_mut().filter(|aged| aged.name == table) {
            aged.columns.entry(column.into()).or_insert_with(|| "timestamptz".into());
        }
        Self { ageing: Some(ageing), ..self }
    }

    /// The planted tables.
    pub fn tables(&self) -> &[PlantTable] {
        &self.tables
    }

    /// The mint that made every value.
    pub fn mint(&self) -> &Mint {
        &self.mint
    }

    /// What the secrets of `role` start with.
    pub fn secret_prefix(&self, role: &str) -> &str {
        self.prefixes.get(role).map_or("", String::as_str)
    }

    /// All planted tenants.
    pub fn owners(&self) -> impl Iterator<Item = Owner> {
        self.owners.iter().copied()
    }

    /// The planted table of that name.
    pub fn table(&self, name: &str) -> Option<&PlantTable> {
        self.tables.iter().find(|t| t.name == name)
    }

    /// The planted column behind a canary's code.
    pub fn column(&self, code: u16) -> Option<Column<'_>> {
        let (table, column) = self.codes.get(usize::from(code))?;
        Some(Column { table: &self.tables[*table].name, column })
    }

    fn code(&self, table: &str, column: &str) -> u16 {
        let found = self.codes.iter().position(|(t, c)| self.tables[*t].name == table && c == column);
        found.and_then(|i| u16::try_from(i).ok()).unwrap_or(WRITTEN)
    }

    /// True for rows that belong to the platform and not to a tenant.
    pub fn is_platform(&self, table: &PlantTable) -> bool {
        !table.roles.is_empty() && table.roles.iter().all(|role| self.platform_roles.contains(role))
    }

    /// Rows of `table` for each owner.
    pub fn rows_of(&self, table: &PlantTable) -> u32 {
        match table.per {
            Per::Tenant => 1,
            Per::Principal => u32::try_from(table.roles.len()).unwrap_or(0),
            Per::Row => self.rows.min(table.rows_max.unwrap_or(u32::MAX)),
        }
    }

    /// The application role that acts in `row` of `table`.
    pub fn actor<'t>(&self, table: &'t PlantTable, row: u32) -> Option<&'t str> {
        let names = if table.per == Per::Principal { &table.roles } else { &table.actors };
        match names.len() {
            0 => None,
            n => names.get(row as usize % n).map(String::as_str),
        }
    }

    /// The id of a principal, as planted: its `principal` column, else the `id` of the first row planted for it.
    pub fn principal_id(&self, owner: Owner, role: &str) -> Option<Planted> {
        let of = |wanted: &dyn Fn(&str, &str) -> bool| {
            self.tables.iter().find_map(|table| {
                let row = table.roles.iter().position(|r| r == role)?;
                let (column, _) = table.columns.iter().find(|(column, generator)| wanted(column, generator))?;
                self.value(owner, row as u32, &table.name, column).ok()
            })
        };
        of(&|_, generator| generator == "principal").or_else(|| of(&|column, own| column == ID && names_itself(own)))
    }

    /// The canary of a planted place.
    pub fn canary(&self, owner: Owner, row: u32, table: &str, column: &str) -> Canary {
        Canary { owner, row, column: self.code(table, column) }
    }

    /// The planted value of `table.column` in `row` of `owner`; for [`Owner::ABSENT`] one like it that nobody planted.
    ///
    /// # Errors
    /// A generator or a name that does not exist, as a sentence.
    pub fn value(&self, owner: Owner, row: u32, table: &str, column: &str) -> Result<Planted, String> {
        let at = || format!("[[plant.table]] {table}, column {column}");
        let spec = self.table(table).ok_or_else(|| format!("no planted table {table}"))?;
        let generator = spec.columns.get(column).ok_or_else(|| format!("{}: not planted", at()))?;
        if let Some(value) = self.ageing.as_ref().and_then(|ageing| ageing.value(owner, row, table, column)) {
            return Ok(value);
        }
        let canary = self.canary(owner, row, table, column);
        let (word, rest) = generator.split_once(':').unwrap_or((generator, ""));
        let principal = |role: Option<&str>| {
            role.and_then(|role| self.principal_id(owner, role))
                .ok_or_else(|| format!("{}: `{generator}` names no planted principal", at()))
        };
        Ok(match word {
            _ if is_learnt(generator) => Planted::Learnt(ledger::name(table, column, owner, row)),
            "tenant" => self.tenant(owner),
            "principal" if rest.is_empty() => Planted::Uuid(self.mint.uuid(canary)),
            "principal" => principal(Some(rest))?,
            "actor" => principal(self.actor(spec, row))?,
            "ref" => {
                let rows = self.table(rest).map_or(1, |table| self.rows_of(table));
                self.value(owner, row % rows.max(1), rest, ID)?
            }
            "role" => Planted::Text(self.actor(spec, row).unwrap_or_default().into()),
            "uuid" => Planted::Uuid(self.mint.uuid(canary)),
            "text" => Planted::Text(self.mint.text(canary)),
            "email" => Planted::Text(self.mint.email(canary)),
            "timestamptz" => Planted::Time(self.mint.timestamp_us(canary).ok_or_else(|| {
                format!("{}: the planted period is too short for {} tenants of {} rows", at(), self.tenants, self.rows)
            })?),
            "inet" => Planted::Inet(self.mint.inet(canary)),
            "json" => Planted::Json(self.mint.json(canary)),
            "content" => content::around(rest, row, self.mint.json(canary))
                .map(Planted::Json)
                .ok_or_else(|| format!("{}: {}", at(), crate::error::unknown("content", rest, content::NAMES)))?,
            "bytea" => Planted::Bytes(self.mint.bytes(canary)),
            "bigint" => Planted::Bigint(self.mint.bigint(canary)),
            "collide" => Planted::Text(self.mint.collide(row)),
            "choice" => {
                let words: Vec<&str> = rest.split('|').collect();
                Planted::Text(words[row as usize % words.len()].into())
            }
            "value" => Planted::Text(rest.into()),
            "password" => Planted::PasswordHash,
            "secret_sha256" => {
                let role = self.actor(spec, row).unwrap_or_default();
                Planted::SecretHash(self.principal(owner, role))
            }
            _ => {
                let known = [
                    "tenant",
                    "principal",
                    "actor",
                    "ref",
                    "role",
                    "uuid",
                    "text",
                    "email",
                    "timestamptz",
                    "inet",
                    "json",
                    "content",
                    "bytea",
                    "bigint",
                    "collide",
                    "choice",
                    "value",
                    "password",
                    "secret_sha256",
                    "learnt",
                    "listed",
                ];
                return Err(format!("{}: {}", at(), crate::error::unknown("generator", word, known)));
            }
        })
    }

    /// The principal of `owner` with `role`; a platform role has no tenant.
    pub fn principal(&self, owner: Owner, role: &str) -> Principal {
        if self.platform_roles.iter().any(|r| r == role) || role == crate::principal::NOBODY {
            Principal::without_tenant(role)
        } else {
            Principal::of(owner, role)
        }
    }

    /// The id of a tenant, as requests name it.
    pub fn tenant_id(&self, owner: Owner) -> String {
        self.tenant(owner).text().unwrap_or_default()
    }

    /// The same as it stands in a JSON body.
    pub fn tenant_json(&self, owner: Owner) -> serde_json::Value {
        self.tenant(owner).json().unwrap_or_default()
    }

    /// A tenant's id: the `tenant` column of the first table planted per tenant, else what its `id` is planted with.
    pub(crate) fn tenant(&self, owner: Owner) -> Planted {
        if self.given_tenants {
            return Planted::Learnt(ledger::tenant_name(owner));
        }
        let home = self.tables.iter().find(|t| t.per == Per::Tenant);
        let column = home.and_then(|t| t.columns.iter().find(|(_, g)| *g == "tenant").map(|(c, _)| (t, c)));
        if let Some((table, column)) = column {
            return Planted::Uuid(self.mint.uuid(self.canary(owner, 0, &table.name, column)));
        }
        let own = home.filter(|table| table.columns.get(ID).is_some_and(|generator| names_itself(generator)));
        let own = own.and_then(|table| self.value(owner, 0, &table.name, ID).ok());
        own.unwrap_or_else(|| Planted::Uuid(self.mint.uuid(Canary { owner, row: 0, column: WRITTEN - 1 })))
    }

    /// What a tenant is known by: its id, then the planted texts of its own row.
    pub fn tenant_names(&self, owner: Owner) -> Vec<String> {
        let mut names = vec![self.tenant_id(owner).to_string()];
        if let Some(home) = self.tables.iter().find(|t| t.per == Per::Tenant) {
            let texts = home.columns.iter().filter(|(_, generator)| *generator == "text");
            let texts = texts.filter_map(|(column, _)| self.value(owner, 0, &home.name, column).ok()?.text());
            names.extend(texts);
        }
        names
    }

    /// The rows of `table` that `principal`'s narrowing leaves visible: those its named role acts in.
    pub fn visible(&self, narrowed_to: Option<&str>, table: &PlantTable, row: u32) -> bool {
        narrowed_to.is_none_or(|role| self.actor(table, row) == Some(role))
    }
}

impl Planted {
    /// As it stands in a URL, a JSON string or CSV; none for values that never leave the database.
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Self::Uuid(id) => id.to_string(),
            Self::Text(text) => text.clone(),
            Self::Time(us) => rfc3339(*us),
            Self::Inet(address) => address.to_string(),
            Self::Json(value) => value.to_string(),
            Self::Bigint(n) => n.to_string(),
            Self::Learnt(name) => placeholder::of(name),
            Self::Bytes(_) | Self::PasswordHash | Self::SecretHash(_) => return None,
        })
    }

    /// As it stands in a JSON body.
    pub fn json(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Json(value) => value.clone(),
            Self::Bigint(n) => (*n).into(),
            other => other.text()?.into(),
        })
    }
}

/// Whether a generator makes a value that only this row has.
fn names_itself(generator: &str) -> bool {
    ["uuid", "text", "bigint", "principal"].contains(&generator)
}

/// Microseconds since the Unix epoch as RFC 3339, UTC.
pub fn rfc3339(us: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::TimeWindow;

    #[test]
    fn a_tenants_id_is_what_its_own_row_is_planted_with() {
        let target = TargetFile::parse(
            r#"
name = "numbered"
openapi = "openapi.json"
base_url = "http://localhost"
credential.key = { kind = "secret" }
role = [{ name = "member", credential = "key" }]
operation = []
plant.table = [
  { name = "orgs", per = "tenant", columns = { id = "bigint", name = "text" } },
  { name = "people", per = "principal", roles = ["member"], columns = { id = "bigint", org_id = "tenant" } },
  { name = "tasks", per = "row", columns = { id = "bigint", org = "ref:orgs", by = "principal:member" } },
]
"#,
            "a test's",
        )
        .expect("a target file");
        let window = TimeWindow { start_unix_s: 0, seconds: 1_000_000, owners: 4, rows_per_owner: 16 };
        let holdings = Holdings::new(&target, 2, 3, Mint::new([7; 16], window));
        let value = |owner, row, table, column| holdings.value(Owner::new(owner), row, table, column).expect(column);
        let id = value(1, 0, "orgs", "id");
        assert!(matches!(id, Planted::Bigint(_)), "{id:?}");
        assert_eq!(value(1, 0, "people", "org_id"), id);
        // A row that refers to the tenant's one row refers to that one, whichever it is itself.
        assert_eq!(value(1, 2, "tasks", "org"), id);
        assert_eq!(value(1, 2, "tasks", "by"), value(1, 0, "people", "id"));
        assert_eq!(Some(holdings.tenant_json(Owner::new(1))), id.json());
        assert_ne!(value(0, 0, "orgs", "id"), id);
    }
}
