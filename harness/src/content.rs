//! Plausible documents that a canary is planted in, so that rows look like a service's own: data of `scenarios/content/`.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// The documents that `content:NAME` may name.
pub const NAMES: [&str; 1] = ["audit"];

static AUDIT: LazyLock<Vec<Map<String, Value>>> = LazyLock::new(|| {
    let content: Value = serde_json::from_str(include_str!("../../scenarios/content/audit.json")).unwrap_or_default();
    let events = content["events"].as_array().into_iter().flatten();
    events.filter_map(|event| event["details"].as_object().cloned()).collect()
});

/// The document for `row`, with `marked` in it; none when no such content is known.
pub fn around(name: &str, row: u32, marked: Value) -> Option<Value> {
    let documents = if name == NAMES[0] { &*AUDIT } else { return None };
    let mut document = documents.get(row as usize % documents.len().max(1))?.clone();
    // Where OCSF puts what its schema has no place for.
    document.insert("unmapped".into(), marked);
    Some(Value::Object(document))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_row_gets_a_plausible_document_that_holds_what_is_planted() {
        let rows: Vec<Value> = (0..50).filter_map(|row| around("audit", row, json!({"k": row}))).collect();
        assert_eq!(rows.len(), 50);
        for (row, document) in rows.iter().enumerate() {
            assert_eq!(document["unmapped"]["k"], row);
            assert!(document["category_name"].is_string() && document["severity"].is_string(), "{document}");
        }
        assert_ne!(rows[0]["class_name"], rows[8]["class_name"]);
        assert!(around("nothing", 0, Value::Null).is_none());
    }
}
