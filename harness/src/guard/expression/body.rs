//! What a function does, where that can be followed: SQL, and PL/pgSQL that assigns, asks, decides and returns.

use std::rc::Rc;

use sqlparser::ast::{Expr, Query, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::evaluate::{Evaluator, Scope};
use super::made::chosen;
use super::{Value, parse, parse_query};
use crate::guard::catalog::Function;

/// A function's body.
#[derive(Clone, Debug)]
pub enum Body {
    /// Of SQL: its statements, the last of which answers.
    Sql(Vec<Statement>),
    /// `RETURN` of SQL.
    Return(Box<Expr>),
    /// Of PL/pgSQL.
    Steps(Vec<Step>),
}

/// A step of PL/pgSQL.
#[derive(Clone, Debug)]
pub enum Step {
    /// A variable is given a value.
    Let(String, Expr),
    /// Variables are given what a query answers.
    Into(Vec<String>, Box<Query>),
    /// The first condition that holds decides.
    If(Expr, Vec<Step>, Vec<Step>),
    /// Ends with a value, or without.
    Return(Option<Expr>),
    /// `RAISE EXCEPTION`.
    Raise,
    /// A statement whose answer nobody reads.
    Run(Box<Statement>),
    /// `EXECUTE` of a text that is made up as it runs.
    Dynamic(Expr),
    /// What is not followed.
    Unread(String),
}

impl Body {
    /// The body of `function`; none when its language is another.
    pub fn of(function: &Function) -> Option<Self> {
        let text = function.body.trim();
        match function.language.as_str() {
            "sql" if function.parsed && text.to_uppercase().starts_with("RETURN") => {
                Some(Self::Return(Box::new(parse(text[6..].trim().trim_end_matches(';'))?)))
            }
            "sql" => {
                let inner = text.strip_prefix("BEGIN ATOMIC").and_then(|rest| rest.trim_end().strip_suffix("END"));
                let statements = Parser::parse_sql(&PostgreSqlDialect {}, inner.unwrap_or(text)).ok()?;
                Some(Self::Sql(statements))
            }
            "plpgsql" => Steps::read(text).map(Self::Steps),
            _ => None,
        }
    }

    /// The expressions and queries in it, queries as expressions.
    pub fn expressions(&self) -> Vec<Expr> {
        let mut found = Vec::new();
        match self {
            Self::Return(expression) => found.push(expression.as_ref().clone()),
            Self::Sql(statements) => found.extend(statements.iter().filter_map(query_of)),
            Self::Steps(steps) => gather(steps, &mut found),
        }
        found
    }

    /// The statements that it runs.
    pub fn statements(&self) -> Vec<Statement> {
        match self {
            Self::Return(expression) => query_statement(expression).into_iter().collect(),
            Self::Sql(statements) => statements.clone(),
            Self::Steps(steps) => {
                let mut found = Vec::new();
                run(steps, &mut found);
                found
            }
        }
    }

    /// The texts that it runs as statements, made up as it runs.
    pub fn made_up(&self) -> Vec<&Expr> {
        fn all<'s>(steps: &'s [Step], found: &mut Vec<&'s Expr>) {
            for step in steps {
                match step {
                    Step::Dynamic(text) => found.push(text),
                    Step::If(_, then, otherwise) => {
                        all(then, found);
                        all(otherwise, found);
                    }
                    _ => {}
                }
            }
        }
        let mut found = Vec::new();
        if let Self::Steps(steps) = self {
            all(steps, &mut found);
        }
        found
    }

    /// True when it has a part that is not followed.
    pub fn has_unread(&self) -> bool {
        fn any(steps: &[Step]) -> bool {
            steps.iter().any(|step| match step {
                Step::Unread(_) | Step::Dynamic(_) => true,
                Step::If(_, then, otherwise) => any(then) || any(otherwise),
                _ => false,
            })
        }
        matches!(self, Self::Steps(steps) if any(steps))
    }
}

fn query_statement(expression: &Expr) -> Option<Statement> {
    parse_query(&format!("SELECT {expression}")).map(|query| Statement::Query(Box::new(query)))
}

