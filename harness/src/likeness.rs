//! What two answers must share to be alike: status, headers, and the structure and values of the body, once everything
//! that the request itself held is left out. Taken where steps are compared, so that the judge needs no whole bodies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::plan::Request;

/// Stands for what the request held.
const SENT: &str = "⟦sent⟧";
/// Values of a body told apart; the rest is one.
const LEAVES_MAX: usize = 200;
/// Characters of a header's value kept.
const VALUE_MAX: usize = 160;
/// Headers that follow from the body's length, or tell of the clock.
const PASSED_OVER: [&str; 7] =
    ["content-length", "transfer-encoding", "date", "age", "server-timing", "x-response-time", "x-runtime"];
/// Headers whose value is a secret.
const SECRET: [&str; 4] = ["cookie", "token", "secret", "authorization"];

/// The likeness of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Likeness {
    /// Headers by name; of secrets and of counters that are the caller's own only that they are there.
    pub headers: BTreeMap<String, String>,
    /// Kind and digest of the body's values, by JSON pointer; a body that is no JSON is one value.
    pub body: BTreeMap<String, String>,
    /// What rate-limit headers say is left to the caller, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<i64>,
    /// Whole numbers of the body, by JSON pointer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, i64>,
}

/// One thing in which answers may differ; the most telling first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The status code.
    Status,
    /// Whether a header is there.
    Header(String),
    /// A header's value.
    HeaderValue(String),
    /// Whether the body has a value at a JSON pointer, and of which kind.
    Shape(String),
    /// That value.
    Value(String),
}

impl Likeness {
    /// The likeness of an answer to a request that held the values `sent`.
    pub fn of(headers: &[(String, String)], body: &[u8], sent: &[String]) -> Self {
        let mut likeness = Self::default();
        for (name, value) in headers.iter().filter(|(name, _)| !PASSED_OVER.contains(&name.as_str())) {
            let counter = name.replace('-', "").contains("ratelimit");
            if counter {
                likeness.left.extend(left(name, value));
            }
            let kept = if counter || SECRET.iter().any(|word| name.contains(word)) {
                String::new()
            } else {
                without(value, sent).chars().take(VALUE_MAX).collect()
            };
            likeness.headers.entry(name.clone()).and_modify(|all| *all = format!("{all}, {kept}")).or_insert(kept);
        }
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => likeness.take(&value, String::new(), sent),
            Err(_) if body.is_empty() => {}
            Err(_) => likeness.leaf(String::new(), "text", &without(&String::from_utf8_lossy(body), sent)),
        }
        likeness
    }

    fn take(&mut self, value: &Value, at: String, sent: &[String]) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                fields.iter().for_each(|(key, field)| self.take(field, format!("{at}/{}", without(key, sent)), sent));
            }
            Value::Array(items) if !items.is_empty() => {
                items.iter().enumerate().for_each(|(index, item)| self.take(item, format!("{at}/{index}"), sent));
            }
            Value::Object(_) => self.leaf(at, "object", ""),
            Value::Array(_) => self.leaf(at, "array", ""),
            Value::Null => self.leaf(at, "null", ""),
            Value::Bool(flag) => self.leaf(at, "boolean", &flag.to_string()),
            Value::Number(number) => {
                if let (Some(number), true) = (number.as_i64(), self.numbers.len() < LEAVES_MAX) {
                    self.numbers.insert(at.clone(), number);
                }
                self.leaf(at, "number", &without(&number.to_string(), sent));
            }
            Value::String(text) => self.leaf(at, "string", &without(text, sent)),
        }
    }

    fn leaf(&mut self, at: String, kind: &str, text: &str) {
        if self.body.len() < LEAVES_MAX {
            self.body.insert(at, format!("{kind} {}", digest(text)));
        } else {
            let rest = self.body.entry("/…".into()).or_default();
            *rest = format!("rest {}", digest(&format!("{rest} {at} {kind} {text}")));
        }
    }

    /// Everything that can be compared with another answer's, `status` included.
    pub fn parts(&self, status: u16) -> BTreeMap<Part, String> {
        let mut parts = BTreeMap::from([(Part::Status, status.to_string())]);
        for (name, value) in &self.headers {
            parts.insert(Part::Header(name.clone()), "there".into());
            parts.insert(Part::HeaderValue(name.clone()), value.clone());
        }
        for (at, value) in &self.body {
            let (kind, digest) = value.split_once(' ').unwrap_or((value, ""));
            parts.insert(Part::Shape(at.clone()), kind.into());
            parts.insert(Part::Value(at.clone()), digest.into());
        }
        parts
    }
}

/// The values that `request` holds, longest first: an answer that repeats them tells its sender nothing.
pub fn sent(request: &Request) -> Vec<String> {
    let mut all = vec![request.path.clone()];
    all.extend(request.path.split('/').map(String::from));
    all.extend(request.query.iter().chain(&request.headers).map(|(_, value)| value.clone()));
    for line in request.body.iter().flat_map(|(_, body)| body.lines()) {
        match serde_json::from_str::<Value>(line) {
            Ok(value) => texts(&value, &mut all),
            Err(_) => all.push(line.into()),
        }
    }
    all.retain(|value| !value.is_empty());
    all.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    all.dedup();
    all
}

