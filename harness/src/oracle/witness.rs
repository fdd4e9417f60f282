//! The proof of a finding, as a reader needs it.

use crate::finding::{Witness, quoted};
use crate::history::{Observation, Outcome};
use crate::plan::Proof;
use crate::principal::NOBODY;

/// Bytes of a body shown in a witness.
const EXCERPT_MAX: usize = 2_000;

/// The witness of `observation`.
pub(super) fn of(observation: &Observation, part: &str, shows: Vec<String>) -> Witness {
    let answer = observation.answered();
    Witness {
        observation: observation.number,
        part: part.into(),
        actor: observation.step.actor.to_string(),
        request: format!("{} {}", observation.step.request.method, observation.sent.url),
        request_body: observation.sent.body.as_deref().map(excerpt),
        status: answer.map(|a| a.status),
        pool_state: format!("{}, connection {}", observation.step.cell.pool_state, observation.connection),
        shows: if shows.is_empty() { outcome(observation) } else { shows },
        body_excerpt: answer.and_then(|a| a.body.as_deref()).map(excerpt),
        curl: curl(observation),
    }
}

fn outcome(observation: &Observation) -> Vec<String> {
    match &observation.outcome {
        Outcome::Answered(answer) => vec![format!("status {}", answer.status)],
        Outcome::TimedOut => vec!["no answer in time".into()],
        Outcome::Failed { why } => vec![format!("connection failed: {why}")],
        Outcome::Abandoned => vec!["the client went away, as planned".into()],
        Outcome::Overheard { bytes, .. } => vec![format!("{bytes} bytes overheard")],
        Outcome::NotSent { why } => vec![format!("not sent: {why}")],
    }
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// A command that sends the request again. The credential is a shell variable, never the credential.
fn curl(observation: &Observation) -> String {
    let step = &observation.step;
    if let Outcome::Overheard { .. } = observation.outcome {
        return "# overheard: no request sends it by itself".into();
    }
    let mut words = vec![format!("curl -i -X {}", step.request.method)];
    let variable = step.actor.token_variable();
    match &step.request.proof {
        Proof::AsIssued if step.actor.role == NOBODY => {}
        Proof::Issued => {}
        Proof::AsIssued => words.push(format!("-H \"Authorization: Bearer ${variable}\"")),
        // The reader alters it as the variable's name says.
        other => {
            let how = other.word().to_uppercase();
            words.push(format!("-H \"Authorization: Bearer ${variable}_{how}\""));
        }
    }
    for (name, value) in &step.request.headers {
        words.push(format!("-H {}", quoted(&format!("{name}: {value}"))));
    }
    if let (Some((content_type, _)), Some(body)) = (&step.request.body, &observation.sent.body) {
        words.push(format!("-H {}", quoted(&format!("Content-Type: {content_type}"))));
        words.push(format!("--data-binary {}", quoted(body)));
    }
    words.push(format!("\"$BASE_URL\"{}", quoted(&observation.sent.url)));
    words.join(" ")
}