fn query_of(statement: &Statement) -> Option<Expr> {
    match statement {
        Statement::Query(query) => {
            // `SELECT expression` stands for the expression.
            let text = query.to_string();
            let plain =
                text.strip_prefix("SELECT ").filter(|_| query.body.as_select().is_some_and(|s| s.from.is_empty()));
            plain.and_then(parse).or_else(|| Some(Expr::Subquery(query.clone())))
        }
        _ => None,
    }
}

fn gather(steps: &[Step], found: &mut Vec<Expr>) {
    for step in steps {
        match step {
            Step::Let(_, expression) | Step::Return(Some(expression)) => found.push(expression.clone()),
            Step::Into(_, query) => found.push(Expr::Subquery(query.clone())),
            Step::If(when, then, otherwise) => {
                found.push(when.clone());
                gather(then, found);
                gather(otherwise, found);
            }
            Step::Run(statement) => found.extend(query_of(statement)),
            Step::Return(None) | Step::Raise | Step::Dynamic(_) | Step::Unread(_) => {}
        }
    }
}

fn run(steps: &[Step], found: &mut Vec<Statement>) {
    for step in steps {
        match step {
            Step::Into(_, query) => found.push(Statement::Query(query.clone())),
            Step::If(when, then, otherwise) => {
                found.extend(query_statement(when));
                run(then, found);
                run(otherwise, found);
            }
            Step::Let(_, expression) | Step::Return(Some(expression)) => found.extend(query_statement(expression)),
            Step::Run(statement) => found.push(statement.as_ref().clone()),
            Step::Return(None) | Step::Raise | Step::Dynamic(_) | Step::Unread(_) => {}
        }
    }
}

/// Reads PL/pgSQL, token by token.
struct Steps {
    tokens: Vec<Token>,
    at: usize,
}

impl Steps {
    fn read(text: &str) -> Option<Vec<Step>> {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize().ok()?;
        let tokens = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
        let mut reader = Self { tokens, at: 0 };
        let mut steps = reader.declarations();
        if !reader.take("BEGIN") {
            return None;
        }
        steps.extend(reader.block());
        Some(steps)
    }

    fn word(&self, ahead: usize) -> String {
        match self.tokens.get(self.at + ahead) {
            Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase(),
            _ => String::new(),
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.word(0) == word;
        self.at += usize::from(found);
        found
    }

    /// The tokens up to one of `words`, or `;`, outside parentheses; the end itself is left.
    fn until(&mut self, words: &[&str]) -> Vec<Token> {
        let (mut depth, mut cases, from) = (0usize, 0usize, self.at);
        while let Some(token) = self.tokens.get(self.at) {
            let word = self.word(0);
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::SemiColon if depth == 0 => break,
                _ if depth == 0 && cases == 0 && words.contains(&word.as_str()) => break,
                _ if word == "CASE" => cases += 1,
                _ if word == "END" && cases > 0 => cases -= 1,
                _ => {}
            }
            self.at += 1;
        }
        self.tokens[from..self.at].to_vec()
    }

    fn statement(&mut self) -> Vec<Token> {
        let tokens = self.until(&[]);
        self.at += 1;
        tokens
    }

