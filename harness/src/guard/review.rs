//! One pass of all rules over one database.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::catalog::{Catalog, Function, Oid, Privilege, Relation, Role};
use super::config::Config;
use super::expression::{Bound, Evaluator};
use super::finding::{Certainty, Finding, Object};
use super::report::{Report, Suppressed, Taken, VERSION};
use super::rule::{Rule, catalogue};
use super::rules;
use super::tenancy::Tenancy;
use crate::error::{Error, Result};

/// What rules look at, and where they put what they find.
pub struct Review<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) tenancy: &'a Tenancy,
    /// Follows expressions; each rule turns it to the role and situation that it asks about.
    pub(super) evaluator: Evaluator<'a>,
    rules: BTreeMap<String, Rule>,
    found: BTreeMap<(String, Object), Finding>,
}

/// The privileges on rows.
pub(super) const ROWS: [Privilege; 4] = [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete];

/// Reviews the database behind `connection`, which is only read. `named` are the application's roles, if they were told.
///
/// # Errors
/// The server does not answer, a role that was told is not there, or the configuration is wrong.
pub async fn review(
    connection: &mut PgConnection,
    config: &Config,
    named: &[String],
) -> Result<(Catalog, Tenancy, Report)> {
    let catalog = Catalog::snapshot(connection).await?;
    let tenancy = Tenancy::read(&catalog, config, named)?;
    let report = conclude(&catalog, &tenancy)?;
    Ok((catalog, tenancy, report))
}

/// What the rules say of a database that has been read.
///
/// # Errors
/// The rules cannot be read.
pub(super) fn conclude(catalog: &Catalog, tenancy: &Tenancy) -> Result<Report> {
    let rules = catalogue()?;
    let count = rules.len();
    let mut review = Review {
        catalog,
        tenancy,
        evaluator: Evaluator::new(catalog, tenancy, catalog.server.connected_as, Bound::Tenant),
        rules: rules.into_iter().map(|rule| (rule.id.clone(), rule)).collect(),
        found: BTreeMap::new(),
    };
    for family in rules::FAMILIES {
        family(&mut review)?;
    }
    let roles = tenancy.application.iter();
    let taken = |role: Oid, because: &str| Taken { name: catalog.role_name(role).into(), because: because.into() };
    let tables = tenancy.tables().filter_map(|(oid, table)| Some((catalog.relations.get(&oid)?, table)));
    let (major, minor) = (catalog.server.version / 10_000, catalog.server.version % 10_000);
    let mut report = Report {
        version: VERSION,
        database: catalog.server.database.clone(),
        server: catalog.server.version_words(),
        application_roles: roles.map(|role| taken(role.oid, &role.because)).collect(),
        tenant_tables: tables
            .map(|(relation, table)| Taken { name: relation.label(), because: table.because.clone() })
            .collect(),
        tenant_schemas: tenancy
            .schemas
            .iter()
            .map(|group| group.iter().filter_map(|oid| Some(catalog.schemas.get(oid)?.name.clone())).collect())
            .collect(),
        tenant_context: tenancy.contexts().map(String::from).collect(),
        rules: count,
        findings: review.found.into_values().collect(),
        suppressed: Vec::new(),
        notes: crate::postgres::warnings(major, minor),
        not_tried: Vec::new(),
    };
    if !report.tenant_schemas.is_empty() {
        let groups: Vec<String> = report.tenant_schemas.iter().map(|group| group.join(", ")).collect();
        report.notes.push(format!("schemas with the same tables are taken for a tenant each: {}", groups.join("; ")));
    } else if report.tenant_tables.is_empty() {
        report.notes.push(
            "no tenant's table was found: name the columns in tenant_columns or the tables in tenant_tables of partywall.toml".into(),
        );
    } else if report.application_roles.is_empty() {
        report.notes.push("no database role of the application was found: name it with --as".into());
    }
    report.sort();
    Ok(report)
}

impl Report {
    /// Worst first, the surest of them first.
    pub(super) fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            (a.severity, a.certainty, &a.object, &a.rule).cmp(&(b.severity, b.certainty, &b.object, &b.rule))
        });
    }

    /// Takes away what the configuration lives with; what has expired stays, and says so.
    ///
    /// # Errors
    /// None of its own; a rule that is not known was refused when the file was read.
    pub fn suppress(&mut self, config: &Config) {
        let findings = std::mem::take(&mut self.findings);
        for mut finding in findings {
            let label = finding.object.label();
            match config.suppress.iter().find(|one| one.matches(&finding.rule, &label)) {
                Some(one) if one.has_expired() => {
                    finding.evidence.push(format!("its suppression expired on {}: {}", one.expires, one.reason));
                    self.findings.push(finding);
                }
                Some(one) => self.suppressed.push(Suppressed {
                    finding,
                    reason: one.reason.clone(),
                    expires: one.expires.clone(),
                }),
                None => self.findings.push(finding),
            }
        }
        for one in &config.suppress {
            let matches = |finding: &Finding| one.matches(&finding.rule, &finding.object.label());
            if !self.findings.iter().any(matches) && !self.suppressed.iter().any(|s| matches(&s.finding)) {
                self.notes
                    .push(format!("the suppression of {} on {} matches nothing: remove it", one.rule, one.object));
            }
        }
    }
}

