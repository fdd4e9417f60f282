//! What the policies of a table together let through: to whom, in which situation, and what that hangs on.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;

use sqlparser::ast::{Expr, Value as Literal, visit_expressions};

use crate::error::Result;
use crate::guard::catalog::{Command, Policy, Privilege, Relation, Role};
use crate::guard::expression::{Body, Bound, Cause, Truth, Whose};
use crate::guard::finding::Certainty;
use crate::guard::review::{Draft, Review, relation_object};

pub(super) fn check(review: &mut Review<'_>) -> Result<()> {
    for table in review.tables() {
        if !table.row_security {
            continue;
        }
        for role in review.roles() {
            // Whom no policy is asked for has a finding of its own.
            if review.catalog.bypasses(role.oid, table) || review.rights(role.oid, table).is_empty() {
                continue;
            }
            rows(review, table, role)?;
            new_rows(review, table, role)?;
        }
    }
    Ok(())
}

fn privilege(command: Command) -> Privilege {
    match command {
        Command::Select => Privilege::Select,
        Command::Insert => Privilege::Insert,
        Command::Update => Privilege::Update,
        Command::Delete => Privilege::Delete,
    }
}

/// The table's policies that take part, as evidence.
fn policies(review: &Review<'_>, table: &Relation, role: &Role, command: Command) -> Vec<String> {
    let taking =
        review.catalog.policies_of(table.oid).filter(|p| p.covers(command) && review.catalog.applies(p, role.oid));
    taking
        .map(|policy| {
            let text = policy.visible(command).or_else(|| policy.checked(command)).unwrap_or("nothing");
            let kind = if policy.permissive { "" } else { "restrictive " };
            format!("{kind}policy {}: {text}", policy.name)
        })
        .collect()
}

struct Seen<'t> {
    command: Command,
    foreign: Truth,
    literals: &'t BTreeSet<String>,
}

fn rows(review: &mut Review<'_>, table: &Relation, role: &Role) -> Result<()> {
    let rights = review.rights(role.oid, table);
    let literals = literals(review, table);
    for command in [Command::Select, Command::Update, Command::Delete] {
        if !rights.contains(&privilege(command)) {
            continue;
        }
        // Rules follow the tables of the catalog, whose life is longer than the review's.
        let relation = review.catalog.relations.get(&table.oid).unwrap_or(table).oid;
        let Some(relation) = review.catalog.relations.get(&relation) else { continue };
        review.evaluator.turn(role.oid, Bound::Tenant);
        let foreign = review.evaluator.lets(relation, command, &Whose::Foreign);
        let own = review.evaluator.lets(relation, command, &Whose::Own);
        if let Some((rule, certainty, what)) = classified(review, &foreign, &own) {
            tell(review, table, role, command, (rule, certainty, what))?;
        }
        if foreign.is_true() {
            continue;
        }
        for (bound, when) in [(Bound::Unset, "nothing was ever bound"), (Bound::Empty, "what was bound has ended")] {
            review.evaluator.turn(role.oid, bound);
            if review.evaluator.lets(relation, command, &Whose::Foreign).is_true() {
                let what = format!("{} reaches every row where {when}", command.word());
                tell(review, table, role, command, ("policy/fail-open", Certainty::Inferred, what))?;
            }
        }
        review.evaluator.turn(role.oid, Bound::Tenant);
        if command == Command::Select {
            shared(review, relation, role, &Seen { command, foreign, literals: &literals })?;
            if !own.may_be_true() {
                let what = "no tenant sees its own rows".to_string();
                tell(review, table, role, command, ("policy/locks-out", Certainty::Inferred, what))?;
            }
        }
    }
    Ok(())
}

