//! Planting by the service's own operations: the requests that make a tenant's objects, and those that show them to
//! their owner.

use std::collections::BTreeMap;

use serde_json::Value;

use super::request::Naming;
use super::{Planner, Request};
use crate::canary::Owner;
use crate::operation::Operation;
use crate::principal::Principal;
use crate::target::file::{Access, ListShape, Per, PlantTable};
use crate::tenant::{BODY, Planted};

/// One object that is to be made.
pub struct Planting {
    /// Its row in the planted table.
    pub row: u32,
    /// Who makes it.
    pub actor: Principal,
    /// How.
    pub request: Request,
    /// Statuses that mean "not now".
    pub busy: Vec<u16>,
}

/// A request that must show its owner planted rows.
pub struct Showing {
    /// The operation's ID.
    pub operation: String,
    /// Who asks.
    pub actor: Principal,
    /// What.
    pub request: Request,
    /// The list's shape, where it is one to be walked.
    pub list: Option<ListShape>,
    /// The rows.
    pub rows: Vec<u32>,
}

impl Planner {
    /// The requests that make or read `owner`'s rows of `table`, in order.
    ///
    /// # Errors
    /// The target file and the document do not fit together, as a sentence.
    pub fn plantings(&self, table: &PlantTable, owner: Owner) -> Result<Vec<Planting>, String> {
        let at = |why: String| format!("[[plant.table]] {}: {why}", table.name);
        let by = table.by.as_deref().unwrap_or_default();
        let operation = self.operation(by).ok_or_else(|| at(format!("the document has no operation {by}")))?;
        let access = self.access(operation).ok_or_else(|| at(format!("no [[operation]] {by}")))?;
        let rows = 0..self.holdings.rows_of(table);
        rows.map(|row| {
            let role = self.maker(table, access, row).ok_or_else(|| at(format!("nobody may call {by}")))?;
            let actor = self.holdings.principal(owner, role);
            let naming = self.naming(owner, row, role);
            let mut request = self.request(operation, &naming)?;
            if let (Some((_, body)), None) = (&mut request.body, &access.lines_of) {
                *body = self.planted_body(table, operation, access, &naming)?.to_string();
            }
            Ok(Planting { row, actor, request, busy: access.busy.clone() })
        })
        .collect()
    }

    /// The requests that show `owner` its rows of `table`: a list that shows all, else each row by its id.
    ///
    /// # Errors
    /// As [`Planner::plantings`].
    pub fn showings(&self, table: &PlantTable, owner: Owner) -> Result<Vec<Showing>, String> {
        let rows: Vec<u32> = (0..self.holdings.rows_of(table)).collect();
        let reads = self.plan.operations.iter().filter(|operation| operation.is_read());
        let of_table = reads.filter_map(|operation| Some((operation, self.access(operation)?)));
        let of_table = of_table.filter(|(_, access)| access.table.as_deref() == Some(&table.name));
        let readable: Vec<(&Operation, &Access, &str)> =
            of_table.filter_map(|(o, a)| Some((o, a, self.reader(table, a)?))).collect();
        let objects =
            |o: &Operation| self.access(o).is_some_and(|a| self.plan.target.rows_in_path(o, a).next().is_some());
        let whole = readable.iter().find(|(o, a, _)| !objects(o) && a.list.as_ref().is_some_and(|list| list.complete));
        if let Some((operation, access, role)) = whole {
            return Ok(vec![self.showing(operation, access, role, owner, rows)?]);
        }
        // A list below a parent is as good as the object itself.
        let single = readable.iter().find(|(o, a, _)| objects(o) && a.list.is_none());
        let single = single.or_else(|| readable.iter().find(|(o, _, _)| objects(o)));
        let Some((operation, access, role)) = single else { return Ok(Vec::new()) };
        rows.into_iter().map(|row| self.showing(operation, access, role, owner, vec![row])).collect()
    }

    fn showing(
        &self,
        operation: &Operation,
        access: &Access,
        role: &str,
        owner: Owner,
        rows: Vec<u32>,
    ) -> Result<Showing, String> {
        let naming = self.naming(owner, rows.first().copied().unwrap_or(0), role);
        Ok(Showing {
            operation: operation.id.clone(),
            actor: self.holdings.principal(owner, role),
            request: self.request(operation, &naming)?,
            list: access.list.clone(),
            rows,
        })
    }

