//! One step of a plan: who asks for what, and what must come of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Case;
use crate::canary::Owner;
use crate::cell::{Cell, PoolState, Relation};
use crate::fault::Fault;
use crate::placeholder::SINK;
use crate::principal::Principal;
use crate::target::credential::Flaw;

/// What a capture begins with that takes a header's value; the name follows in lower case.
pub const HEADER: &str = "header:";
/// What a capture begins with that takes a cookie's value; the name follows.
pub const COOKIE: &str = "cookie:";
/// What a capture is that takes the last id of a stream of server-sent events.
pub const STREAM_ID: &str = "sse:id";

/// What holds after a fault, after a restart of the database, and after both.
pub const AFTER_FAULT: &str = "pool/after-fault";
/// See [`AFTER_FAULT`].
pub const AFTER_RESTART: &str = "pool/after-restart";
/// See [`AFTER_FAULT`].
pub const RECOVERY: &str = "pool/recovery";

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
    /// What later steps of the sequence take from the answer: name to JSON pointer, to [`HEADER`] and a header's name,
    /// to [`COOKIE`] and a cookie's, or [`STREAM_ID`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub captures: BTreeMap<String, String>,
    /// The case that it belongs to, when it offers what another answer yielded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<Case>,
    /// Follow the list to its end, page by page.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub walk: bool,
    /// The client goes away, whether answered or not, after so much of the time that the exchange before took, in percent:
    /// how long a service takes until it has a connection, and until it gives it back, only it can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandon_after: Option<u8>,
    /// Sent so many milliseconds after the step before began, on a connection of its own, without waiting for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside_ms: Option<u16>,
    /// The client goes away so many milliseconds after the answer began, with what had come by then: how a stream without
    /// an end is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_after_ms: Option<u16>,
    /// What befalls the connection to the database that serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// It must succeed within so many milliseconds and from then on, and is sent again until it does: after a fault a
    /// service may need a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u16>,
    /// Written and read by hand, on a connection of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
    /// Asked again for a while, until what it waits for has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
}

/// What is done by hand that a client's library does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ByHand {
    /// Steps of this kind that follow each other are written to one connection at once, before anything is answered.
    Pipelined,
    /// The answer is read a few bytes at a time.
    Slowly,
    /// The client goes away once the answer has begun.
    Breaking,
}

/// The end of what goes on by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Until {
    /// JSON pointer to where it shows; without one, any success is the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The values that mean it.
    pub is: Vec<String>,
}

impl Step {
    /// `actor` sends `request`; nothing is named, expected or taken from the answer yet.
    pub fn new(cell: Cell, actor: Principal, vector: Vector, request: Request) -> Self {
        Self {
            cell,
            actor,
            subject: None,
            vector,
            requirement: String::new(),
            request,
            expect: Expect::default(),
            captures: BTreeMap::new(),
            case: None,
            walk: false,
            abandon_after: None,
            beside_ms: None,
            cut_after_ms: None,
            fault: None,
            within_ms: None,
            by_hand: None,
            until: None,
        }
    }

    /// A step that sends nothing: `actor` is whoever may know what is written to `place`.
    pub fn listening(place: &str, actor: Principal, requirement: &str, pool_state: PoolState) -> Self {
        let cell = Cell { operation: place.into(), role: actor.role.clone(), relation: Relation::Own, pool_state };
        let request = Request {
            method: "READ".into(),
            path: place.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            proof: Proof::AsIssued,
        };
        Self {
            subject: actor.tenant,
            requirement: requirement.into(),
            expect: Expect { answer: Answer::Success, ..Expect::default() },
            ..Self::new(cell, actor, Vector::Overheard, request)
        }
    }
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
    /// A tenant's name or id as the host.
    ForgedHost,
    /// The same in what a proxy says of the host and the path.
    ForgedForwarded,
    /// A tenant in cookies.
    ForgedCookie,
    /// A tenant before the path.
    ForgedPath,
    /// A tenant's name, where others take its id.
    ForgedName,
    /// A parameter twice: the own value and the foreign one.
    Repeated,
    /// A key of the body twice.
    RepeatedKey,
    /// A tenant within a document of the body.
    NestedBody,
    /// Fields of the body that are the service's to set, with ids of the subject.
    BodyReference,
    /// The body as a form.
    FormBody,
    /// The credential's claims rewritten, its signature kept.
    ForgedClaim,
    /// An object's id in another spelling.
    Spelling,
    /// Another verb than the one that is sent.
    Override,
    /// A verb that the document does not have.
    Verb,
    /// A credential that was altered.
    Credential,
    /// A connection that has just served another.
    HandOver,
    /// What comes after a fault, and what it befalls.
    AfterFault,
    /// What another step's answer yielded.
    Learnt,
    /// One of several steps that together tell something.
    Story,
    /// No request at all: what the target wrote by itself.
    Overheard,
    /// Generated parameters.
    Generated,
    /// The same request on what is another's and on what is nobody's, to be answered alike.
    Twin,
}

/// How the actor's credential is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// A JWT's claims with the first tenant's id replaced by the second's, its signature kept; other tokens get a
    /// stranger's value.
    Reclaimed(String, String),
    /// One that the run was issued, in a header of the request.
    Issued,
    /// One that the run made itself, with a flaw.
    Flawed(Flaw),
}

impl Step {
    /// The requirements that it speaks for, whatever is answered.
    pub fn speaks_for(&self) -> impl Iterator<Item = &str> {
        let beside: &[&str] = match self.requirement.as_str() {
            "existence/status" => &["existence/headers", "existence/body"],
            "write/tampering" => &["write/overreach"],
            AFTER_FAULT | AFTER_RESTART => &[RECOVERY],
            _ => &[],
        };
        let narrowed = self.expect.lists.as_ref().is_some_and(|list| list.narrowed_to.is_some());
        std::iter::once(self.requirement.as_str())
            .chain(beside.iter().copied())
            .chain(narrowed.then_some("role/own-rows"))
    }

    /// Whether it shows what one's own are, and nothing else.
    pub fn is_control(&self) -> bool {
        self.cell.relation == Relation::Own && self.expect.answer == Answer::Success
    }
}

impl Proof {
    /// Its word, as variables and messages name it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::AsIssued => "as issued",
            Self::Altered => "altered",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Unsigned => "unsigned",
            Self::Reclaimed(..) => "reclaimed",
            Self::Issued => "issued",
            Self::Flawed(flaw) => flaw.word(),
        }
    }
}

/// What is sent. `⟦name⟧` stands for a captured value, see [`crate::placeholder`].
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
            // The run's password and its addresses are no step's; a name with a dot is a symbol.
            let known = |part: &str| !["password", SINK].contains(&part) && !part.contains('.');
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
