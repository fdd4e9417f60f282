//! The target file: all that Partywall is told about a service. Data only; what it means is decided where it is used.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::target::credential::Credential;
use crate::target::extends::{EXTENDS_MAX, whole};
use crate::target::retention::Retention;
use crate::target::tenants::{GivenTenant, Values};

pub use super::access::{Access, Issued, ListShape, Prepare};

/// A service under test.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetFile {
    /// Another target file beside this one, which this one changes: tables are merged, all else takes its place.
    #[serde(default, skip_serializing)]
    pub extends: Option<String>,
    /// Its name, in reports.
    pub name: String,
    /// The OpenAPI document: a path on the service (`/openapi.json`) or a file beside this one.
    pub openapi: String,
    /// Where the service answers, or `{env:NAME}`; needed only without `[launch]`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// A request whose answer is not whole after so long is given up, seconds.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// How to start it. Without this block it runs already, at `base_url`.
    #[serde(default)]
    pub launch: Option<Launch>,
    /// Its database.
    #[serde(default)]
    pub database: Option<Database>,
    /// How the wiretap knows whom a transaction is bound to.
    #[serde(default)]
    pub wiretap: Option<Wiretap>,
    /// What is planted.
    #[serde(default)]
    pub plant: Plant,
    /// Tenants that the service has already, two or more: with them nothing is planted but by its own operations.
    #[serde(default)]
    pub tenant: Vec<GivenTenant>,
    /// What proves the platform roles beside given tenants, as a tenant's `env`.
    #[serde(default)]
    pub operator: BTreeMap<String, Values>,
    /// How a credential is had, by name.
    #[serde(default)]
    pub credential: BTreeMap<String, Credential>,
    /// What goes by its age.
    #[serde(default)]
    pub retention: Option<Retention>,
    /// The application roles.
    pub role: Vec<Role>,
    /// What each operation of the document is about, and who may call it.
    pub operation: Vec<Access>,
}

fn default_timeout_s() -> u64 {
    20
}

/// How the service is started. In `args` and `env`: `{address}` (host:port to listen on), `{port}`, `{pool_size}`,
/// `{secret:N}` (N random bytes as hex, made once a run), `{env:NAME}` (what that variable holds), `{objects}` (an empty folder of the run: what the service
/// keeps there is looked at, each object below a path that names its tenant by id), `{database}` (administrator's URL), `{database:ROLE}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// A program: a path, or a name looked for beside `partywall`, then on PATH, then built from `cargo_package`.
    pub program: String,
    /// The workspace package that has the program.
    #[serde(default)]
    pub cargo_package: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment, besides PATH and locale; nothing else is handed on.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The path that answers 2xx once the service is ready.
    pub health: String,
    /// How long it may take to get ready, seconds.
    #[serde(default = "default_wait_s")]
    pub wait_s: u64,
    /// The variant of the program that has deliberate defects, for mutants.
    #[serde(default)]
    pub defects: Option<DefectsBuild>,
    /// True when `{pool_size}` sets the size of its connection pool: the run then visits sizes 1, 2 and more.
    #[serde(default)]
    pub pool_sizes: bool,
}

/// A build of the service with deliberate defects, chosen at run time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefectsBuild {
    /// Its program, found or built as the plain one is.
    pub program: String,
    /// The cargo feature to build it with.
    pub feature: String,
    /// The variable that names the defects to switch on, separated by commas.
    pub variable: String,
}

fn default_wait_s() -> u64 {
    20
}

/// The service's database.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// An existing database; without it a database of a throw-away Postgres is made.
    #[serde(default)]
    pub url: Option<String>,
    /// The setting that holds the tenant context of a transaction.
    #[serde(default)]
    pub tenant_context: Option<String>,
    /// Commands that make the schema, run once before planting; same placeholders as `[launch]`; the first word is a
    /// program, `{program}` the launched one.
    #[serde(default)]
    pub setup: Vec<Vec<String>>,
    /// Database roles that `{database:ROLE}` may name; each is given a random password.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Names of the databases that the target makes besides its own, `*` for anything: whatever is so named once the run
    /// ends is removed, and on a server that is not the run's own nothing may be so named before.
    #[serde(default)]
    pub makes: Vec<String>,
}

/// What the wiretap is told of a target. It listens wherever `[launch]` is given the database's address by
/// `{database}` or `{database:ROLE}`, once this block or `[database] tenant_context` says how a tenant is bound.
/// A database, a `search_path` or a database role binds too, when its name holds a tenant's id.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wiretap {
    /// Settings that hold a tenant, besides `[database] tenant_context`.
    #[serde(default)]
    pub settings: Vec<String>,
    /// Columns that hold the id of a row's tenant, as a context holds it: by them `partywall tap` knows whose a row is
    /// before a service in which nothing was planted.
    #[serde(default)]
    pub tenant_columns: Vec<String>,
    /// SQL functions that bind, for the transaction, the tenant that their first argument names.
    #[serde(default)]
    pub functions: Vec<String>,
    /// How long a tenant is bound.
    #[serde(default)]
    pub span: Span,
    /// What the service is told when it asks for encryption.
    #[serde(default)]
    pub tls: Tls,
    /// What is read while no tenant is bound, as at sign-in: a database role, and the planted tables (`TABLE`) or columns
    /// (`TABLE.COLUMN`) of which it may.
    #[serde(default)]
    pub unbound: BTreeMap<String, Vec<String>>,
}

