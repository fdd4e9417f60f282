//! What an answer tells: the facts that oracles need, and the values that later steps take from it.

use serde_json::Value;

use super::Run;
use crate::canary::{Post, Sighting, layers};
use crate::history::{Answered, ListFacts, Sent};
use crate::likeness::{self, Likeness};
use crate::plan::{Answer, COOKIE, HEADER, Request, STREAM_ID, Step, Vector};
use crate::redaction::{PARSED_MAX, excerpt, is_secret};
use crate::target::file::ListShape;
use crate::target::http::{self, Raw};

/// Headers whose content may show a row; credentials and cookies are never kept.
const KEPT_HEADERS: [&str; 8] =
    ["content-type", "etag", "location", "link", "content-disposition", "cache-control", "vary", "retry-after"];

impl Run<'_> {
    /// What `raw` tells of `step`, and the parameter of the next page.
    pub(super) fn answered(
        &mut self,
        step: &Step,
        shape: Option<&ListShape>,
        sent: &Sent,
        request: &Request,
        raw: Raw,
    ) -> (Answered, Option<(String, String)>) {
        let encoding = raw.headers.iter().find(|(name, _)| name == "content-encoding").map(|(_, v)| v.as_str());
        let (body, broken) = layers(&raw.body, encoding);
        let (sightings, echoes) = self.sightings(step, sent, &raw.headers, &body);
        let lists = step.expect.lists.is_some() && (200..300).contains(&raw.status);
        let read = lists || !step.captures.is_empty() || step.case.is_some() || step.until.is_some();
        let parsed: Option<Value> =
            if read && body.len() <= PARSED_MAX { serde_json::from_slice(&body).ok() } else { None };
        let long = (lists && body.len() > PARSED_MAX).then(|| format!("a list of {} bytes is not read", body.len()));
        let cut = raw.cut.clone().or_else(|| broken.map(String::from)).or(long);
        for (name, place) in &step.captures {
            if let Some(value) = taken(place, &raw, parsed.as_ref(), &body) {
                let shown = if is_secret(place) || is_secret(name) { "[redacted]".into() } else { value.clone() };
                self.shown.insert(name.clone(), shown);
                self.captured.insert(name.clone(), value);
                let number = parsed.as_ref().and_then(|v| v.pointer(place)).is_some_and(Value::is_number);
                let _ = if number { self.numbers.insert(name.clone()) } else { self.numbers.remove(name) };
            }
        }
        let at = |pointer: &Option<String>| parsed.as_ref().and_then(|v| v.pointer(pointer.as_deref()?));
        let list = shape.filter(|_| lists).map(|shape| ListFacts {
            items: at(&Some(shape.items.clone())).and_then(Value::as_array).map_or(0, |rows| rows.len() as u64),
            total: at(&shape.total).and_then(Value::as_i64),
            last: true,
        });
        let success = (200..300).contains(&raw.status);
        self.ended = step.until.as_ref().is_some_and(|until| {
            let said = at(&until.at).map(|said| said.as_str().map_or_else(|| said.to_string(), String::from));
            success && (until.at.is_none() || said.is_some_and(|said| until.is.contains(&said)))
        });
        let followed = shape.zip(parsed.as_ref());
        self.read.0 += 1;
        self.read.1 += followed.and_then(|(shape, answer)| shape.rows(answer)).unwrap_or(0);
        let next = followed.and_then(|(shape, answer)| shape.goes_on(answer, self.read.0, self.read.1));
        let foreign = sightings.iter().any(|s| Some(s.owner) != step.actor.tenant);
        let compared = step.vector == Vector::Twin || self.door.keeps_bodies;
        let telling =
            foreign || compared || (success && matches!(step.expect.answer, Answer::Denied | Answer::Refused));
        let likeness = compared.then(|| Box::new(Likeness::of(&raw.headers, &body, &likeness::sent(request))));
        if let (Some(calm), Some(likeness)) = (&mut self.calm, &likeness) {
            self.ended = calm.lasts(raw.status, likeness);
        }
        let redacted = |text: &str| self.door.identities.redacted(text);
        let excerpt = telling.then(|| redacted(&excerpt(&body)));
        let kept = raw.headers.iter().filter(|(name, _)| KEPT_HEADERS.contains(&name.as_str()));
        let headers = kept.map(|(name, value)| (name.clone(), redacted(value))).collect();
        let answer = Answered {
            status: raw.status,
            headers,
            body_bytes: raw.body.len() as u64,
            sightings,
            echoes,
            list,
            ended: self.ended,
            likeness,
            shape: parsed.as_ref().filter(|_| step.case.is_some()).map(crate::plan::shape),
            cut,
            body: excerpt,
        };
        (answer, next)
    }

    /// Each canary of the answer once: first those that the request did not contain, then those that it did.
    fn sightings(
        &self,
        step: &Step,
        sent: &Sent,
        headers: &[(String, String)],
        body: &[u8],
    ) -> (Vec<Sighting>, Vec<Sighting>) {
        let scanner = &self.door.scanner;
        let key = |s: &Sighting| (s.owner, s.row, s.column);
        let mut known = Vec::new();
        let mut learn = |s: Sighting| known.push(key(&s));
        scanner.scan(sent.url.as_bytes(), &mut learn);
        scanner.scan(sent.body.as_deref().unwrap_or_default().as_bytes(), &mut learn);
        for (_, value) in &step.request.headers {
            scanner.scan(value.as_bytes(), &mut learn);
        }
        let (mut found, mut echoes) = (Vec::new(), Vec::new());
        let mut seen = std::collections::HashSet::new();
        let mut meet = |s: Sighting| {
            if seen.insert(key(&s)) {
                if known.contains(&key(&s)) { echoes.push(s) } else { found.push(s) }
            }
        };
        for (_, value) in headers {
            scanner.scan(value.as_bytes(), &mut |s| meet(Sighting { post: Post::Header, ..s }));
        }
        scanner.scan(body, &mut meet);
        (found, echoes)
    }
}

/// The value at `place` of an answer: a JSON pointer, `header:NAME`, `cookie:NAME`, or `sse:id`, the last one.
fn taken(place: &str, raw: &Raw, parsed: Option<&Value>, body: &[u8]) -> Option<String> {
    if let Some(wanted) = place.strip_prefix(HEADER) {
        return raw.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    }
    if let Some(wanted) = place.strip_prefix(COOKIE) {
        let set = raw.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str());
        return http::cookie(set, wanted).map(String::from);
    }
    if place == STREAM_ID {
        let text = std::str::from_utf8(body).ok()?;
        return text.lines().rev().find_map(|line| line.strip_prefix("id:")).map(|id| id.trim().to_string());
    }
    match parsed?.pointer(place)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
