//! What an expression comes to in one situation: whose the row is, and what the tenant context says.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query,
    UnaryOperator, Value as Literal,
};

use super::body::Body;
use super::made::{cast, chosen, coalesced, derived, ordered, unread};
use super::{Truth, Value, Whose};
use crate::guard::catalog::{Catalog, Oid, Relation};
use crate::guard::tenancy::Tenancy;

/// What the tenant context says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// A tenant.
    Tenant,
    /// Nothing was ever set on the connection.
    Unset,
    /// What a transaction that has ended leaves: the empty text.
    Empty,
}

/// A row in sight of an expression.
#[derive(Clone, Debug)]
pub(super) enum Source<'a> {
    /// Of a relation, and whose.
    Relation(&'a Relation, Whose),
    /// Of a relation, about to be written, and whose it will be.
    New(&'a Relation, Whose),
    /// Of a query: its columns.
    Derived(Vec<(String, Value)>),
}

/// A row and the name it goes by.
#[derive(Clone, Debug)]
pub(super) struct Row<'a> {
    pub(super) alias: String,
    pub(super) place: usize,
    pub(super) source: Source<'a>,
}

/// What an expression can name: rows, the innermost last, and a function's arguments and variables.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope<'a> {
    pub(super) rows: Vec<Row<'a>>,
    pub(super) variables: HashMap<String, Value>,
}

/// How many functions, views and policies may stand behind each other.
const DEPTH: usize = 12;

/// Follows expressions of one database, as one database role, in one situation.
pub struct Evaluator<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) tenancy: &'a Tenancy,
    /// The role whose rights hold; a definer's function has its owner's.
    pub(super) role: Cell<Oid>,
    pub(super) bound: Cell<Bound>,
    depth: Cell<usize>,
    places: Cell<usize>,
    expressions: RefCell<HashMap<String, Option<Rc<Expr>>>>,
    queries: RefCell<HashMap<String, Option<Rc<Query>>>>,
    pub(super) bodies: RefCell<HashMap<Oid, Option<Rc<Body>>>>,
}

impl<'a> Evaluator<'a> {
    /// As `role`, while the context says `bound`.
    pub fn new(catalog: &'a Catalog, tenancy: &'a Tenancy, role: Oid, bound: Bound) -> Self {
        Self {
            catalog,
            tenancy,
            role: Cell::new(role),
            bound: Cell::new(bound),
            depth: Cell::new(0),
            places: Cell::new(0),
            expressions: RefCell::default(),
            queries: RefCell::default(),
            bodies: RefCell::default(),
        }
    }

    /// As another role, or in another situation.
    pub fn turn(&self, role: Oid, bound: Bound) {
        self.role.set(role);
        self.bound.set(bound);
    }

    /// The role whose rights hold at the moment.
    pub fn role(&self) -> Oid {
        self.role.get()
    }

