//! The reference of the API, made from the OpenAPI document itself: no script, nothing from elsewhere.

use std::sync::LazyLock;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;

use super::answer::STYLE;
use crate::http;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "docs.html")]
struct DocsPage {
    style: &'static str,
    title: String,
    version: String,
    description: String,
    operations: Vec<Operation>,
    schemas: Vec<(String, String, Vec<Field>)>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    /// Whether it wants a credential.
    secured: bool,
    parameters: Vec<Field>,
    /// Media type and shape of its body.
    body: Option<(String, Kind)>,
    answers: Vec<(String, String, Option<Kind>)>,
}

/// A parameter, or a property of a schema.
struct Field {
    name: String,
    place: String,
    required: bool,
    kind: Kind,
    description: String,
}

/// What a value looks like, and the schema that says more.
struct Kind {
    text: String,
    schema: Option<String>,
}

/// Rendered once: the document never changes while the service runs.
static PAGE: LazyLock<Option<String>> = LazyLock::new(|| {
    let document = serde_json::to_value(http::routes().1).ok()?;
    page(&document).render().ok()
});

/// Shows the reference.
pub(super) async fn docs() -> Response {
    match PAGE.as_ref() {
        Some(text) => Html(text.as_str()).into_response(),
        None => Problem::Internal.into_response(),
    }
}

fn page(document: &Value) -> DocsPage {
    let items = document["paths"].as_object().into_iter().flatten();
    let operations = items.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(|(method, operation)| self::operation(method, path, operation))
    });
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    let schemas = schemas.map(|(name, schema)| (name.clone(), text(&schema["description"]), fields(schema)));
    DocsPage {
        style: STYLE,
        title: text(&document["info"]["title"]),
        version: text(&document["info"]["version"]),
        description: text(&document["info"]["description"]),
        operations: operations.collect(),
        schemas: schemas.collect(),
    }
}

fn operation(method: &str, path: &str, operation: &Value) -> Operation {
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| Field {
        name: text(&parameter["name"]),
        place: text(&parameter["in"]),
        required: parameter["required"] == true,
        kind: kind(&parameter["schema"]),
        description: text(&parameter["description"]),
    });
    let answers =
        operation["responses"].as_object().into_iter().flatten().map(|(status, answer)| {
            (status.clone(), text(&answer["description"]), content(answer).map(|(_, kind)| kind))
        });
    Operation {
        id: text(&operation["operationId"]),
        method: method.to_uppercase(),
        path: path.into(),
        summary: text(&operation["summary"]),
        secured: operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty()),
        parameters: parameters.collect(),
        body: content(&operation["requestBody"]),
        answers: answers.collect(),
    }
}

fn content(of: &Value) -> Option<(String, Kind)> {
    let (media, described) = of["content"].as_object()?.iter().next()?;
    Some((media.clone(), kind(&described["schema"])))
}

fn fields(schema: &Value) -> Vec<Field> {
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    let own = schema["properties"].as_object().into_iter().flatten().map(|(name, property)| Field {
        name: name.clone(),
        place: String::new(),
        required: required(name),
        kind: kind(property),
        description: text(&property["description"]),
    });
    let parts = schema["allOf"].as_array().into_iter().flatten().flat_map(fields);
    own.chain(parts).collect()
}

fn kind(schema: &Value) -> Kind {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return Kind { text: name.into(), schema: Some(name.into()) };
    }
    if schema["items"].is_object() {
        let items = kind(&schema["items"]);
        return Kind { text: format!("list of {}", items.text), schema: items.schema };
    }
    let choices = ["oneOf", "anyOf", "allOf"].into_iter().find_map(|word| schema[word].as_array());
    if let Some(choices) = choices {
        let kinds: Vec<Kind> = choices.iter().map(kind).collect();
        let text = kinds.iter().map(|kind| kind.text.as_str()).collect::<Vec<_>>().join(" or ");
        return Kind { text, schema: kinds.into_iter().find_map(|kind| kind.schema) };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    };
    let mut words = types.join(" or ");
    if let Some(values) = schema["enum"].as_array() {
        words = values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | ");
    }
    for (bound, said) in
        [("format", ""), ("minimum", "from "), ("maximum", "to "), ("maxLength", "at most "), ("default", "else ")]
    {
        match &schema[bound] {
            Value::String(value) => words.push_str(&format!(", {said}{value}")),
            Value::Number(value) => words.push_str(&format!(", {said}{value}")),
            _ => {}
        }
    }
    Kind { text: if words.is_empty() { "any".into() } else { words }, schema: None }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}
