//! Which relations are tenants', by which column; what carries the tenant context; which database roles are the
//! application's. Taken from the configuration, names, foreign keys and what policies compare, in this order.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::application::{self, ApplicationRole};
use super::catalog::{Catalog, Constraint, ConstraintKind, Kind, Oid, Relation};
use super::compared::{compared, looked_up_by_policies, memberships};
use super::config::{Config, fits};
use super::expression::Comparison;
use crate::error::{Error, Result, unknown};

/// Names of columns that say whose a row is, where nobody tells others.
const COLUMNS: [&str; 14] = [
    "tenant_id",
    "tenantid",
    "tenant",
    "tenant_uuid",
    "tenant_key",
    "org_id",
    "orgid",
    "organization_id",
    "organisation_id",
    "organizationid",
    "workspace_id",
    "workspaceid",
    "account_id",
    "company_id",
];

/// A relation of tenants.
#[derive(Clone, Debug)]
pub struct TenantTable {
    /// The column that says whose a row is; none when another table does, by a foreign key.
    pub column: Option<String>,
    /// How that is known.
    pub because: String,
    /// True for the table that lists the tenants.
    pub directory: bool,
}

/// Who is who in a database.
#[derive(Clone, Debug, Default)]
pub struct Tenancy {
    tables: BTreeMap<Oid, TenantTable>,
    contexts: BTreeSet<String>,
    principals: BTreeSet<String>,
    identifying: HashSet<(Oid, i16)>,
    following: HashSet<(Oid, i16)>,
    /// The application's database roles.
    pub application: Vec<ApplicationRole>,
    /// Groups of schemas that hold the same tables: a schema is a tenant.
    pub schemas: Vec<Vec<Oid>>,
}

impl Tenancy {
    /// Finds out. `named` are roles told on the command line.
    ///
    /// # Errors
    /// A role or a table that was told is not there.
    pub fn read(catalog: &Catalog, config: &Config, named: &[String]) -> Result<Self> {
        let mut tenancy = Self { identifying: identifying(catalog), ..Self::default() };
        tenancy.contexts.extend(config.tenant_context.iter().cloned());
        tenancy.told(catalog, config)?;
        let compared = compared(catalog);
        tenancy.by_column(catalog, config, &compared);
        let told = compared.into_iter().map(|(_, comparison)| comparison.context).chain(looked_up_by_policies(catalog));
        tenancy.principals = told.filter(|context| !tenancy.contexts.contains(context)).collect();
        tenancy.by_reference(catalog, config);
        tenancy.by_parent(catalog);
        let keys =
            catalog.constraints.iter().filter(|key| key.references.is_some_and(|to| tenancy.is_tenant_table(to)));
        tenancy.following = keys.flat_map(|key| key.columns.iter().map(|column| (key.relation, *column))).collect();
        tenancy.schemas = if config.tenant_schemas.is_empty() {
            alike(catalog, &tenancy)
        } else {
            vec![told_schemas(catalog, config)]
        };
        tenancy.application = application::roles(catalog, &tenancy, config, named)?;
        Ok(tenancy)
    }

    /// True for a relation whose rows are tenants'.
    pub fn is_tenant_table(&self, relation: Oid) -> bool {
        self.tables.contains_key(&relation)
    }

    /// What is known of a tenants' relation.
    pub fn table(&self, relation: Oid) -> Option<&TenantTable> {
        self.tables.get(&relation)
    }

    /// The tenants' relations, by number.
    pub fn tables(&self) -> impl Iterator<Item = (Oid, &TenantTable)> {
        self.tables.iter().map(|(oid, table)| (*oid, table))
    }

    /// The column that says whose a row is.
    pub fn column_of(&self, relation: Oid) -> Option<&str> {
        self.tables.get(&relation)?.column.as_deref()
    }

    /// True when a setting, a key in one, or a function says which tenant is bound.
    pub fn carries(&self, context: &str) -> bool {
        self.contexts.contains(context)
    }

    /// What says which tenant is bound.
    pub fn contexts(&self) -> impl Iterator<Item = &str> {
        self.contexts.iter().map(String::as_str)
    }

    /// What says who calls, where a lookup in a policy decides by that.
    pub fn principals(&self) -> impl Iterator<Item = &str> {
        self.principals.iter().map(String::as_str)
    }

    /// True when a column says who or what somebody or something is: it is a key by itself, or refers to one.
    pub fn identifies(&self, relation: Oid, column: i16) -> bool {
        self.identifying.contains(&(relation, column))
    }

    /// True when a column refers to a tenant's row: whose the row is follows from it.
    pub fn follows(&self, relation: Oid, column: i16) -> bool {
        self.following.contains(&(relation, column))
    }

