//! Parameters that may well take a tenant, although nothing but the value would say so: whoever reads `?scope=` finds out
//! by what comes of it.

use serde_json::Value;

use super::Planner;
use crate::canary::Owner;
use crate::operation::{Operation, Place};
use crate::target::file::Access;
use crate::tenant::Planted;

/// Headers that a client's library sets, or that a document cannot speak of (OpenAPI 3.1.0, 4.8.12.1).
const CLIENTS_OWN: [&str; 6] = ["accept", "authorization", "content-length", "content-type", "cookie", "host"];

impl Planner {
    /// The places of an operation's parameters that a tenant's id fits into, and that the target file has no other use for.
    /// Of what writes, only those that ask for an id: a text may well be kept as what it is, and is then the writer's own.
    pub(super) fn takers(&self, operation: &Operation, access: &Access) -> Vec<usize> {
        let numbers = matches!(self.holdings.tenant(Owner::new(0)), Planted::Bigint(_) | Planted::Learnt(_));
        let asks = operation.is_read() || (access.list.is_some() && access.creates.is_none());
        let keeps_nothing = asks || operation.method == "DELETE";
        let fits = |schema: &Value| {
            let fit = fit(schema);
            fit.id || (fit.number && numbers) || (fit.text && keeps_nothing)
        };
        let list = access.list.iter().flat_map(|list| {
            let turning = [&list.cursor, &list.offset, &list.page, &list.limit].into_iter().flatten();
            turning.chain(list.count.keys())
        });
        let used: Vec<&String> = list.chain(access.params.keys()).collect();
        let places = operation.parameters.iter().enumerate().filter(|(_, parameter)| {
            let place = match parameter.place {
                Place::Path => false,
                Place::Header => !self.is_spoken_for(&parameter.name),
                Place::Query | Place::Cookie => true,
            };
            place && !used.contains(&&parameter.name) && fits(&parameter.schema)
        });
        places.map(|(place, _)| place).collect()
    }

    /// Whether a header is the client's own, or carries a credential.
    fn is_spoken_for(&self, header: &str) -> bool {
        let is = |name: &str| name.eq_ignore_ascii_case(header);
        let mut sent = self.plan.target.credential.values().flat_map(|credential| credential.send().places());
        CLIENTS_OWN.into_iter().any(is) || sent.any(|place| place.split(':').next().is_some_and(is))
    }
}

/// What a parameter may take of which a tenant's id may be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fit {
    id: bool,
    number: bool,
    text: bool,
}

/// Text of these kinds is no id.
const NO_IDS: [&str; 14] = [
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "idn-email",
    "uri",
    "uri-reference",
    "ipv4",
    "ipv6",
    "byte",
    "binary",
    "regex",
    "json-pointer",
];

fn fit(schema: &Value) -> Fit {
    let either = |fits: &mut dyn Iterator<Item = Fit>| {
        fits.fold(Fit::default(), |all, one| Fit {
            id: all.id || one.id,
            number: all.number || one.number,
            text: all.text || one.text,
        })
    };
    if ["enum", "const"].iter().any(|word| schema.get(word).is_some()) {
        return Fit::default();
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        if let Some(parts) = schema.get(word).and_then(Value::as_array) {
            return either(&mut parts.iter().map(fit));
        }
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        Some(one) => one.as_str().into_iter().collect(),
        None => vec!["string"],
    };
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    either(&mut types.into_iter().map(|kind| match kind {
        "string" if format == "uuid" => Fit { id: true, ..Fit::default() },
        "string" => Fit { text: !NO_IDS.contains(&format), ..Fit::default() },
        "integer" => Fit { number: true, ..Fit::default() },
        "array" => schema.get("items").map(fit).unwrap_or_default(),
        _ => Fit::default(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_id_fits_into_is_read_from_the_schema() {
        let (id, number, text) = (|fit: Fit| fit.id, |fit: Fit| fit.number, |fit: Fit| fit.text);
        for (schema, takes) in [
            (json!({ "type": "string", "format": "uuid" }), id as fn(Fit) -> bool),
            (json!({ "type": "array", "items": { "type": "string", "format": "uuid" } }), id),
            (json!({ "anyOf": [{ "type": "null" }, { "type": "integer" }] }), number),
            (json!({ "type": ["string", "null"], "maxLength": 80 }), text),
            (json!({}), text),
        ] {
            assert!(takes(fit(&schema)), "{schema}");
        }
        for schema in [
            json!({ "type": "string", "format": "date-time" }),
            json!({ "type": "string", "enum": ["a"] }),
            json!({ "type": "boolean" }),
            json!({ "type": ["null", "object"] }),
            json!({ "type": "array" }),
        ] {
            assert_eq!(fit(&schema), Fit::default(), "{schema}");
        }
    }
}
