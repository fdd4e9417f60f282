//! From a capture to journeys: which operation each entry is, who sent it, and whose ids and cursors stand in it.

use std::collections::BTreeMap;

use reqwest::Url;

use super::har::Entry;
use crate::error::{Error, Result, unknown};
use crate::operation::Operation;
use crate::plan::{Given, Journey, Recorded};
use crate::target::credential::Credential;
use crate::target::file::TargetFile;

/// Reasons told why entries are passed over.
const SKIPPED_MAX: usize = 40;

/// A capture, and who its users are.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The exchanges.
    pub entries: Vec<Entry>,
    /// Application roles by the number of the user, counted from 1 in the order of appearance.
    pub identities: BTreeMap<usize, String>,
}

/// What a capture comes to on a target.
#[derive(Clone, Debug, Default)]
pub struct Mapped {
    /// One a user.
    pub journeys: Vec<Journey>,
    /// Why entries were passed over, and how many for each reason.
    pub skipped: BTreeMap<String, u64>,
}

impl Mapped {
    /// Requests that are replayed.
    pub fn requests(&self) -> usize {
        self.journeys.iter().map(|journey| journey.requests.len()).sum()
    }

    /// What became of `entries`, in words: how many are replayed, and why others are not, the most frequent first.
    pub fn told(&self, entries: usize) -> Vec<String> {
        let (requests, users) = (self.requests(), self.journeys.len());
        let roles: Vec<&str> = self.journeys.iter().map(|journey| journey.role.as_str()).collect();
        let roles = if roles.is_empty() { String::new() } else { format!(" ({})", roles.join(", ")) };
        let mut told =
            vec![format!("recorded traffic: {requests} of {entries} entries replayed, {users} users{roles}")];
        let mut skipped: Vec<(&String, &u64)> = self.skipped.iter().collect();
        skipped.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        told.extend(skipped.iter().take(SKIPPED_MAX).map(|(why, times)| format!("not replayed: {times} × {why}")));
        if let Some(rest) = skipped.get(SKIPPED_MAX..).filter(|rest| !rest.is_empty()) {
            let times: u64 = rest.iter().map(|(_, times)| **times).sum();
            told.push(format!("not replayed: {times} more, for {} other reasons", rest.len()));
        }
        told
    }

    fn skip(&mut self, why: String) {
        *self.skipped.entry(why).or_default() += 1;
    }
}

/// One user's entries, told as operations.
#[derive(Default)]
struct User<'a> {
    entries: Vec<(&'a Entry, Url, &'a Operation, BTreeMap<String, String>)>,
}

impl Recording {
    /// The journeys of the capture on a target that has these operations.
    ///
    /// # Errors
    /// An identity that names no user or no application role.
    pub fn onto(&self, operations: &[Operation], target: &TargetFile) -> Result<Mapped> {
        let mut mapped = Mapped::default();
        let headers: Vec<String> = target.credential.values().map(credential_header).collect();
        let fits = |entry: &Entry| {
            let url = Url::parse(&entry.request.url).ok()?;
            let (operation, params) = operation_of(&entry.request.method, url.path(), operations)?;
            Some((url, operation, params))
        };
        let host = busiest(self.entries.iter().filter_map(|entry| Some(origin(&fits(entry)?.0))));
        let mut users: Vec<(&str, User<'_>)> = Vec::new();
        for entry in &self.entries {
            let Some((url, operation, params)) = fits(entry) else {
                mapped.skip(format!("{} fits no operation", shown(entry)));
                continue;
            };
            if Some(origin(&url)) != host {
                mapped.skip(format!("{} is another host", url.host_str().unwrap_or("?")));
            } else if !(200..400).contains(&entry.response.status) {
                mapped.skip(format!("answered {} when it was recorded", entry.response.status));
            } else if let Some(credential) = entry.credential(&headers) {
                let place = users.iter().position(|(known, _)| *known == credential).unwrap_or_else(|| {
                    users.push((credential, User::default()));
                    users.len() - 1
                });
                users[place].1.entries.push((entry, url, operation, params));
            } else {
                mapped.skip("sent without a credential".into());
            }
        }
        if let Some((number, _)) = self.identities.iter().find(|(number, _)| !(1..=users.len()).contains(number)) {
            return Err(Error::Usage(format!("--identity {number}: the capture has {} users", users.len())));
        }
        for (place, (_, user)) in users.iter().enumerate() {
            let role = match self.identities.get(&(place + 1)) {
                Some(role) => target
                    .role(role)
                    .map(|r| r.name.clone())
                    .ok_or_else(|| unknown("application role", role, target.role.iter().map(|r| r.name.as_str())))?,
                None => user.role(target),
            };
            user.journey(&role, target, &mut mapped);
        }
        Ok(mapped)
    }
}

impl User<'_> {
    /// The application role that may do most of what the user did; of those, the one that may do least besides.
    fn role(&self, target: &TargetFile) -> String {
        let may = |role: &str| target.operation.iter().filter(|access| access.allow.iter().any(|r| r == role)).count();
        let did = |role: &str| {
            let allowed =
                |operation: &Operation| target.access(&operation.id).is_some_and(|a| a.allow.iter().any(|r| r == role));
            self.entries.iter().filter(|(_, _, operation, _)| allowed(operation)).count()
        };
        let best = target.role.iter().max_by_key(|role| (did(&role.name), std::cmp::Reverse(may(&role.name))));
        best.map_or_else(String::new, |role| role.name.clone())
    }

