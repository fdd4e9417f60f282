//! Which settings, keys in them, or functions an expression takes as context, and what it compares them with.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SelectItem, SetExpr,
    TableFactor, Value as Literal, Visit, Visitor, visit_expressions,
};

use super::body::Body;
use crate::guard::catalog::Catalog;

/// A column that an expression compares with a context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Comparison {
    /// The name that the column's table goes by, where it is told.
    pub table: Option<String>,
    /// The column.
    pub column: String,
    /// The setting, such as `app.tenant_id`; a key in one, such as `request.jwt.claims->sub`; or a function.
    pub context: String,
}

impl Comparison {
    /// With the table's own name, where `within` gives it another.
    pub fn with_its_table<V: Visit>(mut self, within: &V) -> Self {
        let mut names = Aliases(BTreeMap::new());
        let _ = within.visit(&mut names);
        if let Some(name) = self.table.as_ref().and_then(|alias| names.0.remove(alias)) {
            self.table = Some(name);
        }
        self
    }
}

/// The names of tables by the names that they go by.
struct Aliases(BTreeMap<String, String>);

impl Visitor for Aliases {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias: Some(alias), .. } = factor
            && let Some(table) = name.0.last().and_then(|part| part.as_ident())
        {
            self.0.insert(alias.name.value.clone(), table.value.clone());
        }
        ControlFlow::Continue(())
    }
}

/// Functions that call each other are followed so far.
const DEPTH: usize = 6;

/// What `expression` compares with a context, in its subqueries too.
pub fn comparisons<V: Visit>(expression: &V, catalog: &Catalog) -> Vec<Comparison> {
    let mut found = Vec::new();
    let _ = visit_expressions(expression, |part| {
        let sides: Vec<(&Expr, &Expr)> = match part {
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right }
            | Expr::AnyOp { left, right, .. }
            | Expr::AllOp { left, right, .. } => vec![(left, right), (right, left)],
            // Below one's own place, and above what is below.
            Expr::BinaryOp { left, op: BinaryOperator::ArrowAt, right } => vec![(left, right)],
            Expr::BinaryOp { left, op: BinaryOperator::AtArrow, right } => vec![(right, left)],
            // An extension's operators are written with their schema.
            Expr::BinaryOp { left, op: BinaryOperator::PGCustomBinaryOperator(parts), right } => {
                match parts.last().map(String::as_str) {
                    Some("<@") => vec![(left, right)],
                    Some("@>") => vec![(right, left)],
                    Some("=" | "<>") => vec![(left, right), (right, left)],
                    _ => Vec::new(),
                }
            }
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                vec![(left, right), (right, left)]
            }
            Expr::InList { expr, list, .. } => list.iter().map(|one| (expr.as_ref(), one)).collect(),
            _ => Vec::new(),
        };
        for (column, other) in sides {
            if let (Some((table, column)), Some(context)) = (column_of(column), context_of(other, catalog, 0)) {
                found.push(Comparison { table, column, context });
            }
        }
        if let Expr::InSubquery { expr, subquery, .. } = part
            && let (Some((table, column)), Some(context)) = (column_of(expr), of_query(subquery, catalog, 0))
        {
            found.push(Comparison { table, column, context });
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// The contexts that the functions called in `expression` compare columns with: who calls, where they look that up.
pub fn looked_up(expression: &Expr, catalog: &Catalog) -> BTreeSet<String> {
    compared_in_calls(expression, catalog).into_iter().map(|comparison| comparison.context).collect()
}

/// What the functions called in `expression` compare with a context.
pub fn compared_in_calls(expression: &Expr, catalog: &Catalog) -> Vec<Comparison> {
    let mut found = Vec::new();
    look(expression, catalog, 0, &mut found);
    found
}

fn look(expression: &Expr, catalog: &Catalog, depth: usize, found: &mut Vec<Comparison>) {
    let _ = visit_expressions(expression, |part| {
        let Expr::Function(call) = part else { return ControlFlow::<()>::Continue(()) };
        let parts: Vec<&str> = call.name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
        let called = parts
            .split_last()
            .and_then(|(name, schema)| catalog.function_called(schema.last().copied(), name, arguments(call).len()));
        for inner in called.and_then(Body::of).iter().flat_map(Body::expressions) {
            found.extend(comparisons(&inner, catalog).into_iter().map(|one| one.with_its_table(&inner)));
            if depth < DEPTH {
                look(&inner, catalog, depth + 1, found);
            }
        }
        ControlFlow::Continue(())
    });
}

fn column_of(expression: &Expr) -> Option<(Option<String>, String)> {
    match expression {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } | Expr::Collate { expr: inner, .. } => column_of(inner),
        Expr::Identifier(name) => Some((None, name.value.clone())),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., table, column] => Some((Some(table.value.clone()), column.value.clone())),
            _ => None,
        },
        Expr::Function(call) => arguments(call).into_iter().find_map(column_of),
        // A field of a column that is made of several.
        Expr::CompoundFieldAccess { root, .. } => column_of(root),
        _ => None,
    }
}

