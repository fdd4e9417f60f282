//! What the target file says of an operation: what it is about, who may call it, and what its answer holds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cell::Relation;

/// What an operation is about, and who may call it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The document's `operationId`.
    pub id: String,
    /// The application roles that may call it; all others are to be refused.
    #[serde(default)]
    pub allow: Vec<String>,
    /// True when anyone may call it, with or without a credential.
    #[serde(default)]
    pub open: bool,
    /// The planted table whose rows it shows, changes or makes.
    #[serde(default)]
    pub table: Option<String>,
    /// Parameters that hold a planted value: name to `TABLE.COLUMN`, or to `tenant` for the tenant's id.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Query parameters that every request has, as they stand here.
    #[serde(default)]
    pub always: BTreeMap<String, String>,
    /// Query parameters under which it stays open and shows what comes, in place of `always`; for event streams.
    #[serde(default)]
    pub live: Option<BTreeMap<String, String>>,
    /// The credential that it issues, when it issues one.
    #[serde(default)]
    pub issues: Option<Issued>,
    /// The shape of its answer, when it lists rows.
    #[serde(default)]
    pub list: Option<ListShape>,
    /// JSON pointer to the id of what it made.
    #[serde(default)]
    pub creates: Option<String>,
    /// Its body where the document does not say enough; `{password}` as in a credential, `{TABLE.COLUMN}` of the
    /// principal's own row, or of a row that the request is about, `{tenant}` its tenant's id, `{captured:NAME}` from
    /// `prepare`, `{text}`, `{email}` and `{base64}` a fresh canary.
    #[serde(default)]
    pub body: Option<serde_json::Value>,
    /// The body by which it is told to send news of its tenant to an address, as a webhook; as `body`, with `{sink}` where
    /// the address goes: one on loopback, of the run's own.
    #[serde(default)]
    pub sink: Option<serde_json::Value>,
    /// Its body is lines of another operation's body (NDJSON).
    #[serde(default)]
    pub lines_of: Option<String>,
    /// An operation called first, by the same principal, and what is taken from its answer: name to JSON pointer.
    #[serde(default)]
    pub prepare: Option<Prepare>,
    /// Statuses that mean "not now", as where one thing is done at a time: what must succeed is asked again for a while.
    #[serde(default)]
    pub busy: Vec<u16>,
    /// Relations that mean something here; all of them when absent.
    #[serde(default)]
    pub relations: Option<Vec<Relation>>,
}

/// A credential that an operation issues.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// The application role that it proves.
    pub role: String,
    /// JSON pointer to it.
    pub token: String,
}

/// An operation that makes what another one needs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// Its ID.
    pub operation: String,
    /// What to take: name to JSON pointer.
    pub capture: BTreeMap<String, String>,
}

/// Where a list's parts are in its answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListShape {
    /// JSON pointer to the array of rows.
    pub items: String,
    /// JSON pointer to the next cursor, or to an address that has it in its query.
    #[serde(default)]
    pub next: Option<String>,
    /// Query parameter that takes it.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Query parameter that says how many rows to leave out, where a list goes on by that.
    #[serde(default)]
    pub offset: Option<String>,
    /// Query parameter that numbers the page, the first one 1, where a list goes on by that.
    #[serde(default)]
    pub page: Option<String>,
    /// Query parameter that bounds a page.
    #[serde(default)]
    pub limit: Option<String>,
    /// JSON pointer to the total.
    #[serde(default)]
    pub total: Option<String>,
    /// Query parameters that ask for the total.
    #[serde(default)]
    pub count: BTreeMap<String, String>,
    /// True when it shows every row of the tenant without a parameter.
    #[serde(default = "yes")]
    pub complete: bool,
}

fn yes() -> bool {
    true
}