/// What a client of the wiretap's is told when it asks for encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// That there is none.
    #[default]
    Refuse,
    /// That it may: it is shown a certificate that was made for the run, which nobody vouches for.
    Terminate,
}

/// How long a tenant is bound to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// For one transaction: whoever is bound beyond its end was forgotten there.
    #[default]
    Transaction,
    /// Until it is taken back, as where a client has a connection to itself.
    Session,
}

/// What is planted: in the database, by COPY, as a role that may bypass row security, or by the service's operations.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plant {
    /// SQL run after the tables exist and before rows are planted; `{from}` and `{to}` are the planted period's dates.
    #[serde(default)]
    pub before_sql: Vec<String>,
    /// A command run once rows are planted; same placeholders as `[launch]`.
    #[serde(default)]
    pub after: Vec<String>,
    /// The tables, parents first.
    #[serde(default)]
    pub table: Vec<PlantTable>,
}

/// One table's planting.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlantTable {
    /// The name by which the rest of this file speaks of it.
    pub name: String,
    /// The table in the database, when its name is another.
    #[serde(default)]
    pub table: Option<String>,
    /// What one row stands for.
    pub per: Per,
    /// Beside given tenants: the operation that makes a row of it, or with `per` tenant or principal shows one that is
    /// there. A row is asked for by its actor where that may, else by the first application role that may.
    #[serde(default)]
    pub by: Option<String>,
    /// The body that makes a row, where the operation's does not do: `{COLUMN}` is a column of the row; else as in
    /// `[[operation]] body`. Without one, columns named as properties take their place in what the document says.
    #[serde(default)]
    pub body: Option<serde_json::Value>,
    /// Rows a tenant at most, where a service has a limit.
    #[serde(default)]
    pub rows_max: Option<u32>,
    /// With `per = "principal"`: the application roles that get a row, in order.
    #[serde(default)]
    pub roles: Vec<String>,
    /// With `per = "row"`: the application roles whose principals act in turn; row 0 is the first one's.
    #[serde(default)]
    pub actors: Vec<String>,
    /// Column to generator: `tenant` (its id: a UUID, or what the first table planted per tenant has as `id`, as `bigint`
    /// or `text`), `principal` (the row's principal's id, a UUID), `principal:ROLE` and `actor` (the id of that or of the
    /// acting principal, as the first table that plants it has it), `ref:TABLE` (the id of the same row there), `role`, `uuid`, `text`, `email`,
    /// `timestamptz`, `inet`, `json`, `content:NAME` (as `json`, within a document of `scenarios/content/`), `bytea`,
    /// `bigint`, `collide` (the same in every tenant), `password` (argon2id hash), `secret_sha256`, `choice:a|b|c`,
    /// `value:TEXT`. With `by` also what the service makes, learnt from the owner's own answers: `learnt:POINTER` (in the
    /// answer of `by`), `learnt:location` (last part of that header), `listed:POINTER` (in the item of a complete list).
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
}

/// What one planted row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One a tenant.
    Tenant,
    /// One a principal of the named application roles.
    Principal,
    /// As many a tenant as the run asks for.
    Row,
}

/// One application role.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// True when it belongs to no tenant: it operates the service.
    #[serde(default)]
    pub platform: bool,
    /// The credential that proves it.
    pub credential: String,
    /// Planted columns (`TABLE.COLUMN`) of all tenants that a platform role may see.
    #[serde(default)]
    pub may_see: Vec<String>,
    /// Tables of which it sees only the rows of the named role's principal.
    #[serde(default)]
    pub narrowed: BTreeMap<String, String>,
}

/// The bundled reference's target file.
pub const REFERENCE: &str = include_str!("../../../scenarios/targets/reference.toml");