    fn told(&mut self, catalog: &Catalog, config: &Config) -> Result<()> {
        for told in &config.tenant_tables {
            let wrong =
                || Error::Usage(format!("tenant_tables: `{told}` is not written table.column or schema.table.column"));
            let (table, column) = told.rsplit_once('.').ok_or_else(wrong)?;
            let relation = named(catalog, table).ok_or_else(|| {
                unknown(
                    "table in tenant_tables",
                    table,
                    catalog.relations.values().map(|relation| relation.name.as_str()),
                )
            })?;
            if relation.column(column).is_none() {
                let columns = relation.columns.iter().map(|column| column.name.as_str());
                return Err(unknown(&format!("column of {table} in tenant_tables"), column, columns));
            }
            self.add(relation.oid, Some(column), "the configuration says so");
        }
        Ok(())
    }

    fn add(&mut self, relation: Oid, column: Option<&str>, because: impl Into<String>) {
        let table = TenantTable { column: column.map(String::from), because: because.into(), directory: false };
        self.tables.entry(relation).or_insert(table);
    }

    fn by_column(&mut self, catalog: &Catalog, config: &Config, compared: &[(Oid, Comparison)]) {
        let is_named = |name: &str| {
            config.tenant_columns.iter().any(|pattern| fits(pattern, name))
                || COLUMNS.contains(&name.to_lowercase().as_str())
        };
        let candidates = || relations(catalog).filter(|relation| !is_platform(config, relation));
        for relation in candidates() {
            let told = |pattern: &String| relation.columns.iter().find(|column| fits(pattern, &column.name));
            let column = config.tenant_columns.iter().find_map(told);
            let known = |name: &str| relation.columns.iter().find(|column| column.name.to_lowercase() == name);
            if let Some(column) = column.or_else(|| COLUMNS.iter().find_map(|name| known(name))) {
                self.add(relation.oid, Some(&column.name), format!("its column {} names the tenant", column.name));
            }
        }
        // Where no name says it, the tables do that say who belongs where.
        if self.tables.is_empty() {
            for (relation, column) in memberships(catalog) {
                let known = catalog.relations.get(&relation).filter(|relation| !is_platform(config, relation));
                if known.is_some() {
                    self.add(relation, Some(&column), "policies look up there where who calls belongs");
                }
            }
        }
        // What is compared with such a column is the tenant's context; where there is none, what is compared most.
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (relation, comparison) in compared {
            *counts.entry(&comparison.context).or_default() += 1;
            // A column may be made of the one that is compared.
            let made = catalog.relations.get(relation).and_then(|table| table.column(self.column_of(*relation)?));
            let made = made.filter(|column| column.generated).and_then(|column| column.default.as_deref());
            let within = made.is_some_and(|from| from.contains(&comparison.column));
            if is_named(&comparison.column) || within || self.column_of(*relation) == Some(&comparison.column) {
                self.contexts.insert(comparison.context.clone());
            }
        }
        if self.contexts.is_empty() && self.tables.is_empty() {
            let most = counts.iter().max_by_key(|(context, count)| (**count, std::cmp::Reverse(**context)));
            self.contexts.extend(most.map(|(context, _)| context.to_string()));
        }
        for (relation, comparison) in compared {
            let known = catalog.relations.get(relation).filter(|relation| !is_platform(config, relation));
            let here = known.and_then(|relation| relation.column(&comparison.column)).is_some();
            if here && self.contexts.contains(&comparison.context) {
                let because = format!("a policy compares {} with {}", comparison.column, comparison.context);
                self.add(*relation, Some(&comparison.column), because);
            }
        }
        // A name that says whose a row is in one table says so in the others, unless it only names the row itself.
        let learnt: BTreeSet<String> =
            self.tables.values().filter_map(|table| table.column.clone()).filter(|name| name != "id").collect();
        for relation in candidates() {
            if let Some(column) = relation.columns.iter().find(|column| learnt.contains(&column.name)) {
                self.add(
                    relation.oid,
                    Some(&column.name),
                    format!("its column {} names the tenant elsewhere", column.name),
                );
            }
        }
    }