/// A finding on its way.
pub(super) struct Draft {
    pub(super) rule: &'static str,
    pub(super) object: Object,
    pub(super) certainty: Certainty,
    pub(super) sentence: String,
    pub(super) evidence: Vec<String>,
    pub(super) remedy: String,
}

impl<'a> Review<'a> {
    /// Keeps a finding; of one rule on one object there is one, with the evidence of all.
    pub(super) fn keep(&mut self, draft: Draft) -> Result<()> {
        let rule = self.rules.get(draft.rule).ok_or_else(|| Error::Defect(format!("no rule {}", draft.rule)))?;
        let finding = Finding {
            rule: rule.id.clone(),
            severity: rule.severity,
            certainty: draft.certainty,
            object: draft.object.clone(),
            sentence: draft.sentence,
            evidence: draft.evidence,
            remedy: draft.remedy,
            place: None,
        };
        let known = self.found.entry((rule.id.clone(), draft.object)).or_insert_with(|| finding.clone());
        known.certainty = known.certainty.min(finding.certainty);
        for line in finding.evidence {
            if !known.evidence.contains(&line) {
                known.evidence.push(line);
            }
        }
        Ok(())
    }

    /// The application's roles.
    pub(super) fn roles(&self) -> Vec<&'a Role> {
        self.tenancy.application.iter().filter_map(|role| self.catalog.roles.get(&role.oid)).collect()
    }

    /// Tenants' tables, partitions among them; no extension's.
    pub(super) fn tables(&self) -> Vec<&'a Relation> {
        let tables = self.tenancy.tables().filter_map(|(oid, _)| self.catalog.relations.get(&oid));
        tables.filter(|relation| relation.kind.is_table() && relation.extension.is_none()).collect()
    }

    /// What the role may do with rows of the relation, on the whole or in some columns.
    pub(super) fn rights(&self, role: Oid, relation: &Relation) -> Vec<Privilege> {
        if !self.catalog.may_use_schema(role, relation.schema_oid) {
            return Vec::new();
        }
        ROWS.into_iter().filter(|privilege| self.catalog.may_in_part(role, *privilege, relation.oid)).collect()
    }

    /// The tenants' tables that a relation is made of, through views.
    pub(super) fn sources(&self, relation: Oid) -> BTreeSet<Oid> {
        let (mut open, mut seen, mut found) = (vec![relation], BTreeSet::new(), BTreeSet::new());
        while let Some(one) = open.pop() {
            for source in self.catalog.reads.get(&one).into_iter().flatten() {
                if seen.insert(*source) {
                    open.push(*source);
                    found.extend(self.tenancy.is_tenant_table(*source).then_some(*source));
                }
            }
        }
        found
    }

    /// A condition that holds for the bound tenant's rows of the relation, as SQL.
    pub(super) fn condition(&self, relation: &Relation) -> Option<String> {
        let column = relation.column(self.tenancy.column_of(relation.oid)?)?;
        let context = self.tenancy.contexts().find(|context| !context.contains("->"))?;
        let value = match context.strip_suffix("()") {
            Some(_) => format!("(SELECT {context})"),
            None => {
                format!("nullif(current_setting('{}', true), '')::{}", context.replace('\'', "''"), column.type_name)
            }
        };
        Some(format!("{} = {value}", crate::target::copy::quoted(&column.name)))
    }
}

pub(super) fn relation_object(relation: &Relation) -> Object {
    Object { schema: Some(relation.schema.clone()), name: relation.name.clone(), kind: relation.kind.word().into() }
}

pub(super) fn function_object(function: &Function) -> Object {
    let name = format!("{}({})", function.name, function.arguments);
    Object { schema: Some(function.schema.clone()), name, kind: "function".into() }
}

pub(super) fn role_object(role: &Role) -> Object {
    Object { schema: None, name: role.name.clone(), kind: "role".into() }
}

/// `SELECT, INSERT`.
pub(super) fn listed(privileges: &[Privilege]) -> String {
    privileges.iter().map(|privilege| privilege.word()).collect::<Vec<_>>().join(", ")
}
