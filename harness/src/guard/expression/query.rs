//! Queries inside expressions, and views: which tenants' rows they may show, each table in them behind its own wall.

use sqlparser::ast::{
    Expr, JoinConstraint, JoinOperator, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    TableAlias, TableFactor,
};

use super::evaluate::{Evaluator, Row, Scope, Source};
use super::{Cause, Truth, Value, Whose};
use crate::guard::catalog::{Command, Kind, Relation};

/// More tables at once are not followed.
const TABLES_MAX: usize = 6;

/// A row that a query may show.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Whether it does.
    pub when: Truth,
    /// Its values, by name.
    pub columns: Vec<(String, Value)>,
    /// The tables of other tenants, by label, whose rows it is made of.
    pub foreign: Vec<String>,
}

/// A combination of rows, before it is asked whether it is shown.
#[derive(Clone)]
struct Candidate<'a> {
    rows: Vec<Row<'a>>,
    when: Truth,
    foreign: Vec<String>,
}

impl<'a> Evaluator<'a> {
    /// What a relation may show to the role that asks: of a table its rows, of a view what stands behind it. None when
    /// that cannot be followed.
    pub fn shown(&self, relation: &'a Relation) -> Option<Vec<Shown>> {
        let candidates = self.rows_of(relation, relation.name.clone(), true)?;
        Some(candidates.into_iter().map(|candidate| self.finished(candidate)).collect())
    }

    /// What a query in a function's body may show, whose arguments may be anything. None when that cannot be followed.
    pub fn asked(&self, query: &Query, arguments: &[String]) -> Option<Vec<Shown>> {
        let names = arguments.iter().cloned().chain((1..=arguments.len()).map(|at| format!("${at}")));
        let variables = names.map(|name| (name, Value::unread("an argument"))).collect();
        self.answers(query, &Scope { variables, ..Scope::default() })
    }

    fn finished(&self, candidate: Candidate<'a>) -> Shown {
        let columns = candidate.rows.into_iter().flat_map(|row| match row.source {
            Source::Derived(columns) => columns,
            Source::Relation(..) | Source::New(..) => Vec::new(),
        });
        Shown { when: candidate.when, columns: columns.collect(), foreign: candidate.foreign }
    }

    /// `EXISTS`.
    pub(super) fn exists(&self, query: &Query, scope: &Scope<'a>) -> Truth {
        let Some(shown) = self.answers(query, scope) else { return unread() };
        let found = shown.iter().fold(Truth::no(), |found, row| found.or(&row.when.is(true, false, false)));
        self.unless_empty(found, query)
    }

    /// `IN`.
    pub(super) fn among(&self, value: &Value, query: &Query, scope: &Scope<'a>) -> Truth {
        let Some(shown) = self.answers(query, scope) else { return unread() };
        let found = shown.iter().fold(Truth::no(), |found, row| {
            let equal = match (value, row.columns.as_slice()) {
                (Value::Tuple(_), columns) => {
                    value.equals(&Value::Tuple(columns.iter().map(|(_, column)| column.clone()).collect()))
                }
                (_, [(_, column), ..]) => value.equals(column),
                _ => Truth::null(),
            };
            found.or(&row.when.and(&equal))
        });
        self.unless_empty(found, query)
    }

    /// A query that stands for a value.
    pub(super) fn scalar(&self, query: &Query, scope: &Scope<'a>) -> Value {
        let Some(shown) = self.answers(query, scope) else { return Value::unread("a query") };
        let mut possible: Vec<&Shown> = shown.iter().filter(|row| row.when.may_be_true()).collect();
        possible.dedup_by(|a, b| a.columns == b.columns);
        match possible.as_slice() {
            [] => Value::Null,
            [one] => one.columns.first().map_or(Value::Null, |(_, value)| match value {
                Value::Truth(truth) => Value::Truth(truth.clone()),
                other => other.clone(),
            }),
            several => Value::Unknown(
                several
                    .iter()
                    .flat_map(|row| {
                        row.when.because.iter().cloned().chain(row.columns.iter().flat_map(|(_, v)| v.causes()))
                    })
                    .chain(tables(query).map(Cause::Rows))
                    .collect(),
            ),
        }
    }

    /// The relations that are asked may be empty, unless none is asked.
    fn unless_empty(&self, found: Truth, query: &Query) -> Truth {
        if !found.may_be_true() {
            return found;
        }
        let mut found = found;
        for table in tables(query) {
            found = found.joined(&Truth::no()).hanging_on(Cause::Rows(table));
        }
        found
    }

    /// The rows that a query may answer; none when it has a form that is not followed.
    fn answers(&self, query: &Query, scope: &Scope<'a>) -> Option<Vec<Shown>> {
        if query.with.is_some() {
            return None;
        }
        self.answers_of(&query.body, scope)
    }

