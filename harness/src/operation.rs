//! One operation of the target: what its OpenAPI document says, with all references resolved.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Operation {
    /// `operationId`, or `METHOD path` where the document has none.
    pub id: String,
    /// Upper case.
    pub method: String,
    /// With `{parameters}`.
    pub path: String,
    /// Path, query and header parameters.
    pub parameters: Vec<Parameter>,
    /// The body it takes.
    pub body: Option<Body>,
    /// What it answers on success.
    #[serde(default)]
    pub answer: Option<Body>,
    /// True when its document asks for a credential.
    pub secured: bool,
}

/// A parameter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Where it goes.
    pub place: Place,
    /// True when a request without it is wrong.
    pub required: bool,
    /// Its JSON Schema.
    pub schema: Value,
}

/// Where a parameter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Into the path.
    Path,
    /// Into the query.
    Query,
    /// Into a header.
    Header,
    /// Into a cookie.
    Cookie,
}

/// The body of a request or an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Body {
    /// Its media type.
    pub content_type: String,
    /// Its JSON Schema.
    pub schema: Value,
}

impl Parameter {
    /// True when it takes an instant.
    pub fn is_instant(&self) -> bool {
        self.schema.to_string().contains("\"date-time\"")
    }
}

impl Operation {
    /// The parameters of one place.
    pub fn parameters_in(&self, place: Place) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(move |p| p.place == place)
    }

    /// True when it is meant to change nothing.
    pub fn is_read(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}
