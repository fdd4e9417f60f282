//! One step of a plan: who asks for what, and what must come of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canary::Owner;
use crate::cell::Cell;
use crate::principal::Principal;

/// What a capture begins with that takes a header's value; the name follows in lower case.
pub const HEADER: &str = "header:";

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Its cell of the coverage.
    pub cell: Cell,
    /// Who asks.
    pub actor: Principal,
    /// Which tenant's objects are named; none when nobody's are.
    pub subject: Option<Owner>,
    /// By what means the subject is named.
    pub vector: Vector,
    /// The requirement that a violation here counts against.
    pub requirement: String,
    /// What is sent.
    pub request: Request,
    /// What must come of it.
    pub expect: Expect,
    /// What later steps of the sequence take from the answer: name to JSON pointer, or to [`HEADER`] and a header's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub captures: BTreeMap<String, String>,
    /// Follow the list to its end, page by page.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub walk: bool,
    /// The client goes away, whether answered or not, after so much of the time that the exchange before took, in percent:
    /// how long a service takes until it has a connection, and until it gives it back, only it can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandon_after: Option<u8>,
}

/// By what means a step reaches for its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vector {
    /// The request as it is meant.
    Plain,
    /// An object's id in the path.
    Object,
    /// A planted value in a filter.
    Filter,
    /// A cursor made by the subject.
    Cursor,
    /// A tenant id in the query.
    ForgedQuery,
    /// A tenant id in headers.
    ForgedHeader,
    /// A tenant id in the body.
    ForgedBody,
    /// A credential that was altered.
    Credential,
    /// A connection that has just served another.
    HandOver,
    /// Generated parameters.
    Generated,
    /// The same request on what is another's and on what is nobody's, to be answered alike.
    Twin,
}

/// How the actor's credential is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// As issued; nothing for nobody.
    AsIssued,
    /// One character of it changed.
    Altered,
    /// Its last third missing.
    Truncated,
    /// Something that never was a credential.
    Malformed,
    /// A JWT's algorithm replaced by `none` and its signature dropped; other tokens get a stranger's value.
    Unsigned,
}

/// What is sent. `⟦name⟧` stands for a captured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// Upper case.
    pub method: String,
    /// Path with its parameters filled in.
    pub path: String,
    /// Query parameters, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, String)>,
    /// Headers besides the credential.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Media type and body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<(String, String)>,
    /// The credential.
    pub proof: Proof,
}

/// What must come of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Expect {
    /// The answer's kind.
    pub answer: Answer,
    /// Planted rows that it must show: table and row of the subject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shows: Vec<(String, u32)>,
    /// The planted table it lists, and how far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<Listing>,
    /// The planted table it adds a row to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adds_to: Option<(String, u32)>,
    /// True when its success is the control for its cell's operation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
}

/// The answer's kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// 2xx (or 304).
    Success,
    /// 4xx: there is nothing of that kind for this principal.
    Denied,
    /// 401 or 403, or the 404 of one who may not know.
    Refused,
    /// 2xx or 4xx; only what it shows matters.
    #[default]
    Either,
}

/// What a list must show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listing {
    /// The planted table.
    pub table: String,
    /// True when every row the principal may see must be there.
    pub complete: bool,
    /// The application role whose rows alone may be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed_to: Option<String>,
}

/// Steps that one connection runs in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sequence {
    /// Its number in the plan.
    pub number: u64,
    /// Its steps.
    pub steps: Vec<Step>,
}

impl Step {
    /// The step with the values that it captures, and those that it takes from steps before it, under other names.
    pub fn with_captures_named(mut self, name: &dyn Fn(&str) -> String) -> Self {
        let renamed = |text: &mut String| {
            // The run's password is no step's; a name with a dot is a symbol.
            let known = |part: &str| part != "password" && !part.contains('.');
            let mut out = String::with_capacity(text.len());
            for (place, part) in text.split('⟦').enumerate() {
                match part.split_once('⟧').filter(|_| place > 0) {
                    Some((old, rest)) if known(old) => out.push_str(&format!("⟦{}⟧{rest}", name(old))),
                    _ if place > 0 => out.push_str(&format!("⟦{part}")),
                    _ => out.push_str(part),
                }
            }
            *text = out;
        };
        self.captures = std::mem::take(&mut self.captures).into_iter().map(|(k, v)| (name(&k), v)).collect();
        self.request.texts().for_each(renamed);
        self
    }
}

impl Request {
    /// Every text that may hold a value of somebody, or one that was captured.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let named = self.query.iter_mut().chain(&mut self.headers).map(|(_, value)| value);
        std::iter::once(&mut self.path).chain(named).chain(self.body.iter_mut().map(|(_, body)| body))
    }
}