    fn answers_of(&self, body: &SetExpr, scope: &Scope<'a>) -> Option<Vec<Shown>> {
        match body {
            SetExpr::Select(select) => self.selected(select, scope),
            SetExpr::Query(query) => self.answers(query, scope),
            SetExpr::SetOperation { left, right, .. } => {
                let mut shown = self.answers_of(left, scope)?;
                shown.extend(self.answers_of(right, scope)?);
                Some(shown)
            }
            SetExpr::Values(values) => Some(
                values
                    .rows
                    .iter()
                    .map(|row| Shown {
                        when: Truth::yes(),
                        columns: row
                            .content
                            .iter()
                            .enumerate()
                            .map(|(at, e)| (format!("column{}", at + 1), self.value(e, scope)))
                            .collect(),
                        foreign: Vec::new(),
                    })
                    .collect(),
            ),
            _ => None,
        }
    }

    fn selected(&self, select: &Select, scope: &Scope<'a>) -> Option<Vec<Shown>> {
        let mut candidates = vec![Candidate { rows: Vec::new(), when: Truth::yes(), foreign: Vec::new() }];
        let mut tables = 0;
        for item in &select.from {
            let mut group = self.factor(&item.relation, scope)?;
            tables += 1 + item.joins.len();
            for join in &item.joins {
                let right = self.factor(&join.relation, scope)?;
                group = crossed(&group, &right);
                let (JoinOperator::Join(on)
                | JoinOperator::Inner(on)
                | JoinOperator::CrossJoin(on)
                | JoinOperator::Left(on)
                | JoinOperator::LeftOuter(on)
                | JoinOperator::Right(on)
                | JoinOperator::RightOuter(on)
                | JoinOperator::FullOuter(on)) = &join.join_operator
                else {
                    return None;
                };
                self.restrict(&mut group, on, scope);
            }
            candidates = crossed(&candidates, &group);
        }
        if tables > TABLES_MAX {
            return None;
        }
        let mut shown = Vec::new();
        for mut candidate in candidates {
            let inner = within(scope, &candidate.rows);
            if let Some(condition) = &select.selection {
                candidate.when = candidate.when.and(&self.truth(condition, &inner));
            }
            if candidate.when.may_be_true() || candidate.when.may_fail() {
                let columns = select.projection.iter().flat_map(|item| self.projected(item, &inner, &candidate.rows));
                shown.push(Shown { columns: columns.collect(), when: candidate.when, foreign: candidate.foreign });
            }
        }
        Some(shown)
    }

    fn restrict(&self, group: &mut [Candidate<'a>], on: &JoinConstraint, scope: &Scope<'a>) {
        for candidate in group {
            let condition = match on {
                JoinConstraint::On(condition) => self.truth(condition, &within(scope, &candidate.rows)),
                JoinConstraint::Using(columns) => {
                    let same = columns.iter().filter_map(|column| column.0.last()?.as_ident()).map(|column| {
                        let value = |row: &Row<'a>| {
                            self.value(
                                &Expr::Identifier(column.clone()),
                                &within(&Scope::default(), std::slice::from_ref(row)),
                            )
                        };
                        match candidate.rows.as_slice() {
                            [.., a, b] => value(a).equals(&value(b)),
                            _ => Truth::yes(),
                        }
                    });
                    same.fold(Truth::yes(), |all, one| all.and(&one))
                }
                JoinConstraint::Natural | JoinConstraint::None => Truth::yes(),
            };
            candidate.when = candidate.when.and(&condition);
        }
    }