impl TargetFile {
    /// Reads `path`, or the bundled reference's file when there is none.
    ///
    /// # Errors
    /// Unreadable, not TOML, an unknown key, or a name that nothing in the file defines.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        match path {
            None => Self::parse(REFERENCE, "the bundled reference.toml"),
            Some(path) => {
                let origin = path.display().to_string();
                let text =
                    toml::to_string(&whole(path, EXTENDS_MAX)?).map_err(|e| Error::Usage(format!("{origin}: {e}")))?;
                Self::parse(&text, &origin)
            }
        }
    }

    /// Parses and checks `text`; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`TargetFile::load`].
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let file: Self = toml::from_str(text)
            .map_err(|e| Error::Usage(format!("target file {origin}: {}", with_nearest(&e.to_string()))))?;
        file.check().map_err(|e| Error::Usage(format!("target file {origin}: {e}")))?;
        Ok(file)
    }

    fn check(&self) -> Result<(), String> {
        if self.launch.is_none() && self.base_url.is_none() {
            return Err("give either [launch] or base_url".into());
        }
        let roles: Vec<&str> = self.role.iter().map(|r| r.name.as_str()).collect();
        let known = |what: &str, word: &str, words: &[&str]| {
            if words.contains(&word) {
                Ok(())
            } else {
                Err(crate::error::unknown(what, word, words.iter().copied()).to_string())
            }
        };
        let credentials: Vec<&str> = self.credential.keys().map(String::as_str).collect();
        let tables: Vec<&str> = self.plant.table.iter().map(|t| t.name.as_str()).collect();
        let operations: Vec<&str> = self.operation.iter().map(|o| o.id.as_str()).collect();
        for role in &self.role {
            known("credential", &role.credential, &credentials)?;
        }
        crate::target::tenants::check(self)?;
        crate::target::retention::check(self)?;
        for word in self.wiretap.iter().flat_map(|wiretap| wiretap.unbound.values().flatten()) {
            let columns =
                |table: &PlantTable| table.columns.keys().map(|c| format!("{}.{c}", table.name)).collect::<Vec<_>>();
            let all: Vec<String> = self.plant.table.iter().flat_map(columns).collect();
            let words: Vec<&str> = tables.iter().copied().chain(all.iter().map(String::as_str)).collect();
            known("planted table or column of [wiretap.unbound]", word, &words)?;
        }
        for table in &self.plant.table {
            for role in table.roles.iter().chain(&table.actors) {
                known("application role", role, &roles)?;
            }
            for id in table.by.iter() {
                known("operation", id, &operations)?;
            }
        }
        for operation in &self.operation {
            for role in operation.allow.iter().chain(operation.issues.as_ref().map(|issued| &issued.role)) {
                known("application role", role, &roles)?;
            }
            if let Some(table) = &operation.table {
                known("planted table", table, &tables)?;
            }
            for reference in operation.params.values().filter(|reference| *reference != super::named::TENANT) {
                let (table, column) = reference.split_once('.').unwrap_or((reference, ""));
                known("planted table", table, &tables)?;
                let columns: Vec<&str> = self
                    .plant
                    .table
                    .iter()
                    .filter(|t| t.name == table)
                    .flat_map(|t| t.columns.keys().map(String::as_str))
                    .collect();
                known(&format!("planted column of {table}"), column, &columns)?;
            }
            for id in operation.lines_of.iter().chain(operation.prepare.as_ref().map(|p| &p.operation)) {
                known("operation", id, &operations)?;
            }
        }
        Ok(())
    }

    /// The role of that name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.role.iter().find(|role| role.name == name)
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.max(1))
    }

    /// The channels that can be listened on: HTTP and the document always; SQL where there is a database; the wiretap where it has a place; the log
    /// of what is launched, its objects where it is told a folder for them; the mint, where credentials are made here;
    /// webhooks, where it can be told of some; a plain connection, where no TLS is around it; retention, where rows can be planted that are old.
    pub fn channels(&self) -> Vec<&'static str> {
        let mut open = vec!["http", "spec"];
        if self.database.is_some() {
            open.push("sql");
        }
        if self.is_tapped() {
            open.push("wiretap");
        }
        if self.launch.is_some() {
            open.push("log");
        }
        if self.keeps_objects() {
            open.push("objects");
        }
        if self.credential.values().any(|credential| !credential.flaws().is_empty()) {
            open.push("mint");
        }
        if self.operation.iter().any(|access| access.sink.is_some()) {
            open.push("webhook");
        }
        if self.base_url.as_ref().is_none_or(|url| url.starts_with("http://")) {
            open.push("plain");
        }
        if self.retention.is_some() && self.database.is_some() {
            open.push("retention");
        }
        open
    }

    /// Whether a wiretap can stand between the target and its database, and is told how a tenant is bound.
    pub fn is_tapped(&self) -> bool {
        let told = |text: &String| text.contains("{database}") || text.contains("{database:");
        let launched = self.launch.iter().flat_map(|launch| launch.env.values().chain(&launch.args)).any(told);
        let bound = self.database.as_ref().is_some_and(|d| d.tenant_context.is_some() || self.wiretap.is_some());
        launched && bound
    }

    /// Whether the target is told where to keep objects.
    pub fn keeps_objects(&self) -> bool {
        self.launch.iter().flat_map(|launch| launch.env.values()).any(|value| value.contains("{objects}"))
    }

    /// What the file says of an operation.
    pub fn access(&self, operation: &str) -> Option<&Access> {
        self.operation.iter().find(|access| access.id == operation)
    }
}

/// serde lists the known keys; this adds the nearest one.
fn with_nearest(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    match (message.contains("unknown field"), words.next()) {
        (true, Some(word)) => {
            let nearest = words.max_by(|a, b| strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b)));
            nearest.map_or_else(|| message.into(), |n| format!("{message}\ndid you mean `{n}`?"))
        }
        _ => message.into(),
    }
}
