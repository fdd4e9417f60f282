//! How one request is filled in: whose ids, which values, which forged tenant.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::body::Writer;
use super::{Planner, Proof, Request};
use crate::canary::Owner;
use crate::ledger;
use crate::operation::{Operation, Place};
use crate::placeholder::{self, SINK};
use crate::target::file::{Access, Per, PlantTable};
use crate::target::named::{TENANT, reference_of};
use crate::tenant::{WRITTEN, rfc3339};

/// Names under which services take a tenant from a request; a document's own names of that kind are added.
const TENANT_WORDS: [&str; 12] = [
    "tenant_id",
    "tenantId",
    "tenant",
    "org_id",
    "orgId",
    "organization_id",
    "organizationId",
    "account_id",
    "accountId",
    "workspace_id",
    "customer_id",
    "company_id",
];
const TENANT_HEADERS: [&str; 7] =
    ["X-Tenant-Id", "X-Tenant", "X-Org-Id", "X-Organization-Id", "X-Account-Id", "X-Workspace-Id", "X-Customer-Id"];
/// What such names begin with.
pub(super) const TENANT_ROOTS: [&str; 6] = ["tenant", "org", "account", "workspace", "customer", "company"];

/// Whose objects a request names.
pub(super) struct Naming<'a> {
    /// Owner of the objects named; [`Owner::ABSENT`] for ids that do not exist.
    pub owner: Owner,
    /// Which of its rows.
    pub row: u32,
    /// Who will own what is written.
    pub writer: Owner,
    /// Number of the write.
    pub write: u32,
    /// The actor's role.
    pub role: &'a str,
    /// Parameters, and rows named in the body by `TABLE.COLUMN`, that take another value: captured ids, or rows of
    /// another owner.
    pub given: BTreeMap<String, String>,
    /// Who has one more row in lists of rows that the body names, and whether it is the first.
    pub among: Option<(Owner, bool)>,
}

/// Where a forged tenant goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forge {
    Query,
    Header,
    Body,
}

/// Words for "tenant" in parameters and bodies: the common ones, the document's own, and what the planted tables call it.
pub(super) fn tenant_words(operations: &[Operation], tables: &[PlantTable]) -> Vec<String> {
    let mut words: BTreeSet<String> = TENANT_WORDS.iter().map(|w| (*w).into()).collect();
    let columns = tables.iter().flat_map(|table| &table.columns);
    let called = columns.filter(|(column, generator)| *generator == "tenant" && *column != "id");
    words.extend(called.map(|(column, _)| column.clone()));
    let mut names: Vec<&str> = operations.iter().flat_map(|o| o.parameters.iter().map(|p| p.name.as_str())).collect();
    for operation in operations {
        let properties = operation.body.as_ref().and_then(|b| b.schema.get("properties"));
        names.extend(properties.and_then(Value::as_object).into_iter().flat_map(|p| p.keys().map(String::as_str)));
    }
    for name in names {
        let plain = name.to_lowercase();
        if TENANT_ROOTS.iter().any(|root| plain.starts_with(root)) {
            words.insert(name.into());
        }
    }
    words.into_iter().collect()
}

impl Planner {
    pub(super) fn access(&self, operation: &Operation) -> Option<&Access> {
        self.plan.target.access(&operation.id)
    }

    pub(super) fn operation(&self, id: &str) -> Option<&Operation> {
        self.plan.operations.iter().find(|o| o.id == id)
    }

    pub(super) fn planted(&self, owner: Owner, row: u32, reference: &str) -> Result<String, String> {
        if reference == TENANT {
            return Ok(self.holdings.tenant_id(owner));
        }
        let (table, column) = reference.split_once('.').unwrap_or((reference, "id"));
        let row = match self.holdings.table(table) {
            Some(spec) => row % self.holdings.rows_of(spec).max(1),
            None => row,
        };
        let value = self.holdings.value(owner, row, table, column)?;
        value.text().ok_or_else(|| format!("{reference} cannot stand in a request"))
    }

