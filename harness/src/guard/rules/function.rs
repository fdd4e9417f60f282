//! Functions that act with more rights than who calls them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Statement, visit_expressions, visit_relations,
};

use crate::error::Result;
use crate::guard::catalog::{Function, Oid, Privilege, Relation, Role};
use crate::guard::expression::{Body, Bound, Value, settings};
use crate::guard::finding::Certainty;
use crate::guard::review::{Draft, Review, function_object, relation_object};
use crate::target::copy::quoted;

pub(super) fn check(review: &mut Review<'_>) -> Result<()> {
    let functions: Vec<&Function> = review.catalog.functions.values().filter(|f| f.extension.is_none()).collect();
    for function in functions {
        if function.leakproof {
            leakproof(review, function)?;
        }
        for role in review.roles() {
            if exposed(review, function, role) {
                keeps_context(review, function, role)?;
            }
            if function.definer && exposed(review, function, role) {
                search_path(review, function, role)?;
                past_the_wall(review, function, role)?;
                sets_context(review, function, role)?;
            }
        }
    }
    copies(review)
}

/// True when the role can have the function run: by calling it, or by writing to a view that it stands in for.
fn exposed(review: &Review<'_>, function: &Function, role: &Role) -> bool {
    if !function.is_trigger() {
        return review.catalog.may_use_schema(role.oid, function.schema_oid)
            && review.catalog.may(role.oid, Privilege::Execute, function.oid);
    }
    let instead = review
        .catalog
        .triggers
        .iter()
        .filter(|trigger| trigger.function == function.oid && trigger.instead && trigger.enabled);
    let views = instead.filter_map(|trigger| review.catalog.relations.get(&trigger.relation));
    views.into_iter().any(|view| review.rights(role.oid, view).iter().any(|right| *right != Privilege::Select))
}

fn leakproof(review: &mut Review<'_>, function: &Function) -> Result<()> {
    review.keep(Draft {
        rule: "function/leakproof",
        object: function_object(function),
        certainty: Certainty::Inferred,
        sentence: format!(
            "{} is declared LEAKPROOF: it is called on other tenants' rows before any policy is asked",
            function.label()
        ),
        evidence: vec![format!("its language is {}", function.language)],
        remedy: format!("ALTER FUNCTION {} NOT LEAKPROOF;", function.sql()),
    })
}

fn search_path(review: &mut Review<'_>, function: &Function, role: &Role) -> Result<()> {
    // What was parsed when the function was made is bound to its objects.
    if function.parsed
        || !matches!(function.language.as_str(), "sql" | "plpgsql") && function.setting("search_path").is_some()
    {
        return Ok(());
    }
    let evidence = match function.setting("search_path") {
        None => "it has no search_path of its own: who calls it says what its names mean".to_string(),
        Some(path) => {
            let names = path.split(',').map(|name| name.trim().trim_matches('"'));
            let schemas: Vec<&str> = names.collect();
            let planted = review.catalog.schemas.values().find(|schema| {
                schemas.contains(&schema.name.as_str()) && review.catalog.may(role.oid, Privilege::Create, schema.oid)
            });
            match planted {
                Some(schema) => {
                    format!("{} may make objects in {}, which is on its search_path", role.name, schema.name)
                }
                None => return Ok(()),
            }
        }
    };
    review.keep(Draft {
        rule: "function/mutable-search-path",
        object: function_object(function),
        certainty: Certainty::Inferred,
        sentence: format!(
            "{} runs as {}, and may be made to use objects of the caller's",
            function.label(),
            review.catalog.role_name(function.owner)
        ),
        evidence: vec![evidence],
        remedy: format!(
            "ALTER FUNCTION {} SET search_path = pg_catalog, {}, pg_temp;",
            function.sql(),
            quoted(&function.schema)
        ),
    })
}