    fn journey(&self, role: &str, target: &TargetFile, mapped: &mut Mapped) {
        let mut requests: Vec<Recorded> = Vec::new();
        // What earlier answers gave: ids of what was made, cursors.
        let (mut made, mut cursors) = (BTreeMap::new(), BTreeMap::new());
        let mut rows: BTreeMap<String, u64> = BTreeMap::new();
        for (entry, url, operation, params) in &self.entries {
            let access = target.access(&operation.id).filter(|a| a.open || a.allow.iter().any(|r| r == role));
            let Some(access) = access else {
                mapped.skip(format!("{} is not for the application role {role}", operation.id));
                continue;
            };
            let cursor = access.list.as_ref().and_then(|list| list.cursor.as_deref());
            let mut given = BTreeMap::new();
            let mut strange = None;
            let mut row = |value: &str| {
                let next = rows.len() as u64;
                Given::Row(*rows.entry(value.into()).or_insert(next))
            };
            for (name, value) in params {
                let known = made.get(value).map(|index| Given::Made(*index));
                match known.or_else(|| access.params.contains_key(name).then(|| row(value))) {
                    Some(value) => drop(given.insert(name.clone(), value)),
                    // What is made gets a name of its own.
                    None if access.creates.is_some() => {}
                    None => strange = Some(name.clone()),
                }
            }
            for (name, value) in url.query_pairs() {
                let (name, value) = (name.into_owned(), value.into_owned());
                let value = match cursors.get(&value) {
                    Some(index) if cursor == Some(name.as_str()) => Given::Cursor(*index),
                    // A page that nothing recorded leads to: the list is asked for from its start.
                    _ if cursor == Some(name.as_str()) => continue,
                    _ if access.params.contains_key(&name) => row(&value),
                    _ => Given::Kept(value),
                };
                given.insert(name, value);
            }
            if let Some(name) = strange {
                mapped.skip(format!("{}: nothing planted or made stands for its `{name}`", operation.id));
                continue;
            }
            let index = requests.len();
            if let Some(answer) = entry.answer() {
                let at = |pointer: Option<&String>| answer.pointer(pointer?)?.as_str().map(String::from);
                made.extend(at(access.creates.as_ref()).map(|id| (id, index)));
                cursors.extend(at(access.list.as_ref().and_then(|l| l.next.as_ref())).map(|next| (next, index)));
            }
            let body = entry.request.post_data.as_ref().and_then(|data| serde_json::from_str(&data.text).ok());
            requests.push(Recorded { operation: operation.id.clone(), given, body });
        }
        if !requests.is_empty() {
            mapped.journeys.push(Journey { role: role.into(), requests });
        }
    }
}

/// The operation whose path fits best, with its path parameters.
fn operation_of<'o>(
    method: &str,
    path: &str,
    operations: &'o [Operation],
) -> Option<(&'o Operation, BTreeMap<String, String>)> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |operation: &'o Operation| {
        let template: Vec<&str> = operation.path.split('/').collect();
        if operation.method != method.to_uppercase() || template.len() != parts.len() {
            return None;
        }
        let mut params = BTreeMap::new();
        for (template, part) in template.iter().zip(&parts) {
            match template.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
                Some(name) => drop(params.insert(name.to_string(), decoded(part))),
                None if template == part => {}
                None => return None,
            }
        }
        Some((operation, params))
    };
    operations.iter().filter_map(fits).min_by_key(|(_, params)| params.len())
}