    fn naming<'a>(&self, owner: Owner, row: u32, role: &'a str) -> Naming<'a> {
        Naming { owner, row, writer: owner, write: row, role, given: BTreeMap::new(), among: None }
    }

    /// The row's actor where it may make it, else the first application role that may.
    fn maker<'a>(&'a self, table: &'a PlantTable, access: &'a Access, row: u32) -> Option<&'a str> {
        let actor = self.holdings.actor(table, row).filter(|role| access.allow.iter().any(|r| r == role));
        actor.or_else(|| access.allow.iter().map(String::as_str).find(|role| self.is_tenants(role)))
    }

    /// An application role of a tenant that sees all rows of `table`.
    fn reader<'a>(&self, table: &PlantTable, access: &'a Access) -> Option<&'a str> {
        let sees_all = |role: &&str| {
            let parents = access.params.values().filter_map(|reference| reference.split('.').next());
            let mut tables = parents.chain([table.name.as_str()]);
            self.is_tenants(role) && tables.all(|table| self.narrowing(role, Some(table)).is_none())
        };
        access.allow.iter().map(String::as_str).find(sees_all)
    }

    fn is_tenants(&self, role: &str) -> bool {
        self.plan.target.role(role).is_some_and(|role| !role.platform)
    }

    /// The body that makes a row, every text in it a canary of the row.
    fn planted_body(
        &self,
        table: &PlantTable,
        operation: &Operation,
        access: &Access,
        naming: &Naming<'_>,
    ) -> Result<Value, String> {
        let mut writer = self.writer(naming.owner, naming.row);
        writer.column = self.holdings.canary(naming.owner, naming.row, &table.name, BODY).column;
        // Who acts in the row, whoever makes it.
        let role = self.holdings.actor(table, naming.row).unwrap_or(naming.role);
        let naming = Naming { role, given: BTreeMap::new(), ..*naming };
        if let Some(template) = table.body.as_ref().or(access.body.as_ref()) {
            let template = self.with_columns(template, table, &naming)?;
            return self.fill(&template, &naming, &writer);
        }
        let mut body = operation.body.as_ref().map_or(Value::Null, |body| writer.body(&body.schema));
        if let Value::Object(fields) = &mut body {
            for (name, field) in fields.iter_mut() {
                if let Some(value) = self.column_value(table, name, &naming)? {
                    *field = value;
                }
            }
        }
        Ok(body)
    }

    /// `template` with the row's own columns in place of their names.
    fn with_columns(&self, template: &Value, table: &PlantTable, naming: &Naming<'_>) -> Result<Value, String> {
        Ok(match template {
            Value::String(text) => {
                let column = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
                let value = column.map(|column| self.column_value(table, column, naming)).transpose()?.flatten();
                value.unwrap_or_else(|| template.clone())
            }
            Value::Object(fields) => {
                let filled = fields.iter().map(|(k, v)| Ok((k.clone(), self.with_columns(v, table, naming)?)));
                Value::Object(filled.collect::<Result<_, String>>()?)
            }
            Value::Array(items) => {
                let filled = items.iter().map(|item| self.with_columns(item, table, naming));
                Value::Array(filled.collect::<Result<_, String>>()?)
            }
            other => other.clone(),
        })
    }

    /// What the row has in `column`; none for what is not planted, or not by us.
    fn column_value(&self, table: &PlantTable, column: &str, naming: &Naming<'_>) -> Result<Option<Value>, String> {
        if !table.columns.contains_key(column) {
            return Ok(None);
        }
        let value = self.holdings.value(naming.owner, naming.row, &table.name, column)?;
        Ok(if matches!(value, Planted::Learnt(_)) { None } else { value.json() })
    }

    /// True when rows of `table` are there already and only read.
    pub fn only_reads(&self, table: &PlantTable) -> bool {
        table.by.as_deref().and_then(|by| self.operation(by)).is_some_and(Operation::is_read)
    }

    /// The tables planted by operations, parents first.
    pub fn plant_tables(&self) -> impl Iterator<Item = &PlantTable> {
        self.holdings.tables().iter().filter(|table| table.by.is_some())
    }

    /// The learnt column that is the tenant's id: the first of the first table planted per tenant.
    pub fn tenant_column(&self) -> Option<(&PlantTable, &str)> {
        let table = self.plant_tables().find(|table| table.per == Per::Tenant)?;
        let learnt = table.columns.iter().find(|(_, generator)| crate::target::tenants::is_learnt(generator));
        learnt.map(|(column, _)| (table, column.as_str()))
    }
}
