//! How the policies of a table get at their answer: what they cast, believe, ask and call.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use sqlparser::ast::{DataType, Expr, Value as Literal, visit_expressions, visit_relations};

use super::policy::{applying, called, tell};
use crate::error::Result;
use crate::guard::catalog::{Command, Function, Policy, Privilege, Relation, Role, Volatility};
use crate::guard::expression::{Body, Bound, Whose, settings};
use crate::guard::finding::Certainty;
use crate::guard::review::{Draft, Review, function_object, relation_object};

pub(super) fn check(review: &mut Review<'_>) -> Result<()> {
    for table in review.tables() {
        for role in review.roles().into_iter().filter(|_| table.row_security) {
            // Whom no policy is asked for has a finding of its own.
            if !review.catalog.bypasses(role.oid, table) && !review.rights(role.oid, table).is_empty() {
                written(review, table, role)?;
            }
        }
    }
    lone_settings(review)
}

fn written(review: &mut Review<'_>, table: &Relation, role: &Role) -> Result<()> {
    for (policy, expression) in applying(review, table, role) {
        let mut told: Vec<(&'static str, Certainty, String)> = Vec::new();
        let _ = visit_expressions(expression.as_ref(), |part| {
            match part {
                Expr::Cast { expr, data_type, .. } if !is_text(data_type) => {
                    if let Some(column) = text_column(expr, table) {
                        let what = format!(
                            "casts what a row says in {column}: the error of a row that does not fit tells its value"
                        );
                        told.push(("policy/casts-row-data", Certainty::Inferred, what));
                    }
                }
                Expr::Value(literal) => {
                    if let Literal::SingleQuotedString(text) = &literal.value
                        && (text == "user_metadata" || text == "raw_user_meta_data")
                    {
                        let what = "believes metadata that users may write themselves".to_string();
                        told.push(("policy/user-metadata", Certainty::Inferred, what));
                    }
                }
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        for (rule, certainty, what) in told {
            let command = policy.command.unwrap_or(Command::Select);
            tell(review, table, role, command, (rule, certainty, format!("policy {} {what}", policy.name)))?;
        }
        lookups(review, table, role, policy, &expression)?;
        functions(review, table, &expression)?;
    }
    Ok(())
}

fn is_text(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_) | DataType::JSON | DataType::JSONB
    ) || matches!(kind, DataType::Custom(..) | DataType::Regclass | DataType::Array(_))
}

/// The text or document column that an expression takes its value from.
fn text_column(expression: &Expr, table: &Relation) -> Option<String> {
    let mut found = None;
    let _ = visit_expressions(expression, |part| {
        let name = match part {
            Expr::Identifier(name) => Some(&name.value),
            Expr::CompoundIdentifier(parts) => parts.last().map(|part| &part.value),
            // What a query answers has passed its own table's wall.
            Expr::Subquery(_) | Expr::Exists { .. } => return ControlFlow::Break(()),
            _ => None,
        };
        let column = name.and_then(|name| table.column(name));
        let free = column.filter(|column| column.type_category == "S" || column.type_name.starts_with("json"));
        found = found.take().or_else(|| free.map(|column| column.name.clone()));
        ControlFlow::Continue(())
    });
    found
}

/// Tables that a policy asks, and that the role may write: it may answer itself.
fn lookups(review: &mut Review<'_>, table: &Relation, role: &Role, policy: &Policy, expression: &Expr) -> Result<()> {
    let mut asked = BTreeSet::new();
    let _ = visit_relations(expression, |name| {
        let parts: Vec<&str> = name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
        if let Some((name, schema)) = parts.split_last() {
            asked.extend(review.catalog.relation_named(schema.last().copied(), name).map(|relation| relation.oid));
        }
        ControlFlow::<()>::Continue(())
    });
    for other in asked.into_iter().filter(|other| *other != table.oid) {
        let Some(other) = review.catalog.relations.get(&other).filter(|other| other.kind.is_table()) else { continue };
        let rights = review.rights(role.oid, other);
        review.evaluator.turn(role.oid, Bound::Tenant);
        let open = |command| match review.tenancy.is_tenant_table(other.oid) {
            true => review.evaluator.accepts(other, command, &Whose::Foreign).may_be_true(),
            false => review.evaluator.accepts(other, command, &Whose::Shared).may_be_true(),
        };
        let writes = [(Privilege::Insert, Command::Insert), (Privilege::Update, Command::Update)];
        let Some((privilege, _)) =
            writes.into_iter().find(|(privilege, command)| rights.contains(privilege) && open(*command))
        else {
            continue;
        };
        let what =
            format!("policy {} asks {}, in which {} may {}", policy.name, other.label(), role.name, privilege.word());
        let command = policy.command.unwrap_or(Command::Select);
        tell(review, table, role, command, ("policy/writable-lookup", Certainty::Inferred, what))?;
    }
    Ok(())
}

/// Functions that a policy calls, and what they promise the planner.
fn functions(review: &mut Review<'_>, table: &Relation, expression: &Expr) -> Result<()> {
    for function in called(review, expression) {
        let Some(function) = review.catalog.functions.get(&function) else { continue };
        let reads = Body::of(function)
            .map(|body| body.expressions().iter().flat_map(settings).collect::<BTreeSet<_>>())
            .unwrap_or_default();
        if calls(function, "pg_backend_pid") {
            review.keep(Draft {
                rule: "policy/bound-to-backend",
                object: function_object(function),
                certainty: Certainty::Inferred,
                sentence: format!(
                    "{} knows the tenant by the backend, which a pool gives to the next",
                    function.label()
                ),
                evidence: vec![format!("a policy of {} calls it", table.label())],
                remedy: "-- bind the tenant by a setting that is local to the transaction".into(),
            })?;
        }
        let (rule, what) = match function.volatility {
            Volatility::Immutable if !reads.is_empty() => {
                let settings: Vec<String> = reads.into_iter().collect();
                (
                    "policy/immutable-context",
                    format!("is declared IMMUTABLE and reads {}: a plan may keep a tenant", settings.join(", ")),
                )
            }
            Volatility::Volatile => ("policy/volatile-function", "is VOLATILE: it is called for every row".into()),
            _ => continue,
        };
        review.keep(Draft {
            rule,
            object: function_object(function),
            certainty: Certainty::Inferred,
            sentence: format!("{} {what}", function.label()),
            evidence: vec![format!("a policy of {} calls it", table.label())],
            remedy: format!("ALTER FUNCTION {} STABLE;", function.sql()),
        })?;
    }
    Ok(())
}

fn calls(function: &Function, name: &str) -> bool {
    let Some(body) = Body::of(function) else { return false };
    body.statements().iter().any(|statement| {
        let mut found = false;
        let _ = visit_expressions(statement, |part| {
            found |= matches!(part, Expr::Function(call) if call.name.to_string().ends_with(name));
            ControlFlow::<()>::Continue(())
        });
        found
    })
}

/// A setting that one table's policies read, while those of the others read one of almost the same name.
fn lone_settings(review: &mut Review<'_>) -> Result<()> {
    let mut readers: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for policy in &review.catalog.policies {
        for text in [policy.using.as_deref(), policy.check.as_deref()].into_iter().flatten() {
            for setting in review.evaluator.parsed(text).map(|expression| settings(&expression)).unwrap_or_default() {
                readers.entry(setting).or_default().insert(policy.relation);
            }
        }
    }
    for (lone, tables) in readers.iter().filter(|(_, tables)| tables.len() == 1) {
        let near = |other: &&String| strsim::normalized_damerau_levenshtein(lone, other) >= 0.8;
        let usual = readers.iter().filter(|(_, tables)| tables.len() > 1).map(|(name, _)| name).find(near);
        let table = tables.first().and_then(|table| review.catalog.relations.get(table));
        if let (Some(usual), Some(table)) = (usual, table) {
            review.keep(Draft {
                rule: "policy/lone-setting",
                object: relation_object(table),
                certainty: Certainty::Inferred,
                sentence: format!("{} alone reads {lone}, where other tables read {usual}", table.label()),
                evidence: vec![format!("{usual} is read by policies of {} tables", readers[usual].len())],
                remedy: format!("-- let the policies of {} read {usual}", table.sql()),
            })?;
        }
    }
    Ok(())
}