/// Rows that every tenant sees: those of nobody, and those of a tenant that is spelt out.
fn shared(review: &mut Review<'_>, table: &Relation, role: &Role, seen: &Seen<'_>) -> Result<()> {
    if seen.foreign.may_be_true() {
        return Ok(());
    }
    let Some(relation) = review.catalog.relations.get(&table.oid) else { return Ok(()) };
    let column = review.tenancy.column_of(table.oid).and_then(|column| table.column(column));
    let nullable = column.is_some_and(|column| !column.not_null);
    let inserts = review.rights(role.oid, table).contains(&Privilege::Insert);
    let kinds =
        seen.literals.iter().map(|literal| Whose::Literal(literal.clone())).chain(nullable.then_some(Whose::Nobody));
    for whose in kinds {
        let (rule, rows) = match &whose {
            Whose::Literal(literal) => ("policy/literal-tenant", format!("the rows of tenant '{literal}'")),
            _ => ("policy/null-tenant", "rows without a tenant".into()),
        };
        review.evaluator.turn(role.oid, Bound::Tenant);
        if review.evaluator.lets(relation, seen.command, &whose).is_true() {
            let makes = inserts && review.evaluator.accepts(relation, Command::Insert, &whose).is_true();
            let (rule, what) = match makes {
                true => (rule, format!("everybody sees {rows}, and anybody may write one")),
                false => ("policy/shared-rows", format!("everybody sees {rows}")),
            };
            tell(review, table, role, seen.command, (rule, Certainty::Inferred, what))?;
            continue;
        }
        for bound in [Bound::Unset, Bound::Empty] {
            review.evaluator.turn(role.oid, bound);
            if review.evaluator.lets(relation, seen.command, &whose).is_true() {
                if matches!(&whose, Whose::Literal(literal) if stands_for_nobody(literal)) {
                    continue;
                }
                let rule = if whose == Whose::Nobody { rule } else { "policy/fail-open" };
                let what = format!("{rows} are seen where nothing is bound");
                tell(review, table, role, seen.command, (rule, Certainty::Inferred, what))?;
            }
        }
    }
    review.evaluator.turn(role.oid, Bound::Tenant);
    let exact = review.evaluator.lets(relation, seen.command, &Whose::Alike);
    if column.is_some_and(|column| column.type_category == "S" || column.type_name.ends_with("citext"))
        && exact.is_true()
    {
        let what = "tenants whose ids differ in case alone are taken for one".to_string();
        tell(review, table, role, seen.command, ("policy/folded-tenant", Certainty::Inferred, what))?;
    }
    Ok(())
}

fn new_rows(review: &mut Review<'_>, table: &Relation, role: &Role) -> Result<()> {
    let Some(relation) = review.catalog.relations.get(&table.oid) else { return Ok(()) };
    let column = review.tenancy.column_of(table.oid).and_then(|column| table.column(column));
    for (command, rule) in [(Command::Insert, "policy/plants-foreign"), (Command::Update, "policy/moves-row")] {
        let may = match column {
            Some(column) => review.catalog.may_column(role.oid, privilege(command), table.oid, column.number),
            None => review.rights(role.oid, table).contains(&privilege(command)) && command == Command::Insert,
        };
        if !may {
            continue;
        }
        review.evaluator.turn(role.oid, Bound::Tenant);
        let foreign = review.evaluator.accepts(relation, command, &Whose::Foreign);
        let own = review.evaluator.accepts(relation, command, &Whose::Own);
        if command == Command::Update && !review.evaluator.lets(relation, command, &Whose::Own).may_be_true() {
            continue;
        }
        let found = match classified(review, &foreign, &own) {
            Some((_, certainty, _)) if foreign.is_true() || chosen(&foreign) => {
                let what = match command {
                    Command::Insert => "a row may be written under another tenant",
                    _ => {
                        "a row may be moved to another tenant; with WHERE or RETURNING only if the SELECT policies show it there"
                    }
                };
                Some((rule, certainty, what.to_string()))
            }
            other => other,
        };
        if let Some(found) = found {
            tell(review, table, role, command, found)?;
            continue;
        }
        for bound in [Bound::Unset, Bound::Empty] {
            review.evaluator.turn(role.oid, bound);
            if review.evaluator.accepts(relation, command, &Whose::Foreign).is_true() {
                let what = "a row may be written under any tenant where nothing is bound".to_string();
                tell(review, table, role, command, ("policy/fail-open", Certainty::Inferred, what))?;
            }
        }
    }
    Ok(())
}

