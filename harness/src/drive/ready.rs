//! A step's request with every value in its place: what earlier steps yielded, what was learnt, and what is secret.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Run;
use crate::cell::Relation;
use crate::history::Sent;
use crate::placeholder::{self, SINK};
use crate::plan::{Proof, Request, Step, Vector};
use crate::target::connection::Ready;
use crate::target::http;

/// The placeholder of the run's password.
const PASSWORD: &str = "password";

impl Run<'_> {
    /// The request of a step with all its values, and how it may be shown; why it cannot be made.
    pub(super) fn ready(&self, step: &Step) -> std::result::Result<(Sent, Ready), String> {
        let unmade = self.tables(step).into_iter().find_map(|table| Some((table, self.door.ledger.unmade(table)?)));
        if let Some((table, why)) = unmade {
            return Err(format!("not all rows of {table} could be made: {why}"));
        }
        if let Some(name) = self.missing(step) {
            return Err(format!("an earlier step did not yield `{name}`"));
        }
        if let Some(name) = self.ambiguous(step) {
            return Err(format!("what another tenant has as {name} is also one of the actor's own"));
        }
        let identities = &self.door.identities;
        let fill = |text: &str| placeholder::filled(text, &|name| self.value(name, &self.captured));
        // What is shown is filled in with what may be shown.
        let show = |text: &str| placeholder::filled(text, &|name| self.value(name, &self.shown));
        let body = step.request.body.as_ref().map(|(_, body)| self.bare_numbers(self.door.ledger.filled_body(body)));
        let filled_body = |captured: &BTreeMap<String, String>, secret: &dyn Fn(&str) -> Option<String>| {
            let value = |name: &str| match name {
                PASSWORD => secret(&self.door.secrets.password),
                SINK => secret(&self.door.sinks.as_ref()?.tell(step.actor.tenant?)?),
                name => self.value(name, captured).or_else(|| secret(identities.given(name)?)),
            };
            body.as_ref().map(|body| placeholder::filled(body, &|name| value(name).map(|text| escaped(&text))))
        };
        let shown = filled_body(&self.shown, &|_| Some("[redacted]".into()));
        let real = filled_body(&self.captured, &|secret| Some(secret.into()));
        let sent = Sent { url: http::url_of(&step.request, &show), body: shown };
        let proof = match &step.request.proof {
            Proof::Reclaimed(own, other) => Proof::Reclaimed(fill(own), fill(other)),
            proof => proof.clone(),
        };
        let credential = identities.presented(&step.actor, &proof);
        let request = self.filled(&step.request, real.as_ref());
        let url = http::url_of(&step.request, &fill);
        Ok((sent, Ready { request, url, credential }))
    }

    /// What a step names as another's and is one's own by the same name: what is answered then tells nothing.
    fn ambiguous(&self, step: &Step) -> Option<String> {
        let actor = step.actor.tenant.filter(|_| step.cell.relation == Relation::Foreign)?;
        let subject = step.subject.filter(|subject| *subject != actor)?;
        let of_subject = format!(" of {}/", subject.index());
        let mut request = step.request.clone();
        let texts = request.texts();
        let names: Vec<String> =
            texts.flat_map(|text| placeholder::names(text).map(String::from).collect::<Vec<_>>()).collect();
        let ledger = &self.door.ledger;
        let twice = |name: &String| {
            let value = self.captured.get(name);
            value.is_some() && self.captured.iter().any(|(known, other)| known != name && Some(other) == value)
        };
        let shared = |name: &String| name.contains(&of_subject) && ledger.is_shared_with(name, actor);
        names.into_iter().find(|name| shared(name) || twice(name))
    }

    /// The first value that nobody yielded. A condition of a twin does not count: what has no tag is asked for without.
    fn missing(&self, step: &Step) -> Option<String> {
        let request = &step.request;
        let known = |name: &str| {
            name == PASSWORD
                || (name == SINK && self.door.sinks.is_some())
                || self.value(name, &self.captured).is_some()
                || self.door.identities.given(name).is_some()
        };
        let headers = request.headers.iter().filter(|_| step.vector != Vector::Twin);
        let texts = std::iter::once(&request.path).chain(request.query.iter().chain(headers).map(|(_, value)| value));
        let texts = texts.chain(request.body.iter().map(|(_, body)| body));
        texts.flat_map(|text| placeholder::names(text)).find(|name| !known(name)).map(String::from)
    }

    /// `request` with captured values in their places; a header whose value nobody yielded is left out.
    fn filled(&self, request: &Request, body: Option<&String>) -> Request {
        let fill = |text: &String| placeholder::filled(text, &|name| self.value(name, &self.captured));
        let headers = request.headers.iter().map(|(name, value)| (name.clone(), fill(value)));
        Request {
            path: fill(&request.path),
            query: request.query.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            headers: headers.filter(|(_, value)| placeholder::names(value).next().is_none()).collect(),
            body: request.body.as_ref().zip(body).map(|((kind, _), body)| (kind.clone(), body.clone())),
            ..request.clone()
        }
    }

    /// A JSON body in which what was captured as a number stands without quotes.
    fn bare_numbers(&self, body: String) -> String {
        self.numbers.iter().fold(body, |body, name| {
            let place = placeholder::of(name);
            body.replace(&format!("\"{place}\""), &place)
        })
    }

    /// What a placeholder stands for: what an earlier step yielded, or what was learnt.
    fn value(&self, name: &str, captured: &BTreeMap<String, String>) -> Option<String> {
        captured.get(name).cloned().or_else(|| self.door.ledger.value(name).map(|(text, _)| text.into()))
    }

    /// The planted tables that a step is about.
    fn tables<'s>(&'s self, step: &'s Step) -> Vec<&'s str> {
        let access = self.door.plan.target.access(&step.cell.operation);
        let params = access.iter().flat_map(|a| a.params.values().filter_map(|reference| reference.split('.').next()));
        let own = access.and_then(|a| a.table.as_deref());
        params.chain(own).collect()
    }
}

/// As it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].into()
}