    /// The database.
    pub fn catalog(&self) -> &'a Catalog {
        self.catalog
    }

    /// What `text`, a condition on a row of `relation`, comes to when the row is `whose`.
    pub fn condition(&self, text: &str, relation: &'a Relation, whose: &Whose) -> Truth {
        self.holds(text, relation, Source::Relation(relation, whose.clone()))
    }

    /// As [`Evaluator::condition`], of a row that is about to be written: its writer chooses what it says.
    pub fn condition_of_new(&self, text: &str, relation: &'a Relation, whose: &Whose) -> Truth {
        self.holds(text, relation, Source::New(relation, whose.clone()))
    }

    fn holds(&self, text: &str, relation: &'a Relation, source: Source<'a>) -> Truth {
        let Some(expression) = self.parsed(text) else {
            return Truth::any(unread("an expression that cannot be parsed"));
        };
        let row = self.row(relation.name.clone(), source);
        self.deeper(|| self.value(&expression, &Scope { rows: vec![row], ..Scope::default() })).truth()
    }

    pub(super) fn row(&self, alias: String, source: Source<'a>) -> Row<'a> {
        self.places.set(self.places.get() + 1);
        Row { alias, place: self.places.get(), source }
    }

    /// One level down, unless it goes round in circles.
    pub(super) fn deeper(&self, evaluate: impl FnOnce() -> Value) -> Value {
        if self.depth.get() >= DEPTH {
            return Value::unread("functions, views or policies that go round in circles");
        }
        self.depth.set(self.depth.get() + 1);
        let value = evaluate();
        self.depth.set(self.depth.get() - 1);
        value
    }

    /// With another role's rights.
    pub(super) fn as_role<T>(&self, role: Oid, evaluate: impl FnOnce() -> T) -> T {
        let before = self.role.replace(role);
        let value = evaluate();
        self.role.set(before);
        value
    }

    /// The expression that `text` is, parsed once however many tables have it.
    pub fn parsed(&self, text: &str) -> Option<Rc<Expr>> {
        let mut known = self.expressions.borrow_mut();
        known.entry(text.to_string()).or_insert_with(|| super::parse(text).map(Rc::new)).clone()
    }

    pub(super) fn parsed_query(&self, text: &str) -> Option<Rc<Query>> {
        let mut known = self.queries.borrow_mut();
        known.entry(text.to_string()).or_insert_with(|| super::parse_query(text).map(Rc::new)).clone()
    }

    pub(super) fn truth(&self, expression: &Expr, scope: &Scope<'a>) -> Truth {
        self.value(expression, scope).truth()
    }

    pub(super) fn value(&self, expression: &Expr, scope: &Scope<'a>) -> Value {
        let truth = |truth: Truth| Value::Truth(truth);
        if let Some(whose) = self.generated(expression, scope) {
            return Value::Tenant(whose);
        }
        match expression {
            Expr::Nested(inner) | Expr::Collate { expr: inner, .. } | Expr::Named { expr: inner, .. } => {
                self.value(inner, scope)
            }
            Expr::Value(literal) => self.literal(&literal.value, scope),
            Expr::TypedString(typed) => self.literal(&typed.value.value, scope),
            Expr::Identifier(name) => self.named(None, &name.value, name.quote_style.is_some(), scope),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [.., table, column] => self.named(Some(&table.value), &column.value, true, scope),
                _ => Value::unread("a name"),
            },
            Expr::CompoundFieldAccess { root, access_chain } => self.accessed(root, access_chain, scope),
            Expr::Cast { expr, data_type, .. } => cast(self.value(expr, scope), data_type),
            Expr::IsTrue(e) => truth(self.truth(e, scope).is(true, false, false)),
            Expr::IsNotTrue(e) => truth(self.truth(e, scope).is(false, true, true)),
            Expr::IsFalse(e) => truth(self.truth(e, scope).is(false, true, false)),
            Expr::IsNotFalse(e) => truth(self.truth(e, scope).is(true, false, true)),
            Expr::IsNull(e) | Expr::IsUnknown(e) => truth(self.value(e, scope).is_null()),
            Expr::IsNotNull(e) | Expr::IsNotUnknown(e) => truth(self.value(e, scope).is_null().not()),
            Expr::IsDistinctFrom(a, b) => truth(self.value(a, scope).same(&self.value(b, scope)).not()),
            Expr::IsNotDistinctFrom(a, b) => truth(self.value(a, scope).same(&self.value(b, scope))),
            Expr::InList { expr, list, negated } => {
                let value = self.value(expr, scope);
                let found =
                    list.iter().fold(Truth::no(), |found, one| found.or(&value.equals(&self.value(one, scope))));
                truth(if *negated { found.not() } else { found })
            }
            Expr::InSubquery { expr, subquery, negated } => {
                let found = self.among(&self.value(expr, scope), subquery, scope);
                truth(if *negated { found.not() } else { found })
            }
            Expr::Exists { subquery, negated } => {
                let found = self.exists(subquery, scope);
                truth(if *negated { found.not() } else { found })
            }
            Expr::Subquery(query) => self.scalar(query, scope),
            Expr::AnyOp { left, compare_op, right, .. } => truth(self.any(left, compare_op, right, scope)),
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
                truth(self.any(left, &BinaryOperator::Eq, right, scope).not())
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => truth(self.truth(expr, scope).not()),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, scope),
            Expr::Between { expr, low, high, .. } => {
                let values = [expr, low, high].map(|part| self.value(part, scope));
                derived("BETWEEN", values.to_vec())
            }
            Expr::Like { expr, pattern, .. }
            | Expr::ILike { expr, pattern, .. }
            | Expr::SimilarTo { expr, pattern, .. } => {
                let causes = self.value(expr, scope).causes().into_iter().chain(self.value(pattern, scope).causes());
                truth(Truth::any(causes.chain(unread("a pattern")).collect()))
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                let last = else_result.as_ref().map_or(Value::Null, |e| self.value(e, scope));
                conditions.iter().rev().fold(last, |otherwise, branch| {
                    let when = match operand {
                        Some(operand) => self.value(operand, scope).equals(&self.value(&branch.condition, scope)),
                        None => self.truth(&branch.condition, scope),
                    };
                    chosen(&when, self.value(&branch.result, scope), otherwise)
                })
            }
            Expr::Array(Array { elem, .. }) => Value::List(elem.iter().map(|one| self.value(one, scope)).collect()),
            Expr::Tuple(parts) => Value::Tuple(parts.iter().map(|one| self.value(one, scope)).collect()),
            Expr::Trim { expr, .. } => self.value(expr, scope),
            Expr::Substring { expr, .. } => derived("a part of it", vec![self.value(expr, scope)]),
            Expr::Function(call) => self.called(call, scope),
            other => Value::unread(format!("`{other}`")),
        }
    }

    /// Whose a row is, where the expression is what the row's tenant column is generated from.
    fn generated(&self, expression: &Expr, scope: &Scope<'a>) -> Option<Whose> {
        let made = matches!(
            expression,
            Expr::CompoundFieldAccess { .. } | Expr::BinaryOp { .. } | Expr::Cast { .. } | Expr::Function(_)
        );
        scope.rows.iter().rev().filter(|_| made).find_map(|row| {
            let (Source::Relation(relation, whose) | Source::New(relation, whose)) = &row.source else { return None };
            let column = relation.column(self.tenancy.column_of(relation.oid)?).filter(|column| column.generated)?;
            let mut from = super::parse(column.default.as_deref()?)?;
            while let Expr::Nested(inner) = from {
                from = *inner;
            }
            (*whose != Whose::Shared && from == *expression).then(|| whose.clone())
        })
    }

    fn literal(&self, literal: &Literal, scope: &Scope<'a>) -> Value {
        match literal {
            Literal::Null => Value::Null,
            Literal::Boolean(yes) => Value::Truth(Truth::known(*yes)),
            Literal::Number(text, _) | Literal::SingleQuotedString(text) | Literal::EscapedStringLiteral(text) => {
                Value::Text(text.clone())
            }
            Literal::DollarQuotedString(text) => Value::Text(text.value.clone()),
            Literal::Placeholder(name) => {
                scope.variables.get(name).cloned().unwrap_or_else(|| Value::unread(format!("argument {name}")))
            }
            _ => Value::unread("a literal"),
        }
    }

    fn named(&self, table: Option<&str>, column: &str, quoted: bool, scope: &Scope<'a>) -> Value {
        let folded = column.to_lowercase();
        if table.is_none()
            && !quoted
            && matches!(folded.as_str(), "current_user" | "session_user" | "user" | "current_role")
        {
            return Value::DatabaseRole(self.catalog.role_name(self.role.get()).into());
        }
        let column = if quoted { column } else { folded.as_str() };
        for row in scope.rows.iter().rev() {
            if table.is_some_and(|table| !row.alias.eq_ignore_ascii_case(table)) {
                continue;
            }
            match &row.source {
                Source::Relation(relation, whose) | Source::New(relation, whose) => {
                    let chosen = matches!(row.source, Source::New(..));
                    if let Some(value) = self.column(row.place, relation, whose, column, chosen) {
                        return value;
                    }
                }
                Source::Derived(columns) => {
                    if let Some((_, value)) = columns.iter().find(|(name, _)| name == column) {
                        return value.clone();
                    }
                }
            }
        }
        let variable = scope.variables.get(column).cloned();
        variable.unwrap_or_else(|| Value::unread(format!("`{column}`")))
    }

    /// The value of a column in a row; none when the relation has no such column.
    fn column(&self, place: usize, relation: &Relation, whose: &Whose, name: &str, chosen: bool) -> Option<Value> {
        let column = relation.column(name)?;
        if *whose != Whose::Shared && self.tenancy.column_of(relation.oid) == Some(name) {
            if *whose == Whose::Alike && column.type_name.ends_with("citext") {
                return Some(Value::Tenant(Whose::Own));
            }
            return Some(Value::Tenant(whose.clone()));
        }
        Some(Value::Column {
            place,
            whose: whose.clone(),
            name: name.into(),
            identifies: match chosen {
                true => self.tenancy.follows(relation.oid, column.number),
                false => self.tenancy.identifies(relation.oid, column.number),
            },
            not_null: column.not_null,
            chosen,
        })
    }

    fn accessed(&self, root: &Expr, chain: &[AccessExpr], scope: &Scope<'a>) -> Value {
        // `alias.column` of a schema-qualified table, else a field or an element.
        if let (Expr::Identifier(table), [AccessExpr::Dot(Expr::Identifier(column))]) = (root, chain) {
            return self.named(Some(&table.value), &column.value, true, scope);
        }
        derived("a field", vec![self.value(root, scope)])
    }

    /// What a setting says.
    pub(super) fn setting(&self, name: &str, missing_is_null: bool) -> Value {
        match self.bound.get() {
            Bound::Tenant if self.tenancy.carries(name) => Value::Tenant(Whose::Own),
            Bound::Tenant => Value::Context(name.into()),
            Bound::Unset if missing_is_null => Value::Null,
            Bound::Unset => Value::Error,
            Bound::Empty => Value::Text(String::new()),
        }
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr, scope: &Scope<'a>) -> Value {
        let (a, b) = (self.value(left, scope), self.value(right, scope));
        let truth = match op {
            BinaryOperator::And => a.truth().and(&b.truth()),
            BinaryOperator::Or => a.truth().or(&b.truth()),
            BinaryOperator::Eq | BinaryOperator::PGOverlap => a.equals(&b),
            BinaryOperator::NotEq => a.equals(&b).not(),
            // In a tree of tenants no other stands below one's own place.
            BinaryOperator::ArrowAt | BinaryOperator::AtArrow
                if [&a, &b].iter().all(|side| matches!(side, Value::Tenant(_) | Value::Null | Value::Error)) =>
            {
                a.equals(&b)
            }
            BinaryOperator::PGCustomBinaryOperator(parts) if parts.last().is_some_and(|part| part == "=") => {
                a.equals(&b)
            }
            BinaryOperator::PGCustomBinaryOperator(parts) if parts.last().is_some_and(|part| part == "<>") => {
                a.equals(&b).not()
            }
            BinaryOperator::PGCustomBinaryOperator(parts)
                if parts.last().is_some_and(|part| part == "<@" || part == "@>")
                    && [&a, &b].iter().all(|side| matches!(side, Value::Tenant(_) | Value::Null | Value::Error)) =>
            {
                a.equals(&b)
            }
            BinaryOperator::Arrow
            | BinaryOperator::LongArrow
            | BinaryOperator::HashArrow
            | BinaryOperator::HashLongArrow => {
                return self.key(a, &b);
            }
            BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq => {
                match ordered(&a, op, &b) {
                    Some(known) => Truth::known(known),
                    None => return derived("a comparison", vec![a, b]),
                }
            }
            _ => return derived("an operator", vec![a, b]),
        };
        Value::Truth(truth)
    }

    /// A key of a document.
    fn key(&self, document: Value, key: &Value) -> Value {
        let word = match key {
            Value::Text(word) => word.as_str(),
            _ => "?",
        };
        match document {
            Value::Context(path) => {
                let path = format!("{path}->{word}");
                if self.tenancy.carries(&path) { Value::Tenant(Whose::Own) } else { Value::Context(path) }
            }
            Value::Column { place, whose, name, chosen, .. } => {
                let name = format!("{name}->{word}");
                Value::Column { place, whose, name, identifies: false, not_null: false, chosen }
            }
            Value::Text(text) if text.is_empty() => Value::Error,
            Value::Text(_) => Value::Null,
            other => other,
        }
    }

    fn any(&self, left: &Expr, op: &BinaryOperator, right: &Expr, scope: &Scope<'a>) -> Truth {
        let value = self.value(left, scope);
        let right = match right {
            Expr::Nested(inner) => inner,
            other => other,
        };
        match (op, right) {
            (BinaryOperator::Eq, Expr::Subquery(query)) => self.among(&value, query, scope),
            (BinaryOperator::Eq, other) => value.equals(&self.value(other, scope)),
            (_, other) => {
                let causes = value.causes().into_iter().chain(self.value(other, scope).causes());
                Truth::any(causes.chain(unread("a comparison")).collect())
            }
        }
    }

    fn called(&self, call: &Function, scope: &Scope<'a>) -> Value {
        let parts: Vec<&str> = call.name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
        let Some((name, schema)) = parts.split_last() else { return Value::unread("a call") };
        let name = name.to_string();
        let arguments = match &call.args {
            FunctionArguments::None => Vec::new(),
            FunctionArguments::Subquery(query) => return self.scalar(query, scope),
            FunctionArguments::List(list) => {
                let argument = |argument: &FunctionArg| match argument {
                    FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } | FunctionArg::Unnamed(arg) => {
                        match arg {
                            FunctionArgExpr::Expr(expression) => self.value(expression, scope),
                            _ => Value::unread("*"),
                        }
                    }
                };
                list.args.iter().map(argument).collect()
            }
        };
        let schema = schema.last().copied();
        if let Some(function) = self.catalog.function_called(schema, &name, arguments.len()) {
            return self.deeper(|| self.answer(function, arguments));
        }
        self.builtin(&name.to_lowercase(), arguments)
    }

    fn builtin(&self, name: &str, mut arguments: Vec<Value>) -> Value {
        match (name, arguments.as_slice()) {
            ("current_setting", [Value::Text(setting)]) => self.setting(setting, false),
            ("current_setting", [Value::Text(setting), missing]) => self.setting(setting, missing.truth().is_true()),
            ("current_user" | "session_user" | "user" | "current_role", []) => {
                Value::DatabaseRole(self.catalog.role_name(self.role.get()).into())
            }
            ("nullif", [value, other]) => {
                if value.equals(other).is_true() {
                    return Value::Null;
                }
                arguments.swap_remove(0)
            }
            ("coalesce", _) => arguments
                .into_iter()
                .rev()
                .reduce(|otherwise, value| coalesced(value, otherwise))
                .unwrap_or(Value::Null),
            ("array_agg" | "bool_or" | "any_value" | "min" | "max", [_]) => arguments.swap_remove(0),
            ("pg_has_role", [Value::Text(role), _] | [_, Value::Text(role), _]) => {
                match self.catalog.role_named(role) {
                    Some(other) => {
                        Value::Truth(Truth::known(self.catalog.settable(self.role.get()).contains(&other.oid)))
                    }
                    None => Value::Error,
                }
            }
            ("lower" | "upper" | "initcap", [Value::Tenant(Whose::Alike)]) => Value::Tenant(Whose::Own),
            ("unnest" | "lower" | "upper" | "initcap" | "btrim" | "uuid" | "text" | "md5" | "sha256", [_]) => {
                arguments.swap_remove(0)
            }
            _ => derived(&format!("{name}()"), arguments),
        }
    }
}
