//! What is made of values: casts, comparisons, choices, and functions that look at nothing but their arguments.

use std::collections::BTreeSet;

use sqlparser::ast::{BinaryOperator, DataType};

use super::{Cause, Truth, Value, Whose};

pub(super) fn unread(what: &str) -> BTreeSet<Cause> {
    BTreeSet::from([Cause::Unread(what.into())])
}

/// What a function that changes nothing but its arguments makes of them: of the context alone still the context.
pub(super) fn derived(what: &str, arguments: Vec<Value>) -> Value {
    if arguments.contains(&Value::Error) {
        return Value::Error;
    }
    if arguments.contains(&Value::Null) {
        return Value::Null;
    }
    let mut telling: Vec<&Value> = arguments.iter().filter(|argument| !matches!(argument, Value::Text(_))).collect();
    telling.dedup();
    match telling.as_slice() {
        // What is made of another tenant's id may be the same as what is made of one's own.
        [only @ (Value::Context(_) | Value::Tenant(Whose::Own))] => (*only).clone(),
        [] if !arguments.is_empty() && arguments.iter().all(|argument| *argument == Value::Text(String::new())) => {
            Value::Text(String::new())
        }
        _ => {
            let causes: BTreeSet<Cause> = arguments.iter().flat_map(Value::causes).collect();
            Value::Unknown(if causes.is_empty() { unread(what) } else { causes })
        }
    }
}

/// What nothing but text fits does not take the empty one.
pub(super) fn cast(value: Value, to: &DataType) -> Value {
    let takes_any = matches!(
        to,
        DataType::Text
            | DataType::Varchar(_)
            | DataType::CharVarying(_)
            | DataType::CharacterVarying(_)
            | DataType::Array(_)
    ) || matches!(to, DataType::Custom(name, _) if name.to_string().to_lowercase().ends_with("citext"));
    match value {
        Value::Text(text) if text.is_empty() && !takes_any => Value::Error,
        Value::Text(_) if matches!(to, DataType::Boolean | DataType::Bool) => Value::Truth(value.truth()),
        Value::Text(text) if matches!(to, DataType::Array(_)) => {
            let inner = text.trim_start_matches('{').trim_end_matches('}');
            Value::List(
                inner
                    .split(',')
                    .filter(|one| !one.is_empty())
                    .map(|one| Value::Text(one.trim_matches('"').into()))
                    .collect(),
            )
        }
        other => other,
    }
}

pub(super) fn ordered(a: &Value, op: &BinaryOperator, b: &Value) -> Option<bool> {
    let (Value::Text(a), Value::Text(b)) = (a, b) else { return None };
    let (a, b): (f64, f64) = (a.parse().ok()?, b.parse().ok()?);
    Some(match op {
        BinaryOperator::Lt => a < b,
        BinaryOperator::LtEq => a <= b,
        BinaryOperator::Gt => a > b,
        _ => a >= b,
    })
}

pub(super) fn coalesced(value: Value, otherwise: Value) -> Value {
    match value {
        Value::Null | Value::Tenant(Whose::Nobody) => otherwise,
        // What the context says is there, in the situation in which it says something.
        Value::Context(_) => value,
        Value::Truth(truth) if truth.may_be_null() => {
            Value::Truth(Truth::chosen(&truth.is(true, true, false), &truth.is(true, false, false), &otherwise.truth()))
        }
        Value::Column { not_null: false, .. } | Value::Unknown(_) => {
            Value::Unknown(value.causes().into_iter().chain(otherwise.causes()).collect())
        }
        other => other,
    }
}

/// One of two values, as a condition has it.
pub(super) fn chosen(when: &Truth, then: Value, otherwise: Value) -> Value {
    if when.is_true() || then == otherwise {
        return then;
    }
    if !when.may_be_true() && !when.may_fail() {
        return otherwise;
    }
    match (&then, &otherwise) {
        (Value::Truth(_), Value::Truth(_) | Value::Null) | (Value::Null, Value::Truth(_)) => {
            Value::Truth(Truth::chosen(when, &then.truth(), &otherwise.truth()))
        }
        _ if when.is_error() => Value::Error,
        _ => Value::Unknown(when.because.iter().cloned().chain(then.causes()).chain(otherwise.causes()).collect()),
    }
}
