//! Services of known behaviour, for trying oracles both ways: a small target's plan is answered by a closure, and what
//! comes of it is observed as the driver would.

use std::sync::Arc;

use serde_json::json;

use super::{Ground, Oracle, Suspicion};
use crate::canary::{Encoding, Form, Owner, Post, Sighting};
use crate::cell::{Lanes, PoolState};
use crate::history::{Answered, Observation, Outcome, Sent};
use crate::likeness::{self, Likeness};
use crate::operation::{Body, Operation, Parameter, Place};
use crate::plan::{Plan, Planner, Step, Vector};
use crate::scenario::Bounds;
use crate::seed::Seed;
use crate::target::file::TargetFile;

const TARGET: &str = r#"
name = "simulated"
openapi = "/openapi.json"
base_url = "http://simulated.example"

[[plant.table]]
name = "homes"
per = "tenant"
columns = { id = "tenant" }

[[plant.table]]
name = "folk"
per = "principal"
roles = ["clerk"]
columns = { id = "principal", mail = "email" }

[[plant.table]]
name = "things"
per = "row"
columns = { home = "tenant", id = "uuid", name = "text" }

[[plant.table]]
name = "parts"
per = "row"
columns = { home = "tenant", id = "uuid", thing = "ref:things" }

[credential.password]
kind = "login"
path = "/sign-in"
body = { mail = "{folk.mail}", password = "{password}" }
token = "/token"

[[role]]
name = "clerk"
credential = "password"

[[operation]]
id = "enter"
allow = ["clerk"]
body = { mail = "{folk.mail}", password = "{password}" }

[[operation]]
id = "read"
allow = ["clerk"]
table = "things"
params = { id = "things.id" }

[[operation]]
id = "change"
allow = ["clerk"]
table = "things"
params = { id = "things.id" }

[[operation]]
id = "look_up"
allow = ["clerk"]
table = "things"
params = { name = "things.name" }

[[operation]]
id = "list"
allow = ["clerk"]
table = "things"
params = { name = "things.name" }
list = { items = "/items", next = "/next", cursor = "cursor", limit = "limit" }

[[operation]]
id = "make"
allow = ["clerk"]
table = "things"
creates = "/id"
"#;

/// The state that the simulated target is driven in.
pub(super) const STATE: PoolState = PoolState { pool_size: None, lanes: Lanes::One };

/// An answer of a simulated service.
#[derive(Clone, Default)]
pub(super) struct Told {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// The ground of the simulated target.
pub(super) fn ground() -> Ground {
    let target = TargetFile::parse(TARGET, "simulated").expect("a target file");
    let parameter = |name: &str, place, required| Parameter {
        name: name.into(),
        place,
        required,
        schema: json!({ "type": "string" }),
    };
    let operation = |id: &str, method: &str, path: &str, parameters: Vec<Parameter>| {
        let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
        let body = (method != "GET").then(|| Body { content_type: "application/json".into(), schema });
        Operation {
            id: id.into(),
            method: method.into(),
            path: path.into(),
            parameters,
            body,
            answer: None,
            secured: true,
        }
    };
    let in_query = |name| parameter(name, Place::Query, false);
    let operations = vec![
        operation("enter", "POST", "/sign-in", Vec::new()),
        operation("read", "GET", "/things/{id}", vec![parameter("id", Place::Path, true)]),
        operation("change", "PATCH", "/things/{id}", vec![parameter("id", Place::Path, true)]),
        operation("look_up", "GET", "/names/{name}", vec![parameter("name", Place::Path, true)]),
        operation("list", "GET", "/things", vec![in_query("name"), in_query("cursor"), in_query("limit")]),
        operation("make", "POST", "/things", vec![parameter("Idempotency-Key", Place::Header, false)]),
    ];
    let bounds = Bounds { tenants: 3, rows: 6, cases_max: 0, ..Bounds::of_profile("quick").expect("a profile") };
    let requirements = crate::requirement::catalogue().expect("the catalogue").into_iter().map(|r| r.id).collect();
    Ground::new(Arc::new(Plan::new(Seed(5), bounds, requirements, target, operations, 1_800_000_000)))
}

/// What `service` answers to the whole plan, in order; it is told how many requests came before.
pub(super) fn history(ground: &Ground, mut service: impl FnMut(&Step, u64) -> Told) -> Vec<Observation> {
    let mut all = Vec::new();
    for sequence in Planner::new(ground.plan.clone()).into_sequences(STATE) {
        let sequence = sequence.expect("a sequence");
        for (position, step) in sequence.steps.iter().enumerate() {
            let number = all.len() as u64;
            let told = service(step, number);
            all.push(observed(step, number, (sequence.number, position as u32), told));
        }
    }
    all
}

/// One observation, as the driver makes it.
pub(super) fn observed(step: &Step, number: u64, (sequence, position): (u64, u32), told: Told) -> Observation {
    let named = likeness::sent(&step.request);
    let likeness = Likeness::of(&told.headers, told.body.as_bytes(), &named);
    Observation {
        number,
        sequence,
        position,
        page: 0,
        step: step.clone(),
        world: None,
        connection: 0,
        sent_at_us: number * 1_000,
        took_us: 500,
        sent: Sent { url: step.request.path.clone(), body: step.request.body.as_ref().map(|(_, body)| body.clone()) },
        struck: None,
        outcome: Outcome::Answered(Answered {
            shape: None,
            status: told.status,
            headers: Vec::new(),
            body_bytes: told.body.len() as u64,
            sightings: Vec::new(),
            echoes: Vec::new(),
            list: None,
            ended: step.until.is_some(),
            cut: None,
            likeness: (step.vector == Vector::Twin).then(|| Box::new(likeness)),
            body: Some(told.body),
        }),
    }
}

/// A value of `owner`, seen as it was planted.
pub(super) fn sighting(owner: Owner, row: Option<u32>, column: Option<u16>) -> Sighting {
    Sighting { owner, row, column, form: Form::Text, encoding: Encoding::Plain, offset: 0, post: Post::default() }
}

/// What `oracle` suspects in `history`: the requirement of each suspicion, and its sentence.
pub(super) fn suspected(ground: &Ground, oracle: &mut dyn Oracle, history: &[Observation]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for observation in history {
        let found = oracle.observe(ground, observation).into_iter();
        all.extend(found.map(|Suspicion { requirement, sentence, .. }| {
            (requirement.unwrap_or(&observation.step.requirement).to_string(), sentence)
        }));
    }
    all
}
