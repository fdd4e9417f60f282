//! Truth by execution: what reading inferred or could not decide, the database is asked. The conditions of a table's
//! policies are evaluated by the server, as the application's role, on made-up rows of another tenant that no table
//! holds; what a view, a table or a call shows is looked at as a tenant that there is not. Nothing is written, so this works on a
//! standby and on a database that nobody has marked as ours.

mod shown;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::Value;
use sqlparser::ast::{Expr, visit_expressions};
use sqlx::{AssertSqlSafe, PgConnection};

use super::catalog::{Catalog, Column, Command, Oid, Relation};
use super::expression::parse;
use super::finding::{Certainty, Finding};
use super::report::Report;
use super::tenancy::Tenancy;
use crate::error::Result;
use crate::target::copy::{execute, quoted};

/// How long one question may take.
const PATIENCE: &str = "2s";

/// A tenant that is bound, and others, so near to it that a comparison in part takes them for it. By type category.
const UUIDS: [&str; 3] = [
    "7a7a7a7a-0000-4000-8000-00000000000a",
    "7a7a7a7a-0000-4000-8000-00000000000b",
    "7b7b7b7b-1111-4111-9111-11111111111b",
];
const NUMBERS: [&str; 3] = ["31000", "31001", "4"];
const TEXTS: [&str; 4] = ["partywall-a", "partywall-ab", "PARTYWALL-A", "another"];

fn tenants(column: &Column) -> Option<&'static [&'static str]> {
    match (column.type_name.as_str(), column.type_category.as_str()) {
        ("uuid", _) => Some(&UUIDS),
        (_, "N") => Some(&NUMBERS),
        (_, "S") => Some(&TEXTS),
        _ => None,
    }
}

/// What was asked came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    LetThrough,
    Refused,
    CannotTell,
}

/// Asks the database about each finding that policies are to blame for.
///
/// # Errors
/// The connection is gone.
pub async fn prove(
    connection: &mut PgConnection,
    catalog: &Catalog,
    tenancy: &Tenancy,
    report: &mut Report,
) -> Result<()> {
    let findings = std::mem::take(&mut report.findings);
    // What is asked of a connection that nobody has bound comes first: once a setting was set it is never missing again.
    let (unbound, bound): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.rule == "policy/fail-open");
    let mut silent = 0usize;
    for mut finding in unbound.into_iter().chain(bound) {
        let answer = match asked(connection, catalog, tenancy, &finding).await? {
            None => shown::shown(connection, catalog, tenancy, &finding).await?,
            answer => answer,
        };
        match answer {
            Some(Answer::LetThrough) => {
                finding.certainty = Certainty::Proven;
                finding.evidence.push("the server let a row of another tenant through when it was asked".into());
            }
            // Reading could not tell, and the server could.
            Some(Answer::Refused) if finding.certainty == Certainty::Suspected => continue,
            Some(Answer::CannotTell) => silent += 1,
            _ => {}
        }
        report.findings.push(finding);
    }
    if silent > 0 {
        report.not_tried.push(format!(
            "{silent} findings could not be put to the server: this connection cannot become the application's role, or an expression fails there"
        ));
    }
    report.sort();
    Ok(())
}

async fn asked(
    connection: &mut PgConnection,
    catalog: &Catalog,
    tenancy: &Tenancy,
    finding: &Finding,
) -> Result<Option<Answer>> {
    let new = matches!(finding.rule.as_str(), "policy/plants-foreign" | "policy/moves-row");
    if !new
        && !["policy/open", "policy/inverted", "policy/fail-open", "policy/undecided", "policy/row-data"]
            .contains(&finding.rule.as_str())
    {
        return Ok(None);
    }
    let Some(relation) = catalog.relation_named(finding.object.schema.as_deref(), &finding.object.name) else {
        return Ok(None);
    };
    let column = tenancy.column_of(relation.oid).and_then(|column| relation.column(column));
    let Some((column, ids)) = column.and_then(|column| Some((column, tenants(column)?))) else {
        return Ok(Some(Answer::CannotTell));
    };
    let bind = if finding.rule == "policy/fail-open" { None } else { Some(ids[0]) };
    let conditions = |role: Oid| {
        let each = Command::ALL.into_iter().flat_map(move |command| {
            [
                (!new).then(|| condition(catalog, role, relation, command, false)),
                Some(condition(catalog, role, relation, command, true)),
            ]
        });
        each.flatten().flatten().collect::<Vec<String>>()
    };
    let question =
        |text: &str, row: &str| format!("SELECT ({text}) IS TRUE FROM (SELECT {row}) AS {}", quoted(&relation.name));
    let mut come_to = Answer::Refused;
    for role in &tenancy.application {
        let name = catalog.role_name(role.oid);
        for text in conditions(role.oid) {
            for row in rows(relation, column, &ids[1..]) {
                match put(connection, name, &binding(tenancy, bind), &question(&text, &row)).await? {
                    Answer::LetThrough => return Ok(Some(Answer::LetThrough)),
                    Answer::CannotTell => come_to = Answer::CannotTell,
                    Answer::Refused => {}
                }
            }
            // A refusal counts where made-up rows can speak for all others, and the tenant's own are let through.
            let mut shows_own = false;
            for row in rows(relation, column, &ids[..1]) {
                shows_own |= put(connection, name, &binding(tenancy, Some(ids[0])), &question(&text, &row)).await?
                    == Answer::LetThrough;
            }
            if !shows_own || asks_more(&text, relation, column) {
                come_to = Answer::CannotTell;
            }
        }
    }
    Ok(Some(come_to))
}