/// The context that an expression takes its value from.
fn context_of(expression: &Expr, catalog: &Catalog, depth: usize) -> Option<String> {
    if depth > DEPTH {
        return None;
    }
    match expression {
        Expr::Nested(inner)
        | Expr::Cast { expr: inner, .. }
        | Expr::Collate { expr: inner, .. }
        | Expr::Trim { expr: inner, .. }
        | Expr::Substring { expr: inner, .. } => context_of(inner, catalog, depth),
        Expr::Subquery(query) => of_query(query, catalog, depth),
        Expr::Array(array) => array.elem.iter().find_map(|one| context_of(one, catalog, depth)),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Arrow | BinaryOperator::LongArrow | BinaryOperator::HashLongArrow,
            right,
        } => {
            let word = text_of(right).unwrap_or("?");
            context_of(left, catalog, depth).map(|path| format!("{path}->{word}"))
        }
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            context_of(left, catalog, depth).or_else(|| context_of(right, catalog, depth))
        }
        Expr::Case { conditions, else_result, .. } => {
            let branches = conditions.iter().map(|branch| &branch.result).chain(else_result.as_deref());
            branches.into_iter().find_map(|branch| context_of(branch, catalog, depth))
        }
        Expr::Function(call) => of_call(call, catalog, depth),
        _ => None,
    }
}

fn of_call(call: &Function, catalog: &Catalog, depth: usize) -> Option<String> {
    let parts: Vec<&str> = call.name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
    let (name, schema) = parts.split_last()?;
    let given = arguments(call);
    if *name == "current_setting" {
        return given.first().and_then(|name| text_of(name)).map(String::from);
    }
    if let FunctionArguments::Subquery(query) = &call.args {
        return of_query(query, catalog, depth);
    }
    let Some(function) = catalog.function_called(schema.last().copied(), name, given.len()) else {
        return given.into_iter().find_map(|argument| context_of(argument, catalog, depth));
    };
    let inside = Body::of(function).and_then(|body| {
        body.expressions().into_iter().find_map(|expression| {
            let mut found = context_of(&expression, catalog, depth + 1);
            let _ = visit_expressions(&expression, |part| {
                // The settings that a lookup of the body turns on are the context as well.
                found = found.take().or_else(|| match part {
                    Expr::Function(_) => context_of(part, catalog, depth + 1),
                    _ => None,
                });
                ControlFlow::<()>::Continue(())
            });
            found
        })
    });
    let from_arguments = || given.iter().find_map(|argument| context_of(argument, catalog, depth));
    let told = || given.is_empty().then(|| format!("{}.{}()", function.schema, function.name));
    inside.or_else(from_arguments).or_else(told)
}

fn of_query(query: &Query, catalog: &Catalog, depth: usize) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    if !select.from.is_empty() {
        return None;
    }
    select.projection.iter().find_map(|item| match item {
        SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } => {
            context_of(expression, catalog, depth)
        }
        _ => None,
    })
}

fn arguments(call: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &call.args else { return Vec::new() };

    list.args.iter().filter_map(expression_of).collect()
}

fn expression_of(argument: &FunctionArg) -> Option<&Expr> {
    let (FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } | FunctionArg::Unnamed(arg)) = argument;
    match arg {
        FunctionArgExpr::Expr(expression) => Some(expression),
        _ => None,
    }
}

fn text_of(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => text_of(inner),
        Expr::Value(literal) => match &literal.value {
            Literal::SingleQuotedString(text) | Literal::Number(text, _) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Every setting that `expression` reads by a literal name, in its subqueries too.
pub fn settings(expression: &Expr) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let _ = visit_expressions(expression, |part| {
        if let Expr::Function(call) = part
            && call.name.0.last().and_then(|part| part.as_ident()).is_some_and(|name| name.value == "current_setting")
        {
            found.extend(arguments(call).first().and_then(|name| text_of(name)).map(String::from));
        }
        ControlFlow::<()>::Continue(())
    });
    found
}
