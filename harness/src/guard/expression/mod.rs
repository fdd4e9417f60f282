//! Expressions of policies, views and functions: parsed, and asked what they come to. Nothing here looks at how an
//! expression is written; only at what it lets through for a row of one tenant while another is bound.

mod body;
mod context;
mod evaluate;
mod made;
mod query;
mod truth;
mod value;

use sqlparser::ast::{Expr, Query};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

pub use body::{Body, Step};
pub use context::{Comparison, compared_in_calls, comparisons, looked_up, settings};
pub use evaluate::{Bound, Evaluator};
pub use query::Shown;
pub use truth::{Cause, Truth};
pub use value::{Value, Whose};

/// How deep expressions may be nested in each other through parentheses.
const DEPTH: usize = 200;

/// Parses an expression as `pg_get_expr` writes it; none when the parser does not know a form in it.
pub fn parse(text: &str) -> Option<Expr> {
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH);
    parser.try_with_sql(text).and_then(|mut parser| parser.parse_expr()).ok()
}

/// Parses a query; none when the parser does not know a form in it.
pub fn parse_query(text: &str) -> Option<Query> {
    let text = text.trim().trim_end_matches(';');
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH);
    parser.try_with_sql(text).and_then(|mut parser| parser.parse_query()).ok().map(|query| *query)
}