    fn projected(&self, item: &SelectItem, scope: &Scope<'a>, rows: &[Row<'a>]) -> Vec<(String, Value)> {
        let all = |row: &Row<'a>| -> Vec<(String, Value)> {
            match &row.source {
                Source::Derived(columns) => columns.clone(),
                Source::Relation(relation, _) | Source::New(relation, _) => {
                    let scope = Scope { rows: vec![row.clone()], ..Scope::default() };
                    let value = |name: &str| {
                        self.value(&Expr::Identifier(sqlparser::ast::Ident::with_quote('"', name)), &scope)
                    };
                    relation.columns.iter().map(|column| (column.name.clone(), value(&column.name))).collect()
                }
            }
        };
        match item {
            SelectItem::UnnamedExpr(expression) => {
                let name = match expression {
                    Expr::Identifier(name) => name.value.clone(),
                    Expr::CompoundIdentifier(parts) => parts.last().map_or_else(String::new, |part| part.value.clone()),
                    _ => String::new(),
                };
                vec![(name, self.value(expression, scope))]
            }
            SelectItem::ExprWithAlias { expr, alias } => vec![(alias.value.clone(), self.value(expr, scope))],
            SelectItem::Wildcard(_) => rows.iter().flat_map(all).collect(),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let alias = name.0.last().and_then(|part| part.as_ident()).map(|part| part.value.as_str());
                rows.iter().filter(|row| Some(row.alias.as_str()) == alias).flat_map(all).collect()
            }
            _ => vec![(String::new(), Value::unread("a projection"))],
        }
    }

    fn factor(&self, factor: &TableFactor, scope: &Scope<'a>) -> Option<Vec<Candidate<'a>>> {
        let named = |alias: &Option<TableAlias>, otherwise: &str| {
            alias.as_ref().map_or_else(|| otherwise.to_string(), |alias| alias.name.value.clone())
        };
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let parts: Vec<&str> = name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
                let (table, schema) = parts.split_last()?;
                let relation = self.catalog.relation_named(schema.last().copied(), table)?;
                self.rows_of(relation, named(alias, table), false)
            }
            TableFactor::Table { name, alias, .. } => {
                // A function that answers rows, such as `unnest`.
                let value = self.value(&super::parse(&factor_call(factor))?, scope);
                let label = named(alias, &name.to_string());
                let column =
                    alias.as_ref().and_then(|alias| alias.columns.first()).map(|column| column.name.value.clone());
                let source = Source::Derived(vec![(column.unwrap_or_else(|| label.clone()), value)]);
                Some(vec![Candidate { rows: vec![self.row(label, source)], when: Truth::yes(), foreign: Vec::new() }])
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let shown = self.answers(subquery, scope)?;
                Some(shown.into_iter().map(|row| self.derived(row, named(alias, ""), alias.as_ref())).collect())
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                let mut group = self.factor(&table_with_joins.relation, scope)?;
                for join in &table_with_joins.joins {
                    group = crossed(&group, &self.factor(&join.relation, scope)?);
                    let (JoinOperator::Join(on)
                    | JoinOperator::Inner(on)
                    | JoinOperator::Left(on)
                    | JoinOperator::LeftOuter(on)) = &join.join_operator
                    else {
                        return None;
                    };
                    self.restrict(&mut group, on, scope);
                }
                Some(group)
            }
            _ => None,
        }
    }

    fn derived(&self, shown: Shown, name: String, alias: Option<&TableAlias>) -> Candidate<'a> {
        let mut columns = shown.columns;
        for (column, renamed) in columns.iter_mut().zip(alias.into_iter().flat_map(|alias| &alias.columns)) {
            column.0 = renamed.name.value.clone();
        }
        Candidate { rows: vec![self.row(name, Source::Derived(columns))], when: shown.when, foreign: shown.foreign }
    }

    /// The rows of a relation that the role may come to see, its own tenant's and another's.
    fn rows_of(&self, relation: &'a Relation, alias: String, expanded: bool) -> Option<Vec<Candidate<'a>>> {
        if relation.kind == Kind::View {
            let query = self.parsed_query(relation.definition.as_deref()?)?;
            let role = if relation.has_option("security_invoker") { self.role.get() } else { relation.owner };
            let mut shown = None;
            self.deeper(|| {
                shown = self.as_role(role, || self.answers(&query, &Scope::default()));
                Value::Null
            });
            return Some(shown?.into_iter().map(|row| self.derived(row, alias.clone(), None)).collect());
        }
        let owners = if self.tenancy.is_tenant_table(relation.oid) {
            vec![Whose::Own, Whose::Foreign]
        } else {
            vec![Whose::Shared]
        };
        let candidate = |whose: Whose| {
            let when = self.lets(relation, Command::Select, &whose);
            let foreign = if whose == Whose::Foreign { vec![relation.label()] } else { Vec::new() };
            let mut row = self.row(alias.clone(), Source::Relation(relation, whose));
            if expanded {
                let columns = self.projected(
                    &SelectItem::Wildcard(Default::default()),
                    &Scope::default(),
                    std::slice::from_ref(&row),
                );
                row.source = Source::Derived(columns);
            }
            Candidate { rows: vec![row], when, foreign }
        };
        Some(owners.into_iter().map(candidate).filter(|candidate| candidate.when.may_be_true()).collect())
    }
}

fn unread() -> Truth {
    Truth::either(Cause::Unread("a query".into()))
}

fn factor_call(factor: &TableFactor) -> String {
    match factor {
        TableFactor::Table { name, args: Some(args), .. } => {
            let args: Vec<String> = args.args.iter().map(ToString::to_string).collect();
            format!("{name}({})", args.join(", "))
        }
        other => other.to_string(),
    }
}

fn crossed<'a>(left: &[Candidate<'a>], right: &[Candidate<'a>]) -> Vec<Candidate<'a>> {
    let pair = |a: &Candidate<'a>, b: &Candidate<'a>| Candidate {
        rows: a.rows.iter().chain(&b.rows).cloned().collect(),
        when: a.when.and(&b.when),
        foreign: a.foreign.iter().chain(&b.foreign).cloned().collect(),
    };
    left.iter().flat_map(|a| right.iter().map(move |b| pair(a, b))).collect()
}

fn within<'a>(scope: &Scope<'a>, rows: &[Row<'a>]) -> Scope<'a> {
    Scope { rows: scope.rows.iter().chain(rows).cloned().collect(), variables: scope.variables.clone() }
}

/// The relations that a query names, as it names them.
fn tables(query: &Query) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    let _ = sqlparser::ast::visit_relations(query, |name| {
        found.push(name.to_string());
        std::ops::ControlFlow::<()>::Continue(())
    });
    found.into_iter()
}
