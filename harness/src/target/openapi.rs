//! Reads an OpenAPI 3.1 document into operations. oas3 reads and resolves it; here references inside schemas are
//! inlined, so that the plan needs no document.

use oas3::spec::{MediaType, ObjectOrReference, ParameterIn};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::operation::{Body, Operation, Parameter, Place};

/// Schemas may be recursive; deeper than this they are cut to "anything".
const DEPTH_MAX: u32 = 12;

/// The operations of `document`, in its order.
///
/// # Errors
/// Not JSON, not OpenAPI 3.1, a reference to nothing, or no operation at all.
pub fn operations(document: &str, origin: &str) -> Result<Vec<Operation>> {
    let wrong = |why: String| {
        Error::Usage(format!(
            "the OpenAPI document {origin} cannot be used: {why}. Give an OpenAPI 3.1 document as JSON"
        ))
    };
    let raw: Value = serde_json::from_str(document).map_err(|e| wrong(format!("it is not JSON ({e})")))?;
    let version = raw.get("openapi").and_then(Value::as_str).unwrap_or("missing");
    if !version.starts_with("3.1") {
        return Err(wrong(format!("its version is {version}")));
    }
    let spec = oas3::from_json(document).map_err(|e| wrong(e.to_string()))?;
    let mut all = Vec::new();
    for (path, method, operation) in spec.operations() {
        let id = operation.operation_id.clone().unwrap_or_else(|| format!("{method} {path}"));
        let at = |why: String| wrong(format!("operation {id}: {why}"));
        let shared = spec.paths.iter().flatten().find(|(p, _)| **p == path);
        let shared = shared.map(|(_, item)| item.parameters.clone()).unwrap_or_default();
        let mut parameters: Vec<Parameter> = Vec::new();
        for parameter in shared.iter().chain(&operation.parameters) {
            let parameter = parameter.resolve(&spec).map_err(|e| at(e.to_string()))?;
            let schema = match &parameter.schema {
                Some(schema) => inline(&serde_json::to_value(schema).unwrap_or(Value::Bool(true)), &raw, 0),
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
        let body = match &operation.request_body {
            None => None,
            Some(body) => {
                let body = resolve_body(body, &spec).map_err(at)?;
                first_body(body.content, &raw)
            }
        };
        let answers = operation.responses(&spec);
        let answer = answers.into_iter().find(|(status, _)| status.starts_with('2'));
        let answer = answer.and_then(|(_, answer)| first_body(answer.content, &raw));
        let item = raw.pointer("/paths").and_then(|p| p.get(&path)?.get(method.as_str().to_lowercase()));
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

fn resolve_body(
    body: &ObjectOrReference<oas3::spec::RequestBody>,
    spec: &oas3::Spec,
) -> Result<oas3::spec::RequestBody, String> {
    body.resolve(spec).map_err(|e| e.to_string())
}

/// The first of the media types that a body comes in.
fn first_body(content: impl IntoIterator<Item = (String, MediaType)>, document: &Value) -> Option<Body> {
    content.into_iter().next().map(|(content_type, media)| Body {
        content_type,
        schema: media.schema.map_or(Value::Bool(true), |schema| {
            inline(&serde_json::to_value(&schema).unwrap_or(Value::Bool(true)), document, 0)
        }),
    })
}

fn place(location: &ParameterIn) -> Place {
    match location {
        ParameterIn::Path => Place::Path,
        ParameterIn::Query => Place::Query,
        ParameterIn::Header => Place::Header,
        ParameterIn::Cookie => Place::Cookie,
    }
}

/// `schema` with local references replaced by what they name.
fn inline(schema: &Value, document: &Value, depth: u32) -> Value {
    if depth > DEPTH_MAX {
        return Value::Bool(true);
    }
    match schema {
        Value::Object(map) => {
            let target = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
            if let Some(found) = target.and_then(|pointer| document.pointer(pointer)) {
                return inline(found, document, depth + 1);
            }
            Value::Object(map.iter().map(|(k, v)| (k.clone(), inline(v, document, depth + 1))).collect())
        }
        Value::Array(items) => items.iter().map(|item| inline(item, document, depth + 1)).collect(),
        other => other.clone(),
    }
}