/// A part of a path without its percent-encoding.
fn decoded(part: &str) -> String {
    let pair = format!("p={}", part.replace('+', "%2B"));
    let url = Url::parse(&format!("http://h/?{pair}")).ok();
    let found = url.and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned()));
    found.unwrap_or_else(|| part.into())
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn busiest(origins: impl Iterator<Item = String>) -> Option<String> {
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    origins.for_each(|origin| *known.entry(origin).or_default() += 1);
    known.into_iter().max_by_key(|(_, times)| *times).map(|(origin, _)| origin)
}

/// Method and path; a query may hold what does not belong into a report.
fn shown(entry: &Entry) -> String {
    let url = Url::parse(&entry.request.url);
    let path = url.as_ref().map_or("a URL that cannot be read", |url| url.path());
    let path: String = path.chars().take(120).collect();
    format!("{} {path}", entry.request.method)
}

fn credential_header(credential: &Credential) -> String {
    let send = credential.send().places().first().map_or("Authorization", String::as_str);
    send.split(':').next().unwrap_or("Authorization").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::operation::{Operation, Parameter, Place};
    use crate::replay::har::Har;

    fn operations() -> Vec<Operation> {
        let parameter = |name: &str, place| Parameter { name: name.into(), place, required: true, schema: Value::Null };
        let operation = |id: &str, method: &str, path: &str, parameters| Operation {
            answer: None,
            id: id.into(),
            method: method.into(),
            path: path.into(),
            parameters,
            body: None,
            secured: true,
        };
        vec![
            operation("create_event", "POST", "/v1/events", vec![]),
            operation("list_events", "GET", "/v1/events", vec![parameter("cursor", Place::Query)]),
            operation("get_event", "GET", "/v1/events/{id}", vec![parameter("id", Place::Path)]),
        ]
    }

    fn entry(method: &str, url: &str, who: &str, status: i64, answer: Value) -> Value {
        let headers = json!([{ "name": "authorization", "value": who }]);
        let content = json!({ "mimeType": "application/json", "text": answer.to_string() });
        json!({
            "request": { "method": method, "url": url, "headers": headers },
            "response": { "status": status, "content": content },
        })
    }

    fn check(entries: Vec<Value>, identities: &[(usize, &str)]) -> Mapped {
        let har: Har = serde_json::from_value(json!({ "log": { "entries": entries } })).expect("a HAR");
        let identities = identities.iter().map(|(number, role)| (*number, role.to_string())).collect();
        let target = TargetFile::load(None).expect("the bundled file");
        Recording { entries: har.log.entries, identities }.onto(&operations(), &target).expect("maps")
    }

    #[test]
    fn ids_and_cursors_are_told_by_where_they_came_from() {
        let at = |path: &str| format!("https://api.example{path}");
        let mapped = check(
            vec![
                entry("POST", &at("/v1/events"), "a", 201, json!({ "id": "made-1" })),
                entry("GET", &at("/v1/events"), "a", 200, json!({ "items": [], "next_cursor": "c1" })),
                entry("GET", &at("/v1/events?cursor=c1&limit=5"), "a", 200, json!({})),
                entry("GET", &at("/v1/events/made-1"), "a", 200, json!({})),
                entry("GET", &at("/v1/events/was%20there"), "a", 200, json!({})),
                entry("GET", &at("/v1/events/made-1"), "b", 200, json!({})),
                entry("GET", &at("/v1/events/x"), "a", 404, json!({})),
                entry("GET", &at("/logo.png"), "a", 200, Value::Null),
                entry("GET", "https://other.example/v1/events", "a", 200, json!({})),
                entry("GET", &at("/v1/events"), "", 200, json!({})),
            ],
            &[(2, "auditor")],
        );
        let given =
            |journey: usize, request: usize, name: &str| mapped.journeys[journey].requests[request].given.get(name);
        assert_eq!(given(0, 2, "cursor"), Some(&Given::Cursor(1)));
        assert_eq!(given(0, 2, "limit"), Some(&Given::Kept("5".into())));
        assert_eq!(given(0, 3, "id"), Some(&Given::Made(0)));
        assert_eq!(given(0, 4, "id"), Some(&Given::Row(0)));
        // What one user made was simply there for another.
        assert_eq!(given(1, 0, "id"), Some(&Given::Row(0)));
        assert_eq!(mapped.journeys[1].role, "auditor");
        let told = mapped.told(10).join("\n");
        for says in [
            "6 of 10",
            "answered 404",
            "GET /logo.png fits no operation",
            "other.example is another host",
            "without a credential",
        ] {
            assert!(told.contains(says), "{says}: {told}");
        }
    }
}