    pub(super) fn writer(&self, owner: Owner, number: u32) -> Writer<'_> {
        // A whole second past the planted period, so that no written instant looks planted.
        let now_us = (self.plan.day_unix_s + i64::from(number % 3600)) * 1_000_000;
        Writer { mint: self.holdings.mint(), owner, number, column: WRITTEN, now_us }
    }

    /// A request of `operation` as its document wants it, with the objects that `naming` names.
    pub(super) fn request(&self, operation: &Operation, naming: &Naming<'_>) -> Result<Request, String> {
        let none = BTreeMap::new();
        let access = self.access(operation);
        let params = access.map_or(&none, |a| &a.params);
        let writer = self.writer(naming.writer, naming.write);
        let mut path = operation.path.clone();
        let mut query = Vec::new();
        let mut headers = Vec::new();
        for parameter in &operation.parameters {
            let value = match (naming.given.get(&parameter.name), params.get(&parameter.name)) {
                (Some(given), _) => given.clone(),
                (None, Some(reference)) if parameter.required => self.planted(naming.owner, naming.row, reference)?,
                (None, None) if parameter.required => text_of(&writer.body(&parameter.schema)),
                _ => continue,
            };
            match parameter.place {
                Place::Path => path = path.replace(&format!("{{{}}}", parameter.name), &value),
                Place::Query => query.push((parameter.name.clone(), value)),
                Place::Header => headers.push((parameter.name.clone(), value)),
                Place::Cookie => {}
            }
        }
        for (name, value) in access.iter().flat_map(|a| &a.always) {
            query.retain(|(given, _)| given != name);
            query.push((name.clone(), value.clone()));
        }
        // A value may hold braces of its own.
        let mut named = operation.path.split('{').skip(1).filter_map(|part| part.split('}').next());
        if !named.all(|name| operation.parameters_in(Place::Path).any(|p| p.name == name)) {
            return Err(format!(
                "operation {}: a parameter of {} is not in the document",
                operation.id, operation.path
            ));
        }
        let body = self.body(operation, access, naming, &writer)?;
        Ok(Request { method: operation.method.clone(), path, query, headers, body, proof: Proof::AsIssued })
    }

    fn body(
        &self,
        operation: &Operation,
        access: Option<&Access>,
        naming: &Naming<'_>,
        writer: &Writer<'_>,
    ) -> Result<Option<(String, String)>, String> {
        let Some(body) = &operation.body else { return Ok(None) };
        if let Some(lines_of) = access.and_then(|a| a.lines_of.as_deref()) {
            let schema = self.operation(lines_of).and_then(|o| o.body.as_ref()).map(|b| &b.schema);
            let schema = schema.ok_or_else(|| format!("lines_of: {lines_of} has no body"))?;
            let lines: String = (0..3).map(|_| format!("{}\n", writer.body(schema))).collect();
            return Ok(Some((body.content_type.clone(), lines)));
        }
        let value = match access.and_then(|a| a.body.as_ref()) {
            Some(template) => self.fill(template, naming, writer)?,
            None => writer.body(&body.schema),
        };
        Ok(Some((body.content_type.clone(), value.to_string())))
    }

    /// Fills a body template of the target file; what needs a secret or a capture stays for the driver.
    pub(super) fn fill(&self, template: &Value, naming: &Naming<'_>, writer: &Writer<'_>) -> Result<Value, String> {
        Ok(match template {
            Value::String(text) => match reference_of(text) {
                Some("text") => Value::String(writer.text()),
                Some("email") => Value::String(writer.email()),
                Some("base64") => Value::String(writer.base64()),
                Some("password") => Value::String("⟦password⟧".into()),
                Some(SINK) => Value::String(placeholder::of(SINK)),
                Some(TENANT) => self.holdings.tenant_json(naming.owner),
                Some(reference) if self.plan.target.is_row(reference) => match naming.given.get(reference) {
                    Some(given) => Value::String(given.clone()),
                    None => self.row_named(naming.owner, naming.row, reference)?,
                },
                Some(word) => match word.split_once(':') {
                    Some(("captured", name)) => Value::String(format!("⟦{name}⟧")),
                    Some(("given", name)) => Value::String(self.given(naming, name).unwrap_or_else(|| writer.email())),
                    _ => Value::String(self.of_principal(naming, word)?),
                },
                None => Value::String(text.clone()),
            },
            Value::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(k, v)| Ok((k.clone(), self.fill(v, naming, writer)?)))
                    .collect::<Result<_, String>>()?,
            ),
            Value::Array(items) => {
                let mut filled: Vec<Value> =
                    items.iter().map(|v| self.fill(v, naming, writer)).collect::<Result<_, String>>()?;
                let mut rows = items.iter().filter_map(|item| reference_of(item.as_str()?));
                if let (Some((owner, first)), Some(reference)) =
                    (naming.among, rows.rfind(|reference| self.plan.target.is_row(reference)))
                {
                    let place = if first { 0 } else { filled.len() };
                    filled.insert(place, self.row_named(owner, naming.row, reference)?);
                }
                Value::Array(filled)
            }
            other => other.clone(),
        })
    }

    /// A planted row as a body names it.
    fn row_named(&self, owner: Owner, row: u32, reference: &str) -> Result<Value, String> {
        let (table, column) = reference.split_once('.').unwrap_or((reference, ""));
        let rows = self.holdings.table(table).map_or(1, |spec| self.holdings.rows_of(spec).max(1));
        let value = self.holdings.value(owner, row % rows, table, column)?;
        value.json().ok_or_else(|| format!("{reference} cannot stand in a body"))
    }

    /// What `env` gives for the acting principal; none for one that it does not speak of.
    fn given(&self, naming: &Naming<'_>, name: &str) -> Option<String> {
        let principal = self.holdings.principal(naming.owner, naming.role);
        let target = &self.plan.target;
        let values = match principal.tenant {
            Some(owner) => target.tenant.get(owner.index() as usize)?.env.get(naming.role),
            None => target.operator.get(naming.role),
        };
        values?.contains_key(name).then(|| placeholder::of(&ledger::given_name(name, &principal)))
    }

    /// A planted value of the acting principal's own row: `TABLE.COLUMN`.
    fn of_principal(&self, naming: &Naming<'_>, reference: &str) -> Result<String, String> {
        let (table, column) = reference.split_once('.').ok_or_else(|| format!("`{{{reference}}}` is not known"))?;
        principal_value(&self.holdings, naming.owner, naming.role, table, column)
    }

    /// `request` with `owner` forged into it.
    pub(super) fn forged(&self, mut request: Request, forge: Forge, owner: Owner) -> Request {
        let id = self.holdings.tenant_id(owner).to_string();
        match forge {
            Forge::Query => {
                let words = self.tenant_words.iter().filter(|w| !request.query.iter().any(|(k, _)| k == *w));
                let forged: Vec<_> = words.map(|w| (w.clone(), id.clone())).collect();
                request.query.extend(forged);
            }
            Forge::Header => request.headers.extend(TENANT_HEADERS.map(|h| (h.into(), id.clone()))),
            Forge::Body => {
                if let Some((_, body)) = &mut request.body {
                    *body = body.lines().map(|line| self.forged_line(line, owner)).collect::<Vec<_>>().join("\n");
                }
            }
        }
        request
    }

    fn forged_line(&self, line: &str, owner: Owner) -> String {
        match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(mut fields)) => {
                // Only names of the first kind: a strict service refuses the unknown ones, a lax one takes the first.
                for word in self.tenant_words.iter() {
                    fields.insert(word.clone(), self.holdings.tenant_json(owner));
                }
                Value::Object(fields).to_string()
            }
            _ => line.into(),
        }
    }

    /// One tenant word, for requests that a strict service must not refuse for the other words.
    pub(super) fn tenant_word(&self, index: u64) -> &str {
        &self.tenant_words[index as usize % self.tenant_words.len()]
    }

    /// Text of an instant that no planted row has.
    pub(super) fn instant(&self, us: i64) -> String {
        rfc3339(us)
    }
}