    fn declarations(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.take("DECLARE") {
            return steps;
        }
        while self.at < self.tokens.len() && self.word(0) != "BEGIN" {
            let tokens = self.statement();
            let Some(Token::Word(name)) = tokens.first() else { continue };
            let given = tokens.iter().position(|token| {
                matches!(token, Token::Assignment | Token::Eq)
                    || matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case("default"))
            });
            let text = given.map_or_else(|| "NULL".into(), |at| joined(&tokens[at + 1..]));
            steps.push(parse(&text).map_or_else(|| Step::Unread(text), |e| Step::Let(name.value.to_lowercase(), e)));
        }
        steps
    }

    /// Steps up to what ends the block, which is left.
    fn block(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while self.at < self.tokens.len() {
            match self.word(0).as_str() {
                "END" | "ELSE" | "ELSIF" | "ELSEIF" | "EXCEPTION" => break,
                _ => steps.push(self.step()),
            }
        }
        steps
    }

    fn step(&mut self) -> Step {
        if self.take("IF") {
            return self.decision();
        }
        if self.take("RETURN") {
            if self.take("QUERY") {
                return self.statement_or_made_up();
            }
            let tokens = self.statement();
            if tokens.is_empty() {
                return Step::Return(None);
            }
            let text = joined(&tokens);
            return parse(&text).map_or(Step::Unread(text), |e| Step::Return(Some(e)));
        }
        if self.take("RAISE") {
            let quiet = ["NOTICE", "WARNING", "INFO", "LOG", "DEBUG"].contains(&self.word(0).as_str());
            self.statement();
            return if quiet { Step::Let(String::new(), null()) } else { Step::Raise };
        }
        if self.word(0) == "EXECUTE" {
            return self.statement_or_made_up();
        }
        if ["FOR", "WHILE", "LOOP", "FOREACH", "CASE", "BEGIN", "DECLARE"].contains(&self.word(0).as_str()) {
            // Loops are not followed; the statements in them are still read one by one.
            let tokens = self.until(&["LOOP", "BEGIN"]);
            self.at += 1;
            return Step::Unread(joined(&tokens));
        }
        if self.take("NULL") || self.take("PERFORM") {
            let tokens = self.statement();
            return if tokens.is_empty() {
                Step::Let(String::new(), null())
            } else {
                ran(&format!("SELECT {}", joined(&tokens)))
            };
        }
        let tokens = self.statement();
        if let [Token::Word(name), Token::Assignment | Token::Eq, rest @ ..] = tokens.as_slice() {
            let text = joined(rest);
            return parse(&text).map_or(Step::Unread(text), |e| Step::Let(name.value.to_lowercase(), e));
        }
        asked(&tokens)
    }

    /// A statement, or `EXECUTE` and the text of one.
    fn statement_or_made_up(&mut self) -> Step {
        if !self.take("EXECUTE") {
            return asked(&self.statement());
        }
        let text = self.until(&["USING", "INTO"]);
        self.statement();
        match (text.as_slice(), parse(&joined(&text))) {
            ([Token::SingleQuotedString(statement)], _) => ran(statement),
            (_, Some(expression)) => Step::Dynamic(expression),
            (_, None) => Step::Unread(joined(&text)),
        }
    }

    fn decision(&mut self) -> Step {
        let when = joined(&self.until(&["THEN"]));
        self.take("THEN");
        let then = self.block();
        let otherwise = if self.take("ELSIF") || self.take("ELSEIF") {
            vec![self.decision()]
        } else {
            let steps = if self.take("ELSE") { self.block() } else { Vec::new() };
            self.take("END");
            self.statement();
            steps
        };
        match parse(&when) {
            Some(when) => Step::If(when, then, otherwise),
            None => Step::Unread(when),
        }
    }
}

/// A statement, with or without `INTO`.
fn asked(tokens: &[Token]) -> Step {
    let is = |token: &Token, word: &str| matches!(token, Token::Word(w) if w.value.eq_ignore_ascii_case(word));
    let first_is_insert = tokens.first().is_some_and(|token| is(token, "INSERT"));
    let mut depth = 0i32;
    let into = tokens.iter().enumerate().position(|(at, token)| {
        depth += match token {
            Token::LParen => 1,
            Token::RParen => -1,
            _ => 0,
        };
        // `INSERT INTO` and a common table expression's are none of ours.
        depth == 0 && is(token, "INTO") && !(at > 0 && is(&tokens[at - 1], "INSERT")) && !(first_is_insert && at == 1)
    });
    let Some(into) = into else { return ran(&joined(tokens)) };
    let (mut names, mut end) = (Vec::new(), into + 1);
    while let Some(token) = tokens.get(end) {
        match token {
            Token::Word(word) if word.value.eq_ignore_ascii_case("strict") => {}
            Token::Word(word) if !tokens.get(end - 1).is_some_and(|before| matches!(before, Token::Word(w) if w.value.to_lowercase() == *names.last().unwrap_or(&String::new()))) => {
                names.push(word.value.to_lowercase());
            }
            Token::Comma => {}
            _ => break,
        }
        end += 1;
    }
    let rest: Vec<Token> = tokens[..into].iter().chain(&tokens[end..]).cloned().collect();
    let text = joined(&rest);
    match parse_query(&text) {
        Some(query) => Step::Into(names, Box::new(query)),
        None => ran(&text),
    }
}

