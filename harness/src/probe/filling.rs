//! What stands in a row that is planted, and the statement that plants it.

use std::collections::BTreeMap;

use super::session::Answer;
use super::subject::{Subject, literal};
use super::value::document_keys;

/// Candidates for each column of a row, the chosen one first.
pub type Choice = BTreeMap<String, Vec<Option<String>>>;

/// True where other values may be taken: what was wrong is a value.
pub fn choosable(answer: &Answer) -> bool {
    let code = answer.error.as_ref().map_or("", |(code, _)| code);
    matches!(code, "23514" | "23505" | "23P01" | "23502") || code.starts_with("22") || code.starts_with("42")
}

/// The next candidate of every column that has more than one.
pub fn turn(choice: &mut Choice) {
    for values in choice.values_mut().filter(|values| values.len() > 1) {
        values.rotate_left(1);
    }
}

/// `base` with `value` at every key that a policy of `subject` reaches for; none where none does.
pub fn document(subject: &Subject, base: &serde_json::Value, value: &str) -> Option<String> {
    let keys: Vec<String> = subject.policies.iter().flat_map(|policy| document_keys(policy)).collect();
    let mut document = base.clone();
    keys.iter().for_each(|key| document[key] = value.into());
    (!keys.is_empty()).then(|| document.to_string())
}

/// `value` as SQL of type `kind`.
pub fn typed(value: Option<&str>, kind: &str) -> String {
    value.map_or_else(|| format!("NULL::{kind}"), |value| format!("{}::{kind}", literal(value)))
}

/// The statement that inserts what is chosen.
pub fn insert(subject: &Subject, choice: &Choice) -> String {
    let given: Vec<(String, String)> = subject
        .columns
        .iter()
        .filter_map(|column| {
            let value = choice.get(&column.name)?.first()?;
            Some((column.sql(), typed(value.as_deref(), &column.kind)))
        })
        .collect();
    let (names, values): (Vec<String>, Vec<String>) = given.into_iter().unzip();
    if names.is_empty() {
        return format!("INSERT INTO {} AS x DEFAULT VALUES", subject.sql());
    }
    format!(
        "INSERT INTO {} AS x ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
        subject.sql(),
        names.join(", "),
        values.join(", ")
    )
}
