//! A statement as it is told of: its shape, what it does, and the trace that it belongs to.

use super::act::Act;
use super::binding::Binding;
use super::token::{Token, tokens};

/// Characters of a statement's shape that are kept.
const SHAPE_MAX: usize = 300;

/// A statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// It without its values and comments.
    pub shape: String,
    /// What it does.
    pub acts: Vec<Act>,
    /// The trace that a comment tells of, by the key that W3C gives it.
    pub trace: Option<String>,
}

impl Binding {
    /// The statements of `text`.
    pub fn read(&self, text: &str) -> Vec<Statement> {
        let mut trace = None;
        let all = tokens(text, &mut |comment| trace = traced(comment).or(trace.take()));
        let parts = all.split(|token| *token == Token::Sign(b';')).filter(|part| !part.is_empty());
        let statement = |part: &[Token<'_>]| {
            let mut acts = Vec::new();
            self.acts(part, &mut acts);
            Statement { shape: shape(part), acts, trace: trace.clone() }
        };
        parts.map(statement).collect()
    }
}

/// A statement without its values: how many there are in a list does not tell it from another.
fn shape(part: &[Token<'_>]) -> String {
    let mut out = String::with_capacity(64);
    let mut listed = false;
    for (at, token) in part.iter().enumerate() {
        if out.len() >= SHAPE_MAX {
            out.push('…');
            break;
        }
        let value = matches!(token, Token::Text(_) | Token::Number(_) | Token::Parameter(_));
        let comma = *token == Token::Sign(b',');
        if listed && (value || (comma && part.get(at + 1).is_some_and(is_value))) {
            continue;
        }
        listed = value;
        let tight = comma || matches!(token, Token::Sign(b'.' | b')' | b'(' | b':' | b'[' | b']'));
        let after = out.ends_with(['.', '(', ':', '[']);
        if !out.is_empty() && !tight && !after {
            out.push(' ');
        }
        match token {
            Token::Word(word) => out.push_str(word),
            Token::Name(name) => out.extend(["\"", name, "\""]),
            Token::Sign(sign) => out.push(char::from(*sign)),
            Token::Text(_) | Token::Number(_) | Token::Parameter(_) => out.push('?'),
        }
    }
    out
}

fn is_value(token: &Token<'_>) -> bool {
    matches!(token, Token::Text(_) | Token::Number(_) | Token::Parameter(_))
}

/// The trace that a comment names, as `traceparent='…'`.
fn traced(comment: &str) -> Option<String> {
    let (_, rest) = comment.split_once("traceparent=")?;
    let value = rest.trim_start_matches(['\'', '"']);
    let end = value.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(value.len());
    (end > 0).then(|| value[..end].to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_hold_no_values_and_lists_of_any_length_are_alike() {
        let shape = |text: &str| Binding::default().read(text)[0].shape.clone();
        assert_eq!(
            shape("SELECT a.b FROM t WHERE id IN (1, 2,3) AND n = 'x'"),
            shape("SELECT a.b FROM t WHERE id IN ($1) AND n=$2")
        );
        assert_eq!(shape("SELECT a.b, c FROM t WHERE id = 5"), "SELECT a.b, c FROM t WHERE id = ?");
    }
}