/// The value of `table.column` in the row planted for a principal; of a stranger when it has none.
pub fn principal_value(
    holdings: &crate::tenant::Holdings,
    owner: Owner,
    role: &str,
    table: &str,
    column: &str,
) -> Result<String, String> {
    // Several planted tables may share the database's table: the one that plants this role is meant.
    let wanted = holdings.table(table).ok_or_else(|| format!("no planted table {table}"))?;
    let database = wanted.table.as_deref().unwrap_or(&wanted.name);
    let home = holdings
        .tables()
        .iter()
        .find(|t| t.table.as_deref().unwrap_or(&t.name) == database && t.roles.iter().any(|r| r == role));
    let value = match home {
        Some(home) => {
            let row = home.roles.iter().position(|r| r == role).unwrap_or(0) as u32;
            let owner = if holdings.is_platform(home) { Owner::PLATFORM } else { owner };
            holdings.value(owner, row, &home.name, column)?
        }
        // A tenant's one row is everyone's in it.
        None if wanted.per == Per::Tenant => holdings.value(owner, 0, table, column)?,
        None => holdings.value(Owner::ABSENT, 0, table, column)?,
    };
    value.text().ok_or_else(|| format!("{table}.{column} cannot stand in a request"))
}

/// A drawn value as it stands in a path or a query.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