/// True where a condition asks other columns of the row than the tenant's, or cannot be read: then rows that nobody made
/// up may be answered otherwise.
fn asks_more(text: &str, relation: &Relation, tenant: &Column) -> bool {
    let Some(expression) = parse(text) else { return true };
    let mut more = false;
    let _ = visit_expressions(&expression, |part| {
        let name = match part {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        let column = name.and_then(|name| relation.column(&name.value));
        more |= column.is_some_and(|column| column.number != tenant.number);
        ControlFlow::<()>::Continue(())
    });
    more
}

/// The policies of the table for one role and command, as one condition; none where no policy is asked.
fn condition(catalog: &Catalog, role: Oid, relation: &Relation, command: Command, new: bool) -> Option<String> {
    if catalog.bypasses(role, relation) {
        return None;
    }
    let side = |permissive: bool| -> Vec<String> {
        let own = catalog
            .policies_of(relation.oid)
            .filter(|policy| policy.permissive == permissive && policy.covers(command));
        let own = own.filter(|policy| catalog.applies(policy, role));
        own.filter_map(|policy| if new { policy.checked(command) } else { policy.visible(command) })
            .map(|text| format!("({text})"))
            .collect()
    };
    let (open, narrowed) = (side(true), side(false));
    if open.is_empty() {
        return None;
    }
    let narrowed = if narrowed.is_empty() { "true".into() } else { narrowed.join(" AND ") };
    Some(format!("({}) AND {narrowed}", open.join(" OR ")))
}

/// Rows of other tenants: without values, and with two sets of them.
fn rows(relation: &Relation, tenant: &Column, ids: &[&str]) -> Vec<String> {
    let value = |column: &Column, filling: usize| match (filling, column.type_category.as_str()) {
        (0, _) => "NULL".to_string(),
        (1, "B") => "true".into(),
        (_, "B") => "false".into(),
        (_, "N") => filling.to_string(),
        (_, "S") => "'x'".into(),
        (_, "D") => "'2020-01-01'".into(),
        (_, "A") => "'{}'".into(),
        (_, "E") => column.first_label.as_ref().map_or_else(|| "NULL".into(), |label| literal(label)),
        _ if column.type_name == "uuid" => "'7c7c7c7c-0000-4000-8000-00000000000c'".into(),
        _ if column.type_name.starts_with("json") => "'{}'".into(),
        _ => "NULL".into(),
    };
    let mut rows = Vec::new();
    for id in ids {
        for filling in 0..3 {
            let columns = relation.columns.iter().map(|column| {
                let value = if column.number == tenant.number { literal(id) } else { value(column, filling) };
                format!("{value}::{} AS {}", column.type_name, quoted(&column.name))
            });
            rows.push(columns.collect::<Vec<_>>().join(", "));
        }
    }
    rows
}

/// Statements that bind the tenant; none bound, none.
fn binding(tenancy: &Tenancy, tenant: Option<&str>) -> Vec<String> {
    let Some(tenant) = tenant else { return Vec::new() };
    let mut documents: BTreeMap<&str, Value> = BTreeMap::new();
    let mut statements = Vec::new();
    for context in tenancy.contexts().filter(|context| !context.ends_with("()")) {
        let mut keys = context.split("->");
        let setting = keys.next().unwrap_or_default();
        let keys: Vec<&str> = keys.collect();
        if keys.is_empty() {
            statements.push(format!("set_config({}, {}, true)", literal(setting), literal(tenant)));
        } else {
            let document = documents.entry(setting).or_insert(Value::Null);
            let (last, path) = keys.split_last().unwrap_or((&"", &[]));
            let mut place = document;
            for key in path {
                place = &mut place[*key];
            }
            place[*last] = Value::String(tenant.into());
        }
    }
    statements.extend(documents.iter().map(|(setting, document)| {
        format!("set_config({}, {}, true)", literal(setting), literal(&document.to_string()))
    }));
    statements
}

/// Puts one question in a transaction that writes nothing.
async fn put(connection: &mut PgConnection, role: &str, binding: &[String], question: &str) -> Result<Answer> {
    let mut statement =
        format!("BEGIN READ ONLY; SET LOCAL statement_timeout = '{PATIENCE}'; SET LOCAL ROLE {};", quoted(role));
    for bind in binding {
        statement.push_str(&format!("SELECT {bind};"));
    }
    let begun = execute(connection, &statement).await.is_ok();
    let answer = match begun {
        true => {
            sqlx::query_scalar::<_, bool>(AssertSqlSafe(question.to_string())).fetch_one(&mut *connection).await.ok()
        }
        false => None,
    };
    execute(connection, "ROLLBACK").await?;
    Ok(match answer {
        Some(true) => Answer::LetThrough,
        Some(false) => Answer::Refused,
        None => Answer::CannotTell,
    })
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
