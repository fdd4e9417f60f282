//! A run's own traffic as a HAR: what users legitimately do, once for each operation and each application role, with a
//! name where the credential was.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::har::{Content, Entry, Har, Header, Log, PostData, Request, Response};
use crate::cell::Relation;
use crate::error::{Error, Result};
use crate::history::{self, Observation};
use crate::plan::{Answer, Plan};

/// Where a HAR says that the target was: names of this kind lead nowhere (RFC 6761).
const HOST: &str = "http://target.invalid";
/// Rows kept of a list's answer.
const ROWS_MAX: usize = 1;

/// Writes what the history at `from` holds to `to`.
///
/// # Errors
/// The history cannot be read, or the file not written.
pub fn write(from: &Path, plan: &Plan, to: &Path) -> Result<()> {
    let state = plan.pool_states().next();
    let (mut operations, mut roles) = (BTreeSet::new(), BTreeSet::new());
    let (mut entries, mut sequence): (Vec<Entry>, Vec<Observation>) = (Vec::new(), Vec::new());
    let mut end = |sequence: &mut Vec<Observation>| {
        let sound = |o: &Observation| {
            let step = &o.step;
            let succeeded = o.answered().is_some_and(|answer| (200..300).contains(&answer.status));
            step.expect.answer != Answer::Success || (succeeded && step.cell.relation == Relation::Own)
        };
        let news = |o: &Observation| !operations.contains(&kind(plan, o)) || !roles.contains(&o.step.cell.role);
        let meant = |o: &&Observation| o.step.expect.answer == Answer::Success && o.page == 0;
        if sequence.iter().all(sound) && sequence.iter().filter(meant).any(news) {
            for observation in sequence.iter().filter(meant) {
                operations.insert(kind(plan, observation));
                roles.insert(observation.step.cell.role.clone());
                entries.extend(entry(plan, observation));
            }
        }
        sequence.clear();
    };
    for observation in history::read(from)?.1 {
        let history::Entry::Observation(observation) = observation? else { continue };
        if Some(observation.step.cell.pool_state) != state {
            break;
        }
        if sequence.last().is_some_and(|last| last.sequence != observation.sequence) {
            end(&mut sequence);
        }
        sequence.push(*observation);
    }
    end(&mut sequence);
    let mut har = serde_json::to_value(Har { log: Log { version: "1.2".into(), entries } })
        .map_err(|e| Error::Defect(e.to_string()))?;
    har["log"]["creator"] = json!({ "name": "partywall", "version": env!("CARGO_PKG_VERSION") });
    let text = serde_json::to_string(&har).map_err(|e| Error::Defect(e.to_string()))?;
    // One entry a line: what changes can be seen.
    let text = text.replace(",{\"startedDateTime\"", ",\n{\"startedDateTime\"");
    std::fs::write(to, text + "\n").map_err(|e| Error::write(to, e))
}

/// The operation, and whether it is asked for a page that a cursor leads to.
fn kind(plan: &Plan, observation: &Observation) -> (String, bool) {
    let step = &observation.step;
    let access = plan.target.access(&step.cell.operation);
    let cursor = access.and_then(|access| access.list.as_ref()?.cursor.as_ref());
    let follows = step.request.query.iter().any(|(name, _)| Some(name) == cursor);
    (step.cell.operation.clone(), follows)
}

fn entry(plan: &Plan, observation: &Observation) -> Option<Entry> {
    let (step, answer) = (&observation.step, observation.answered()?);
    let mut headers = step.request.headers.clone();
    let name = step.actor.to_string().replace(' ', "-");
    headers.push(("Authorization".into(), format!("Bearer redacted-{name}")));
    let content_type = answer.headers.iter().find(|(name, _)| name == "content-type").map(|(_, v)| v.clone());
    let access = plan.target.access(&step.cell.operation);
    let list = access.and_then(|access| access.list.as_ref());
    // Only what later requests may take from an answer: ids of what was made, cursors.
    let telling = access.is_some_and(|access| access.creates.is_some()) || list.is_some();
    let body = answer.body.as_ref().filter(|_| telling).and_then(|body| serde_json::from_str::<Value>(body).ok());
    let text = body.map(|mut body| {
        if let Some(Value::Array(rows)) = list.and_then(|list| body.pointer_mut(&list.items)) {
            rows.truncate(ROWS_MAX);
        }
        body.to_string()
    });
    Some(Entry {
        started_date_time: crate::tenant::rfc3339(plan.day_unix_s * 1_000_000 + observation.sent_at_us as i64),
        request: Request {
            method: step.request.method.clone(),
            url: format!("{HOST}{}", observation.sent.url),
            headers: headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
            post_data: step
                .request
                .body
                .as_ref()
                .zip(observation.sent.body.as_ref())
                .map(|((kind, _), body)| PostData { mime_type: kind.clone(), text: body.clone() }),
        },
        response: Response {
            status: i64::from(answer.status),
            content: Content { mime_type: content_type.unwrap_or_default(), text, encoding: None },
        },
    })
}
