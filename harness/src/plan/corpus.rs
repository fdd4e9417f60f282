//! Which cases are worth keeping: those that reached something first. Pure; files are the campaign's.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Case;
use crate::history::Observation;

/// Version of the file's shape.
pub const SCHEMA_VERSION: u32 = 1;
/// Cases kept at most: they are run first, and that must stay cheap.
const KEPT_MAX: usize = 256;

/// Cases that taught something, in the order in which they did.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// Version of the file's shape.
    pub schema_version: u32,
    /// The cases.
    pub cases: Vec<Case>,
}

impl Default for Corpus {
    fn default() -> Self {
        Self { schema_version: SCHEMA_VERSION, cases: Vec::new() }
    }
}

/// What an observation reached: operation, relation, status, and the shape of the answer.
type Reached = (String, &'static str, u16, Option<u64>);

/// What was reached so far, and by which cases first.
#[derive(Default)]
pub struct Coverage {
    reached: BTreeSet<Reached>,
    kept: Vec<Case>,
}

impl Coverage {
    /// Notes what a step came to. Nothing is kept of one that belongs to no case.
    pub fn observe(&mut self, observation: &Observation) {
        let (Some(answer), Some(case)) = (observation.answered(), &observation.step.case) else { return };
        let cell = &observation.step.cell;
        let new = self.reached.insert((cell.operation.clone(), cell.relation.word(), answer.status, answer.shape));
        if new && self.kept.len() < KEPT_MAX && !self.kept.contains(case) {
            self.kept.push(case.clone());
        }
    }

    /// The cases to keep.
    pub fn corpus(self) -> Corpus {
        Corpus { cases: self.kept, ..Corpus::default() }
    }
}

/// A digest of a JSON value's shape: keys and kinds, of a list its first item. Values do not count.
pub fn shape(value: &serde_json::Value) -> u64 {
    use std::hash::Hasher;
    let mut hasher = siphasher::sip::SipHasher13::new();
    shaped(value, &mut hasher);
    hasher.finish()
}

fn shaped(value: &serde_json::Value, hasher: &mut impl std::hash::Hasher) {
    use serde_json::Value;
    match value {
        Value::Null => hasher.write_u8(0),
        Value::Bool(_) => hasher.write_u8(1),
        Value::Number(_) => hasher.write_u8(2),
        Value::String(_) => hasher.write_u8(3),
        Value::Array(items) => {
            hasher.write_u8(4);
            items.iter().take(1).for_each(|item| shaped(item, hasher));
        }
        Value::Object(fields) => {
            hasher.write_u8(5);
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            for name in names {
                hasher.write(name.as_bytes());
                shaped(&fields[name], hasher);
            }
            hasher.write_u8(6);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::shape;

    #[test]
    fn values_and_the_order_of_keys_do_not_count_and_keys_and_kinds_do() {
        let one = shape(&json!({ "a": 1, "b": [{ "c": "x" }] }));
        assert_eq!(one, shape(&json!({ "b": [{ "c": "y" }, { "c": "z" }], "a": 2 })));
        for other in [json!({ "a": 1, "b": [] }), json!({ "a": "1", "b": [{ "c": "x" }] }), json!({ "a": 1 })] {
            assert_ne!(one, shape(&other), "{other}");
        }
    }
}
