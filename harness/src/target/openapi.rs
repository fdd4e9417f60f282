//! Reads an OpenAPI document, 3.1 or 3.0, into operations. oas3 reads and resolves it; here references inside schemas
//! are inlined, so that the plan needs no document. What a document leaves open costs what it is about, not the run.

use std::collections::BTreeSet;

use oas3::spec::{MediaType, ParameterIn};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::operation::{Body, Operation, Parameter, Place};

/// Schemas deeper than this, or of more parts, are cut to what nothing fits: then it is left out.
const DEPTH_MAX: usize = 24;
const PARTS_MAX: u32 = 20_000;

/// The operations of `document`, in its order.
///
/// # Errors
/// Not JSON, not OpenAPI 3.1 or 3.0, or no operation at all.
pub fn operations(document: &str, origin: &str) -> Result<Vec<Operation>> {
    let wrong = |why: String| {
        Error::Usage(format!(
            "the OpenAPI document {origin} cannot be used: {why}. Give an OpenAPI 3.1 or 3.0 document as JSON"
        ))
    };
    let mut raw: Value = serde_json::from_str(document).map_err(|e| wrong(format!("it is not JSON ({e})")))?;
    let version = raw.get("openapi").and_then(Value::as_str).unwrap_or("missing");
    match version.get(..3) {
        Some("3.1") => {}
        Some("3.0") => {
            upgrade(&mut raw);
            raw["openapi"] = "3.1.0".into();
        }
        _ => return Err(wrong(format!("its version is {version}"))),
    }
    let spec = oas3::from_json(raw.to_string()).map_err(|e| wrong(e.to_string()))?;
    let mut all = Vec::new();
    for (path, method, operation) in spec.operations() {
        let id = operation.operation_id.clone().unwrap_or_else(|| format!("{method} {path}"));
        let shared = spec.paths.iter().flatten().find(|(p, _)| **p == path);
        let shared = shared.map(|(_, item)| item.parameters.clone()).unwrap_or_default();
        let mut parameters: Vec<Parameter> = Vec::new();
        for parameter in shared.iter().chain(&operation.parameters) {
            let Ok(parameter) = parameter.resolve(&spec) else { continue };
            let schema = match &parameter.schema {
                Some(schema) => inlined(&serde_json::to_value(schema).unwrap_or(Value::Bool(true)), &raw),
                None => Value::Object(Map::new()),
            };
            let place = place(&parameter.location);
            parameters.retain(|p| p.name != parameter.name || p.place != place);
            parameters.push(Parameter {
                name: parameter.name,
                place,
                required: parameter.required.unwrap_or(place == Place::Path),
                schema,
            });
        }
        for name in path.split('{').skip(1).filter_map(|part| part.split('}').next()) {
            if !parameters.iter().any(|p| p.place == Place::Path && p.name == name) {
                let schema = Value::Object(Map::new());
                parameters.push(Parameter { name: name.into(), place: Place::Path, required: true, schema });
            }
        }
        let item = raw.pointer("/paths").and_then(|p| p.get(&path)?.get(method.as_str().to_lowercase()));
        let body = match operation.request_body.as_ref().map(|body| body.resolve(&spec)) {
            Some(Ok(body)) => first_body(body.content, &raw),
            Some(Err(_)) => item.and_then(|item| bare_schema(item.get("requestBody")?, &raw)),
            None => None,
        };
        let answers = operation.responses(&spec);
        let answer = answers.into_iter().find(|(status, _)| status.starts_with('2'));
        let answer = answer.and_then(|(_, answer)| first_body(answer.content, &raw)).or_else(|| {
            let mut answers = item?.get("responses")?.as_object()?.iter();
            bare_schema(answers.find(|(status, _)| status.starts_with('2'))?.1, &raw)
        });
        let own = item.and_then(|item| item.get("security")).or_else(|| raw.get("security"));
        // A document that speaks of no security at all does not mean that there is none.
        let silent = raw.pointer("/components/securitySchemes").is_none();
        let secured = silent
            || own.and_then(Value::as_array).is_some_and(|schemes| {
                !schemes.is_empty() && schemes.iter().all(|scheme| scheme.as_object().is_some_and(|s| !s.is_empty()))
            });
        all.push(Operation { id, method: method.to_string().to_uppercase(), path, parameters, body, answer, secured });
    }
    if all.is_empty() {
        return Err(wrong("it has no operation".into()));
    }
    Ok(all)
}