    fn by_reference(&mut self, catalog: &Catalog, config: &Config) {
        let keys: Vec<&Constraint> =
            catalog.constraints.iter().filter(|constraint| constraint.kind == ConstraintKind::Foreign).collect();
        let column = |relation: Oid, number: i16| {
            catalog.relations.get(&relation).and_then(|r| r.column_numbered(number)).map(|column| column.name.as_str())
        };
        let platform = |relation: Oid| {
            catalog
                .relations
                .get(&relation)
                .is_none_or(|relation| is_platform(config, relation) || relation.extension.is_some())
        };
        // What tenants' columns refer to, alone, lists the tenants.
        let mut directories: BTreeMap<Oid, i16> = BTreeMap::new();
        for key in &keys {
            if let ([own], [there], Some(table)) =
                (key.columns.as_slice(), key.referenced_columns.as_slice(), key.references)
                && column(key.relation, *own).is_some_and(|own| self.column_of(key.relation) == Some(own))
                && !platform(table)
            {
                let listed = self.column_of(table).is_none_or(|known| column(table, *there) == Some(known));
                if listed {
                    directories.insert(table, *there);
                }
            }
        }
        for (table, number) in &directories {
            self.add(*table, column(*table, *number), "tenants' tables refer to it: it lists the tenants");
            if let Some(table) = self.tables.get_mut(table) {
                table.directory = true;
            }
        }
        for key in &keys {
            if let ([own], Some(table)) = (key.columns.as_slice(), key.references)
                && directories.contains_key(&table)
                && !platform(key.relation)
            {
                self.add(
                    key.relation,
                    column(key.relation, *own),
                    format!("its column refers to {}", label(catalog, table)),
                );
            }
        }
        // Rows that hang on a tenant's row are that tenant's.
        loop {
            let before = self.tables.len();
            for key in &keys {
                if let Some(table) = key.references
                    && table != key.relation
                    && self.is_tenant_table(table)
                    && !directories.contains_key(&key.relation)
                    && !platform(key.relation)
                {
                    self.add(key.relation, None, format!("its rows refer to rows of {}", label(catalog, table)));
                }
            }
            if self.tables.len() == before {
                break;
            }
        }
    }

    /// Partitions and children are what their parents are.
    fn by_parent(&mut self, catalog: &Catalog) {
        for relation in catalog.relations.values() {
            for parent in &relation.parents {
                if let Some(table) = self.tables.get(parent) {
                    let (column, because) =
                        (table.column.clone(), format!("its parent is {}", label(catalog, *parent)));
                    self.add(relation.oid, column.as_deref(), because);
                }
            }
        }
    }
}

fn label(catalog: &Catalog, relation: Oid) -> String {
    catalog.relations.get(&relation).map_or_else(|| "a table".into(), Relation::label)
}

fn named<'a>(catalog: &'a Catalog, name: &str) -> Option<&'a Relation> {
    let (schema, table) = name.rsplit_once('.').map_or((None, name), |(schema, table)| (Some(schema), table));
    catalog.relation_named(schema, table)
}

fn is_platform(config: &Config, relation: &Relation) -> bool {
    config.is_platform(&relation.label(), &relation.name)
}

/// What holds rows, and is nobody's extension; views hold none.
fn relations(catalog: &Catalog) -> impl Iterator<Item = &Relation> {
    let holds = |kind: Kind| matches!(kind, Kind::Table | Kind::Partitioned | Kind::MaterialisedView | Kind::Foreign);
    catalog.relations.values().filter(move |relation| relation.extension.is_none() && holds(relation.kind))
}

/// The schemas that the configuration calls tenants'.
fn told_schemas(catalog: &Catalog, config: &Config) -> Vec<Oid> {
    let told = |name: &str| config.tenant_schemas.iter().any(|pattern| fits(pattern, name));
    catalog.schemas.values().filter(|schema| told(&schema.name)).map(|schema| schema.oid).collect()
}

/// Groups of schemas of which each holds at least half of the tables of the others, and none with a tenant's column.
fn alike(catalog: &Catalog, tenancy: &Tenancy) -> Vec<Vec<Oid>> {
    let mut tables: BTreeMap<Oid, BTreeSet<&str>> = BTreeMap::new();
    for relation in
        catalog.relations.values().filter(|relation| relation.kind.is_table() && relation.extension.is_none())
    {
        if !tenancy.is_tenant_table(relation.oid) && !relation.is_partition {
            tables.entry(relation.schema_oid).or_default().insert(&relation.name);
        }
    }
    let mut groups: Vec<(&BTreeSet<&str>, Vec<Oid>)> = Vec::new();
    for (schema, own) in &tables {
        let shares = |first: &&BTreeSet<&str>| first.intersection(own).count() * 2 >= first.len().max(own.len());
        match groups.iter_mut().find(|(first, _)| shares(first)) {
            Some((_, group)) => group.push(*schema),
            None => groups.push((own, vec![*schema])),
        }
    }
    groups.into_iter().map(|(_, group)| group).filter(|group| group.len() > 1).collect()
}

fn identifying(catalog: &Catalog) -> HashSet<(Oid, i16)> {
    let mut found = HashSet::new();
    for constraint in &catalog.constraints {
        match (constraint.kind, constraint.columns.as_slice()) {
            (ConstraintKind::Foreign, columns) => {
                found.extend(columns.iter().map(|column| (constraint.relation, *column)))
            }
            (ConstraintKind::Primary, columns) => {
                found.extend(columns.iter().map(|column| (constraint.relation, *column)))
            }
            (ConstraintKind::Unique, [only]) => {
                found.insert((constraint.relation, *only));
            }
            _ => {}
        }
    }
    // A uuid is nobody's by chance.
    for relation in catalog.relations.values() {
        let ids = relation.columns.iter().filter(|column| column.type_name == "uuid");
        found.extend(ids.map(|column| (relation.oid, column.number)));
    }
    found
}