fn ran(text: &str) -> Step {
    match Parser::parse_sql(&PostgreSqlDialect {}, text).ok().and_then(|mut found| found.pop()) {
        Some(statement) => Step::Run(Box::new(statement)),
        None => Step::Unread(text.into()),
    }
}

fn null() -> Expr {
    Expr::Value(sqlparser::ast::Value::Null.into())
}

fn joined(tokens: &[Token]) -> String {
    tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl<'a> Evaluator<'a> {
    pub(super) fn body(&self, function: &Function) -> Option<Rc<Body>> {
        let mut known = self.bodies.borrow_mut();
        known.entry(function.oid).or_insert_with(|| Body::of(function).map(Rc::new)).clone()
    }

    /// What `function` answers.
    pub(super) fn answer(&self, function: &Function, arguments: Vec<Value>) -> Value {
        if function.strict && arguments.contains(&Value::Null) {
            return Value::Null;
        }
        let label = format!("{}.{}()", function.schema, function.name);
        let carried = || {
            let known = self.bound.get() == super::Bound::Tenant && self.tenancy.carries(&label);
            if known { Value::Tenant(super::Whose::Own) } else { Value::unread(label.clone()) }
        };
        let Some(body) = self.body(function) else { return carried() };
        let mut scope = Scope::default();
        for (at, argument) in arguments.into_iter().enumerate() {
            let name = function.argument_names.get(at).filter(|name| !name.is_empty());
            scope.variables.extend(name.map(|name| (name.clone(), argument.clone())));
            scope.variables.insert(format!("${}", at + 1), argument);
        }
        let evaluate = || match body.as_ref() {
            Body::Return(expression) => self.value(expression, &scope),
            Body::Sql(statements) => match statements.last() {
                Some(Statement::Query(query)) => self.scalar(query, &scope),
                _ => Value::unread(label.clone()),
            },
            Body::Steps(steps) => self.stepped(steps, scope.clone()),
        };
        let value = if function.definer { self.as_role(function.owner, evaluate) } else { evaluate() };
        match value {
            Value::Unknown(_) | Value::Column { .. } if self.tenancy.carries(&label) => carried(),
            other => other,
        }
    }

    fn stepped(&self, steps: &[Step], mut scope: Scope<'a>) -> Value {
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Let(name, expression) => {
                    let value = self.value(expression, &scope);
                    scope.variables.insert(name.clone(), value);
                }
                Step::Into(names, query) => {
                    let value = self.scalar(query, &scope);
                    for name in names {
                        let value = if names.len() == 1 { value.clone() } else { Value::unread(format!("`{name}`")) };
                        scope.variables.insert(name.clone(), value);
                    }
                }
                Step::If(when, then, otherwise) => {
                    let when = self.truth(when, &scope);
                    let rest = &steps[at + 1..];
                    let branch = |branch: &[Step]| {
                        let all: Vec<Step> = branch.iter().chain(rest).cloned().collect();
                        self.stepped(&all, scope.clone())
                    };
                    return chosen(&when, branch(then), branch(otherwise));
                }
                Step::Return(Some(expression)) => return self.value(expression, &scope),
                Step::Return(None) => return Value::Null,
                Step::Raise => return Value::Error,
                Step::Run(_) => {}
                Step::Dynamic(_) => return Value::unread("EXECUTE"),
                Step::Unread(what) => return Value::unread(format!("`{what}`")),
            }
        }
        Value::Null
    }
}