/// The first of the media types that a body comes in.
fn first_body(content: impl IntoIterator<Item = (String, MediaType)>, document: &Value) -> Option<Body> {
    content.into_iter().next().map(|(content_type, media)| Body {
        content_type,
        schema: media.schema.map_or(Value::Bool(true), |schema| {
            inlined(&serde_json::to_value(&schema).unwrap_or(Value::Bool(true)), document)
        }),
    })
}

/// A body that refers to a schema where a body was due, as some documents have it: JSON of that schema is meant.
fn bare_schema(part: &Value, document: &Value) -> Option<Body> {
    let reference = part.get("$ref").and_then(Value::as_str)?;
    let schema = named(reference, document).filter(|found| found.is_object() && found.get("content").is_none())?;
    let schema = reference.contains("/schemas/").then(|| inlined(schema, document))?;
    Some(Body { content_type: "application/json".into(), schema })
}

fn place(location: &ParameterIn) -> Place {
    match location {
        ParameterIn::Path => Place::Path,
        ParameterIn::Query => Place::Query,
        ParameterIn::Header => Place::Header,
        ParameterIn::Cookie => Place::Cookie,
    }
}

/// What the document refers to and does not hold: what is about it is asked for as well as it can be.
pub fn gaps(document: &str) -> Vec<String> {
    fn walk(part: &Value, document: &Value, found: &mut BTreeSet<String>) {
        if let Some(reference) = part.get("$ref").and_then(Value::as_str)
            && named(reference, document).is_none()
        {
            found.insert(reference.into());
        }
        match part {
            Value::Object(fields) => fields.values().for_each(|field| walk(field, document, found)),
            Value::Array(items) => items.iter().for_each(|item| walk(item, document, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    if let Ok(document) = serde_json::from_str(document) {
        walk(&document, &document, &mut found);
    }
    found.into_iter().collect()
}

fn named<'d>(reference: &str, document: &'d Value) -> Option<&'d Value> {
    document.pointer(reference.strip_prefix('#')?)
}

/// Schemas of 3.0 as 3.1 has them (OpenAPI 3.1.0, appendix A): what may be null, and bounds that exclude.
fn upgrade(part: &mut Value) {
    match part {
        Value::Object(fields) => {
            if fields.get("nullable") == Some(&Value::Bool(true))
                && let Some(kind) = fields.get("type").filter(|kind| kind.is_string()).cloned()
            {
                fields.insert("type".into(), Value::Array(vec![kind, "null".into()]));
            }
            if fields.get("nullable").is_some_and(Value::is_boolean) {
                fields.remove("nullable");
            }
            for (excludes, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
                if fields.get(excludes).is_some_and(Value::is_boolean) {
                    let excluded = fields.remove(excludes) == Some(Value::Bool(true));
                    if let Some(value) = fields.get(bound).filter(|_| excluded).cloned() {
                        fields.remove(bound);
                        fields.insert(excludes.into(), value);
                    }
                }
            }
            fields.values_mut().for_each(upgrade);
        }
        Value::Array(items) => items.iter_mut().for_each(upgrade),
        _ => {}
    }
}

/// `schema` with local references replaced by what they name.
fn inlined(schema: &Value, document: &Value) -> Value {
    Inliner { document, open: Vec::new(), parts: 0 }.inline(schema)
}

struct Inliner<'d> {
    document: &'d Value,
    /// References that are being replaced: one of them again is a circle.
    open: Vec<String>,
    parts: u32,
}

impl Inliner<'_> {
    fn inline(&mut self, schema: &Value) -> Value {
        self.parts += 1;
        if self.open.len() > DEPTH_MAX || self.parts > PARTS_MAX {
            return Value::Bool(false);
        }
        match schema {
            Value::Object(map) => {
                let reference = map.get("$ref").and_then(Value::as_str);
                let Some((reference, found)) = reference.and_then(|r| Some((r, named(r, self.document)?))) else {
                    return Value::Object(map.iter().map(|(k, v)| (k.clone(), self.inline(v))).collect());
                };
                if self.open.iter().any(|open| open == reference) {
                    return Value::Bool(false);
                }
                self.open.push(reference.into());
                let found = self.inline(found);
                self.open.pop();
                found
            }
            Value::Array(items) => items.iter().map(|item| self.inline(item)).collect(),
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: &Value) -> Vec<Operation> {
        operations(&document.to_string(), "a test's").unwrap_or_else(|e| panic!("{e}"))
    }

    fn with(version: &str, schemas: Value, operation: Value) -> Value {
        json!({
            "openapi": version, "info": { "title": "T", "version": "1" }, "components": { "schemas": schemas },
            "paths": { "/things/{id}": { "put": operation } }
        })
    }

    fn body(schema: Value) -> Value {
        json!({ "operationId": "put", "requestBody": { "content": { "application/json": { "schema": schema } } }, "responses": {} })
    }

    #[test]
    fn a_document_of_3_0_means_the_same() {
        let schema = json!({ "type": "object", "properties": {
            "name": { "type": "string", "nullable": true },
            "count": { "type": "integer", "minimum": 3, "exclusiveMinimum": true }
        } });
        let read = read(&with("3.0.3", json!({}), body(schema)));
        let properties = &read[0].body.as_ref().expect("a body").schema["properties"];
        assert_eq!(properties["name"]["type"], json!(["string", "null"]));
        assert_eq!(
            (&properties["count"]["exclusiveMinimum"], &properties["count"]["minimum"]),
            (&json!(3), &Value::Null)
        );
        let old = operations(r#"{"swagger": "2.0"}"#, "old.json").expect_err("too old").to_string();
        assert!(old.contains("old.json") && old.contains("3.1 or 3.0"), "{old}");
    }

    #[test]
    fn schemas_that_go_round_in_circles_end() {
        let mut schemas = json!({ "Node": { "type": "object", "properties": {
            "name": { "type": "string" },
            "parent": { "$ref": "#/components/schemas/Node" },
            "children": { "type": "array", "items": { "$ref": "#/components/schemas/Node" } }
        } }, "Self": { "$ref": "#/components/schemas/Self" } });
        // Twelve that each name all the others: a tree of them would have no end in practice.
        for index in 0..12 {
            let others =
                (0..12).map(|other| (format!("p{other}"), json!({ "$ref": format!("#/components/schemas/X{other}") })));
            let properties: Map<String, Value> = others.collect();
            schemas[format!("X{index}")] = json!({ "type": "object", "properties": properties });
        }
        for (name, whole) in [("Node", true), ("Self", false), ("X0", true)] {
            let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
            let read = read(&with("3.1.0", schemas.clone(), body(schema)));
            let schema = &read[0].body.as_ref().expect("a body").schema;
            assert_eq!(schema.is_object(), whole, "{name}: {schema}");
            assert!(schema.to_string().len() < 4 << 20, "{name}");
        }
        let read = read(&with("3.1.0", schemas, body(json!({ "$ref": "#/components/schemas/Node" }))));
        let schema = &read[0].body.as_ref().expect("a body").schema["properties"];
        assert_eq!((&schema["name"]["type"], &schema["parent"]), (&json!("string"), &json!(false)));
    }

    #[test]
    fn what_a_document_does_not_hold_costs_no_more_than_what_it_is_about() {
        let operation = json!({
            "operationId": "put", "responses": {},
            "parameters": [{ "$ref": "elsewhere.json#/parameters/Trace" }, { "$ref": "#/components/parameters/None" }],
            "requestBody": { "content": { "application/json": { "schema": { "$ref": "https://example.org/s.json" } } } }
        });
        let document = with("3.1.0", json!({}), operation);
        let read = read(&document);
        // The path's own parameter is not in the document, and is there all the same.
        let names: Vec<&str> = read[0].parameters.iter().map(|p| p.name.as_str()).collect();
        assert_eq!((names.as_slice(), read[0].body.is_some()), (&["id"][..], true));
        let gaps = gaps(&document.to_string());
        assert_eq!(
            gaps,
            ["#/components/parameters/None", "elsewhere.json#/parameters/Trace", "https://example.org/s.json"]
        );
    }

    #[test]
    fn a_body_that_is_a_schema_at_once_is_understood() {
        let schema = json!({ "$ref": "#/components/schemas/Thing" });
        let operation = json!({ "operationId": "put", "requestBody": schema, "responses": { "200": schema } });
        let things = json!({ "Thing": { "type": "object", "properties": { "name": { "$ref": "#/components/schemas/Name" } } },
            "Name": { "type": "string" } });
        for version in ["3.0.3", "3.1.0"] {
            let read = read(&with(version, things.clone(), operation.clone()));
            for body in [&read[0].body, &read[0].answer] {
                let body = body.as_ref().expect("a body");
                assert_eq!(body.content_type, "application/json");
                assert_eq!(body.schema["properties"]["name"]["type"], json!("string"), "{version}");
            }
        }
    }

    #[test]
    fn what_is_no_document_is_said_to_be_none() {
        for text in ["", "openapi: 3.1.0", "[]", "{}", r#"{"openapi": 3}"#, r#"{"openapi": "3.1.0"}"#] {
            let error = operations(text, "its.json").expect_err(text).to_string();
            assert!(error.contains("its.json"), "{text}: {error}");
        }
    }
}