/// True when what decides is what the writer of a row chooses.
fn chosen(truth: &Truth) -> bool {
    truth.may_be_true() && truth.because.iter().all(|cause| matches!(cause, Cause::Column(_) | Cause::Caller(_)))
}

/// Which rule a condition breaks that lets rows of others through.
fn classified(review: &Review<'_>, foreign: &Truth, own: &Truth) -> Option<(&'static str, Certainty, String)> {
    if foreign.is_true() {
        return Some(match own.may_be_true() {
            true => ("policy/open", Certainty::Inferred, "rows of every tenant are let through".into()),
            false => (
                "policy/inverted",
                Certainty::Inferred,
                "other tenants' rows are let through, and the tenant's own are not".into(),
            ),
        });
    }
    if !foreign.may_be_true() {
        return None;
    }
    let names = |wanted: fn(&Cause) -> Option<&String>| -> Option<String> {
        let found: Vec<&str> = foreign.because.iter().filter_map(wanted).map(String::as_str).collect();
        (!found.is_empty()).then(|| found.join(", "))
    };
    let unread = names(|cause| if let Cause::Unread(what) = cause { Some(what) } else { None });
    let flags = names(|cause| if let Cause::Flag(path) = cause { Some(path) } else { None });
    let rows = names(|cause| if let Cause::Rows(table) = cause { Some(table) } else { None });
    let caller = names(|cause| if let Cause::Caller(path) = cause { Some(path) } else { None });
    let columns = names(|cause| if let Cause::Column(name) = cause { Some(name) } else { None });
    let suspected = |what: String| Some(("policy/undecided", Certainty::Suspected, what));
    if let Some(flags) = flags {
        let what = format!("whether other tenants' rows are let through hangs on {flags}, which any session may set");
        return Some(("policy/flag", Certainty::Inferred, what));
    }
    if foreign.because.contains(&Cause::DatabaseRole) && rows.is_none() {
        // Where each tenant has a role of its own, the role says who it is.
        let shared = review.tenancy.application.len() == 1;
        let what = "the database role decides, and all tenants share it".to_string();
        return shared.then_some(("policy/database-role", Certainty::Inferred, what));
    }
    if let Some(unread) = unread {
        return suspected(format!("whether other tenants' rows are let through hangs on {unread}"));
    }
    if let Some(rows) = rows {
        let known = caller.is_some() || foreign.because.contains(&Cause::DatabaseRole);
        let of_tenants = foreign.because.iter().any(|cause| match cause {
            Cause::Rows(name) => {
                let plain = name.replace('"', "");
                let (schema, table) = plain.rsplit_once('.').map_or((None, plain.as_str()), |(s, t)| (Some(s), t));
                review
                    .catalog
                    .relation_named(schema, table)
                    .is_some_and(|table| review.tenancy.is_tenant_table(table.oid))
            }
            _ => false,
        });
        let (rule, what) = match (known, of_tenants) {
            (true, true) => (
                "policy/not-bound-to-row",
                format!("what the caller is in its own tenant, by {rows}, lets it see the others"),
            ),
            (true, false) => ("policy/lookup", format!("{rows} decides about the caller")),
            (false, _) => {
                let what =
                    format!("other tenants' rows are let through once {rows} holds a row that fits, whoever calls");
                ("policy/not-bound-to-caller", what)
            }
        };
        return Some((rule, Certainty::Inferred, what));
    }
    match columns {
        Some(columns) => {
            let what = format!("other tenants' rows are let through by what they say in {columns}");
            Some(("policy/row-data", Certainty::Inferred, what))
        }
        None => suspected("it is not known what decides whether other tenants' rows are let through".into()),
    }
}