/// Relations that a statement names.
fn named(review: &Review<'_>, statement: &Statement) -> BTreeSet<Oid> {
    let mut found = BTreeSet::new();
    let _ = visit_relations(statement, |name| {
        let parts: Vec<&str> = name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
        if let Some((name, schema)) = parts.split_last() {
            found.extend(review.catalog.relation_named(schema.last().copied(), name).map(|relation| relation.oid));
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// True when a statement asks which tenant is bound, itself or through a function.
pub(super) fn consults(review: &Review<'_>, statement: &Statement) -> bool {
    let mut found = false;
    let _ = visit_expressions(statement, |part| {
        found |= settings(part)
            .iter()
            .any(|setting| review.tenancy.contexts().any(|context| context.split("->").next() == Some(setting)));
        if let Expr::Function(call) = part {
            let parts: Vec<&str> =
                call.name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
            let count = if let FunctionArguments::List(list) = &call.args { list.args.len() } else { 0 };
            let called = parts
                .split_last()
                .and_then(|(name, schema)| review.catalog.function_called(schema.last().copied(), name, count));
            let body = called.and_then(Body::of);
            let inner =
                body.map(|body| body.expressions().iter().flat_map(settings).collect::<Vec<_>>()).unwrap_or_default();
            found |= inner.iter().any(|setting| review.tenancy.carries(setting));
            found |=
                called.is_some_and(|called| review.tenancy.carries(&format!("{}.{}()", called.schema, called.name)));
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

fn past_the_wall(review: &mut Review<'_>, function: &Function, role: &Role) -> Result<()> {
    let unguarded = |table: &&Relation| review.catalog.bypasses(function.owner, table) && table.row_security;
    let beside = review.tables().into_iter().any(|table| unguarded(&table));
    if !beside {
        return Ok(());
    }
    let owner = review.catalog.role_name(function.owner).to_string();
    let remedy = format!(
        "ALTER FUNCTION {} SECURITY INVOKER;\n-- or: REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC, {};",
        function.sql(),
        function.sql(),
        quoted(&role.name)
    );
    let draft = |rule, certainty, sentence: String, evidence: Vec<String>| Draft {
        rule,
        object: function_object(function),
        certainty,
        sentence,
        evidence: [
            vec![format!("{} may have it run, and it runs as {owner}, before whom no policy stands", role.name)],
            evidence,
        ]
        .concat(),
        remedy: remedy.clone(),
    };
    let Some(body) = Body::of(function) else {
        let sentence =
            format!("{} runs past the wall, and its {} is not followed", function.label(), function.language);
        return review.keep(draft("function/undecided", Certainty::Suspected, sentence, Vec::new()));
    };
    let statements = body.statements();
    let bound = statements.iter().any(|statement| consults(review, statement));
    for statement in &statements {
        let touched = named(review, statement);
        let touched = touched.iter().filter_map(|oid| review.catalog.relations.get(oid));
        let sees = |relation: &&Relation| match relation.kind.is_table() {
            true => review.tenancy.is_tenant_table(relation.oid) && unguarded(relation),
            false => !review.sources(relation.oid).is_empty(),
        };
        let touched: Vec<String> = touched.filter(sees).map(Relation::label).collect();
        if touched.is_empty() {
            continue;
        }
        let tables = touched.join(", ");
        let found = match statement {
            Statement::Query(query) => {
                review.evaluator.turn(function.owner, Bound::Tenant);
                match review.evaluator.asked(query, &function.argument_names) {
                    Some(shown) => {
                        let others = |row: &&crate::guard::expression::Shown| {
                            !row.foreign.is_empty() && if bound { row.when.is_true() } else { row.when.may_be_true() }
                        };
                        let others: Vec<_> = shown.iter().filter(others).collect();
                        let ids = |row: &&crate::guard::expression::Shown| {
                            !row.columns.is_empty()
                                && row.columns.iter().all(|(_, value)| matches!(value, Value::Tenant(_)))
                        };
                        match others.is_empty() {
                            true => None,
                            false if others.iter().all(ids) => Some((
                                "function/lists-tenants",
                                Certainty::Inferred,
                                "answers the ids of other tenants, and nothing else, from",
                            )),
                            false => {
                                Some(("function/past-the-wall", Certainty::Inferred, "reads other tenants' rows of"))
                            }
                        }
                    }
                    None if bound => None,
                    None => Some(("function/past-the-wall", Certainty::Suspected, "may read other tenants' rows of")),
                }
            }
            _ if bound => None,
            _ => Some(("function/past-the-wall", Certainty::Inferred, "changes rows, without asking whose, of")),
        };
        if let Some((rule, certainty, what)) = found {
            let sentence = format!("{} {what} {tables}", function.label());
            review.keep(draft(rule, certainty, sentence, vec![statement.to_string()]))?;
        }
    }
    for text in body.made_up() {
        if let Some(argument) = spliced(text, &function.argument_names) {
            let sentence = format!(
                "{} makes its argument {argument} part of a statement that it runs as {owner}",
                function.label()
            );
            review.keep(draft("function/injectable", Certainty::Inferred, sentence, vec![text.to_string()]))?;
        }
    }
    if body.has_unread() && !bound {
        let sentence =
            format!("{} runs past the wall, and has statements that are made up as it runs", function.label());
        review.keep(draft("function/undecided", Certainty::Suspected, sentence, Vec::new()))?;
    }
    Ok(())
}

/// The argument that is made part of a statement's text as it is.
fn spliced(text: &Expr, arguments: &[String]) -> Option<String> {
    match text {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => spliced(inner, arguments),
        Expr::BinaryOp { left, right, .. } => spliced(left, arguments).or_else(|| spliced(right, arguments)),
        Expr::Identifier(name) => arguments.iter().find(|argument| name.value.eq_ignore_ascii_case(argument)).cloned(),
        Expr::Function(call) => {
            let FunctionArguments::List(list) = &call.args else { return None };
            let given: Vec<&Expr> = list
                .args
                .iter()
                .filter_map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
                    _ => None,
                })
                .collect();
            match (call.name.to_string().to_lowercase().as_str(), given.as_slice()) {
                // `%s` takes its argument as it is; `%I` and `%L` quote.
                ("format", [pattern, rest @ ..]) if pattern.to_string().contains("%s") => {
                    rest.iter().find_map(|e| spliced(e, arguments))
                }
                ("concat" | "concat_ws" | "replace" | "lower" | "upper" | "coalesce", given) => {
                    given.iter().find_map(|e| spliced(e, arguments))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// A definer's function that binds whatever tenant it is told.
fn sets_context(review: &mut Review<'_>, function: &Function, role: &Role) -> Result<()> {
    let Some(body) = Body::of(function) else { return Ok(()) };
    let statements = body.statements();
    // One that looks something up first may well have checked who asks.
    if statements.iter().any(|statement| !named(review, statement).is_empty()) {
        return Ok(());
    }
    let set = statements.iter().find_map(|statement| bindings(review, statement).into_iter().next());
    let set = set.map(|(setting, _)| setting);
    let Some(setting) = set.filter(|_| function.inputs > 0) else { return Ok(()) };
    review.keep(Draft {
        rule: "function/sets-context",
        object: function_object(function),
        certainty: Certainty::Inferred,
        sentence: format!("{} binds whatever tenant it is told", function.label()),
        evidence: vec![format!("it sets {setting} from an argument"), format!("{} may call it", role.name)],
        remedy: format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC, {};", function.sql(), quoted(&role.name)),
    })
}

/// The tenant's settings that a statement sets, and whether they outlive the transaction.
fn bindings(review: &Review<'_>, statement: &Statement) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let _ = visit_expressions(statement, |part| {
        if let Expr::Function(call) = part
            && call.name.to_string().to_lowercase().ends_with("set_config")
            && let FunctionArguments::List(list) = &call.args
            && let [
                FunctionArg::Unnamed(FunctionArgExpr::Expr(name)),
                _,
                FunctionArg::Unnamed(FunctionArgExpr::Expr(local)),
            ] = list.args.as_slice()
        {
            let name = name.to_string();
            let name = name.split("::").next().unwrap_or_default().trim_matches(['\'', '(', ')']).to_string();
            if review.tenancy.carries(&name) {
                found.push((name, local.to_string().eq_ignore_ascii_case("false")));
            }
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// A function that binds a tenant for longer than a transaction: the next on the connection is that tenant.
fn keeps_context(review: &mut Review<'_>, function: &Function, role: &Role) -> Result<()> {
    let Some(body) = Body::of(function) else { return Ok(()) };
    let kept = body.statements().iter().flat_map(|statement| bindings(review, statement)).find(|(_, kept)| *kept);
    let Some((setting, _)) = kept else { return Ok(()) };
    review.keep(Draft {
        rule: "function/keeps-context",
        object: function_object(function),
        certainty: Certainty::Inferred,
        sentence: format!("what {} binds stays bound when its transaction has ended", function.label()),
        evidence: vec![format!("it sets {setting} for the session"), format!("{} may call it", role.name)],
        remedy: format!("-- let {} call set_config('{setting}', …, true)", function.sql()),
    })
}

/// Triggers that copy tenants' rows to where no wall is.
fn copies(review: &mut Review<'_>) -> Result<()> {
    let triggers: Vec<_> = review.catalog.triggers.iter().filter(|trigger| trigger.enabled).collect();
    for trigger in triggers {
        let function = review.catalog.functions.get(&trigger.function);
        let Some((function, body)) = function.and_then(|function| Some((function, Body::of(function)?))) else {
            continue;
        };
        let Some(source) =
            review.catalog.relations.get(&trigger.relation).filter(|r| review.tenancy.is_tenant_table(r.oid))
        else {
            continue;
        };
        for statement in body.statements().iter().filter(|statement| matches!(statement, Statement::Insert(_))) {
            for target in named(review, statement) {
                let Some(target) = review.catalog.relations.get(&target) else { continue };
                let open =
                    target.kind.is_table() && !target.row_security && !review.tenancy.is_tenant_table(target.oid);
                for role in review.roles() {
                    if !open || !review.rights(role.oid, target).contains(&Privilege::Select) {
                        continue;
                    }
                    review.keep(Draft {
                        rule: "function/trigger-copies",
                        object: relation_object(target),
                        certainty: Certainty::Inferred,
                        sentence: format!(
                            "{} gets what tenants write to {}, and has no row security",
                            target.label(),
                            source.label()
                        ),
                        evidence: vec![
                            format!("trigger {} calls {}", trigger.name, function.label()),
                            format!("{} holds SELECT on it", role.name),
                        ],
                        remedy: format!(
                            "REVOKE ALL ON {} FROM {};\n-- or give it the tenant's column and a policy",
                            target.sql(),
                            quoted(&role.name)
                        ),
                    })?;
                }
            }
        }
    }
    Ok(())
}