fn texts(value: &Value, all: &mut Vec<String>) {
    match value {
        Value::String(text) => all.push(text.clone()),
        Value::Object(fields) => fields.iter().for_each(|(key, field)| {
            all.push(key.clone());
            texts(field, all);
        }),
        Value::Array(items) => items.iter().for_each(|item| texts(item, all)),
        Value::Number(number) => all.push(number.to_string()),
        Value::Bool(_) | Value::Null => {}
    }
}

/// `text` without the values `sent`, where they stand as whole words.
fn without(text: &str, sent: &[String]) -> String {
    let mut out = text.to_string();
    for value in sent.iter().filter(|value| text.contains(value.as_str())) {
        let mut kept = String::with_capacity(out.len());
        let mut rest = out.as_str();
        while let Some(at) = rest.find(value.as_str()) {
            let (before, after) = (&rest[..at], &rest[at + value.len()..]);
            let joined = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let last = before.chars().next_back().or_else(|| kept.chars().next_back());
            kept.push_str(before);
            kept.push_str(if joined(last) || joined(after.chars().next()) { value } else { SENT });
            rest = after;
        }
        kept.push_str(rest);
        out = kept;
    }
    out
}

/// What a rate-limit header says is left: its value, or the `r` of each of its items
/// (draft-ietf-httpapi-ratelimit-headers).
fn left(name: &str, value: &str) -> Vec<i64> {
    if name.contains("remaining") {
        return value.trim().parse().into_iter().collect();
    }
    let parameters = value.split([';', ',']).filter_map(|part| part.trim().split_once('='));
    parameters.filter(|(key, _)| matches!(*key, "r" | "remaining")).filter_map(|(_, n)| n.parse().ok()).collect()
}

/// Eight bytes of a hash: enough to tell two values apart, too few to keep one.
fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Proof;

    fn request(path: &str, body: Option<&str>) -> Request {
        Request {
            method: "GET".into(),
            path: path.into(),
            query: vec![("limit".into(), "2".into())],
            headers: Vec::new(),
            body: body.map(|body| ("application/json".into(), body.into())),
            proof: Proof::AsIssued,
        }
    }

    fn likeness(path: &str, headers: &[(&str, &str)], body: &str) -> Likeness {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Likeness::of(&headers, body.as_bytes(), &sent(&request(path, Some(r#"{"name":"abc","rank":7}"#))))
    }

    #[test]
    fn what_the_request_held_makes_no_difference() {
        for (one, other) in [
            (
                r#"{"detail":"no thing a1 here","at":"/things/a1"}"#,
                r#"{"detail":"no thing b22 here","at":"/things/b22"}"#,
            ),
            (r#"{"a1":[1]}"#, r#"{"b22":[1]}"#),
            ("nothing at a1.", "nothing at b22."),
            ("", ""),
        ] {
            let (one, other) = (likeness("/things/a1", &[], one), likeness("/things/b22", &[], other));
            assert_eq!(one, other);
        }
        let location = |path: &str| likeness(path, &[("location", &format!("{path}/parts"))], "{}");
        assert_eq!(location("/things/a1"), location("/things/b22"));
    }

    #[test]
    fn whatever_else_differs_is_a_difference() {
        let plain = likeness("/things/a1", &[], r#"{"detail":"none"}"#);
        for (headers, body, part) in [
            (vec![("etag", "x")], r#"{"detail":"none"}"#, Part::Header("etag".into())),
            (vec![], r#"{"detail":"yours? no"}"#, Part::Value("/detail".into())),
            (vec![], r#"{"detail":"none","type":null}"#, Part::Shape("/type".into())),
            (vec![], r#"{"detail":0}"#, Part::Shape("/detail".into())),
            (vec![], r#"[]"#, Part::Shape(String::new())),
            (vec![], r#"a1a"#, Part::Shape(String::new())),
        ] {
            let other = likeness("/things/a1", &headers, body);
            let (plain, other) = (plain.parts(404), other.parts(404));
            assert_ne!(plain.get(&part), other.get(&part), "{body}: {part:?}");
        }
        // A part of a longer word is no echo.
        assert_ne!(likeness("/things/a1", &[], r#""xa1y""#), likeness("/things/b22", &[], r#""xb22y""#));
    }

    #[test]
    fn counters_of_ones_own_and_secrets_are_left_out_and_what_is_left_is_told() {
        let one = likeness("/x", &[("x-ratelimit-remaining", "41"), ("set-cookie", "s=1"), ("date", "now")], "");
        let other = likeness("/x", &[("x-ratelimit-remaining", "40"), ("set-cookie", "s=2")], "");
        assert_eq!(one.headers, other.headers);
        assert_eq!((one.left, other.left), (vec![41], vec![40]));
        let two =
            likeness("/x", &[("ratelimit", r#""principal";r=9;t=1, "tenant";r=12;t=2"#)], r#"{"n":{"position":5}}"#);
        assert_eq!((two.left, two.numbers), (vec![9, 12], [("/n/position".to_string(), 5)].into()));
    }
}