pub(super) fn tell(
    review: &mut Review<'_>,
    table: &Relation,
    role: &Role,
    command: Command,
    (rule, certainty, what): (&'static str, Certainty, String),
) -> Result<()> {
    let mut evidence = vec![format!("{} as {}: {what}", command.word(), role.name)];
    evidence.extend(policies(review, table, role, command));
    let names: Vec<&str> = review
        .catalog
        .policies_of(table.oid)
        .filter(|policy| policy.covers(command))
        .map(|policy| policy.name.as_str())
        .collect();
    let remedy = match review.condition(table) {
        Some(condition) => {
            let name = table.sql();
            let dropped: Vec<String> = names
                .iter()
                .map(|name| format!("DROP POLICY {} ON {};", crate::target::copy::quoted(name), table.sql()))
                .collect();
            format!(
                "BEGIN;\n{}\nCREATE POLICY own_tenant ON {name} USING ({condition}) WITH CHECK ({condition});\nCOMMIT;",
                dropped.join("\n")
            )
        }
        None => format!("-- let the policies of {} ask whose row it is that their rows refer to", table.sql()),
    };
    let object = relation_object(table);
    review.keep(Draft { rule, object, certainty, sentence: format!("{}: {what}", table.label()), evidence, remedy })
}

pub(super) fn applying<'a>(review: &Review<'a>, table: &Relation, role: &Role) -> Vec<(&'a Policy, Rc<Expr>)> {
    let catalog = review.catalog;
    let own = catalog.policies_of(table.oid).filter(|policy| catalog.applies(policy, role.oid));
    own.flat_map(|policy| {
        [policy.using.as_deref(), policy.check.as_deref()].into_iter().flatten().map(move |text| (policy, text))
    })
    .filter_map(|(policy, text)| Some((policy, review.evaluator.parsed(text)?)))
    .collect()
}

/// Values that policies, or the functions they call, spell out, and which may be tenants'.
fn literals(review: &Review<'_>, table: &Relation) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for policy in review.catalog.policies_of(table.oid) {
        let Some(expression) = policy.using.as_deref().and_then(|text| review.evaluator.parsed(text)) else { continue };
        let bodies =
            called(review, &expression).into_iter().filter_map(|oid| Body::of(review.catalog.functions.get(&oid)?));
        for expression in bodies.flat_map(|body| body.expressions()).chain([expression.as_ref().clone()]) {
            let _ = visit_expressions(&expression, |part| {
                if let Expr::Value(literal) = part
                    && let Literal::SingleQuotedString(text) | Literal::Number(text, _) = &literal.value
                    && !text.is_empty()
                    && !text.contains('.')
                {
                    found.insert(text.clone());
                }
                ControlFlow::<()>::Continue(())
            });
        }
    }
    found
}

/// Ids that no tenant is given: nought, less, and the uuids of noughts or of ones.
fn stands_for_nobody(literal: &str) -> bool {
    let digits: Vec<char> = literal.chars().filter(|c| *c != '-').collect();
    let uniform = digits.len() == 32 && ["0", "f"].iter().any(|one| digits.iter().all(|c| one.contains(*c)));
    uniform || literal.parse::<i64>().is_ok_and(|number| number <= 0)
}

/// The functions that an expression calls.
pub(super) fn called(review: &Review<'_>, expression: &Expr) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    let _ = visit_expressions(expression, |part| {
        if let Expr::Function(call) = part {
            let parts: Vec<&str> =
                call.name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
            let count = match &call.args {
                sqlparser::ast::FunctionArguments::List(list) => list.args.len(),
                _ => 0,
            };
            if let Some((name, schema)) = parts.split_last() {
                found.extend(
                    review.catalog.function_called(schema.last().copied(), name, count).map(|function| function.oid),
                );
            }
        }
        ControlFlow::<()>::Continue(())
    });
    found
}
