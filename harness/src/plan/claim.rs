//! How another tenant is claimed in a request.

use serde_json::{Map, Value, json};

use super::cast::Cast;
use super::request::TENANT_ROOTS;
use super::{Planner, Request, Vector};
use crate::operation::{Operation, Parameter, Place};
use crate::target::credential::Flaw;

/// Where routers take a tenant from the path; `{}` is its name.
pub(super) const PREFIXES: [&str; 5] = ["/t/{}", "/tenants/{}", "/orgs/{}", "/v1/tenants/{}", "/{}"];
/// Fields that are the service's to set.
const SERVICE_FIELDS: [&str; 8] =
    ["id", "tenant_id", "tenantId", "tenant", "org_id", "owner_id", "created_by", "parent_id"];
/// Words for a tenant in cookies and, where one is enough, elsewhere.
const TENANT_WORD: &str = "tenant_id";
const COOKIES: [&str; 4] = [TENANT_WORD, "tenant", "org", "workspace"];

/// How it is done. Numbers pick a name of the tenant, or one of several forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Host(usize),
    Forwarded(usize),
    Cookie(usize),
    Path(usize, usize),
    Name(usize),
    /// A parameter of the document's own that may well take a tenant, by its place there.
    Taker(usize, usize),
    /// A body that says the tenant, where the target file has it.
    Told,
    Repeated(usize),
    RepeatedFilter(bool),
    RepeatedKey,
    Nested,
    Reference,
    Form,
    Claim,
    /// A credential whose header says by which key it is to be believed.
    Misled(Flaw),
    Spelled(usize),
    Override(usize),
    Verb(&'static str),
}

impl Planner {
    /// `request` with the subject claimed in `way`.
    pub(super) fn claiming(&self, mut request: Request, cast: &Cast<'_>, role: &str, way: Way) -> Request {
        let id = self.holdings.tenant_id(cast.other).to_string();
        let own = self.holdings.tenant_id(cast.observer).to_string();
        let json = |owner| self.holdings.tenant_json(owner);
        let name = |index: usize| self.holdings.tenant_names(cast.other).swap_remove(index);
        let mut header = |name: &str, value: String| request.headers.push((name.into(), value));
        let mut ask = |name: &str, value: &str| request.query.push((name.into(), value.into()));
        match way {
            Way::Host(index) => header("Host", format!("{}.example.org", name(index))),
            Way::Forwarded(index) => {
                let (name, path) = (name(index), &request.path);
                header("X-Forwarded-Host", format!("{name}.example.org"));
                header("X-Original-Host", format!("{name}.example.org"));
                header("Forwarded", format!("for=192.0.2.1;host={name}.example.org;proto=https"));
                header("X-Forwarded-Prefix", format!("/{name}"));
                header("X-Original-URL", format!("/t/{name}{path}"));
            }
            Way::Cookie(index) => {
                let name = name(index);
                header("Cookie", COOKIES.map(|word| format!("{word}={name}")).join("; "));
            }
            Way::Path(prefix, index) => {
                let plain = request.path.strip_prefix("/v1").filter(|_| PREFIXES[prefix].starts_with("/v1"));
                request.path =
                    format!("{}{}", PREFIXES[prefix].replace("{}", &name(index)), plain.unwrap_or(&request.path));
            }
            Way::Name(index) => {
                let name = name(index);
                COOKIES.iter().for_each(|word| ask(word, &name));
            }
            Way::Taker(place, index) => {
                put(&mut request, &cast.operation.parameters[place], &name(index));
            }
            Way::Told => request.body.iter_mut().for_each(|(_, body)| *body = body.replace(&own, &id)),
            Way::Repeated(0) => [&own, &id].iter().for_each(|value| ask(TENANT_WORD, value)),
            Way::Repeated(1) => [&id, &own].iter().for_each(|value| ask(TENANT_WORD, value)),
            Way::Repeated(2) => ask(&format!("{TENANT_WORD}[]"), &id),
            Way::Repeated(_) => ask(TENANT_WORD, &format!("{own},{id}")),
            Way::RepeatedFilter(own_first) => {
                let row = self.row(cast, role);
                for (name, reference) in self.filters(cast.operation, cast.access) {
                    let order = if own_first { [cast.observer, cast.other] } else { [cast.other, cast.observer] };
                    request.query.retain(|(given, _)| given != name);
                    let values = order.iter().filter_map(|owner| self.planted(*owner, row, reference).ok());
                    request.query.extend(values.map(|value| (name.to_string(), value)));
                }
            }
            Way::RepeatedKey => by_line(&mut request, |line| {
                let rest = line.trim_start().strip_prefix('{')?;
                let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
                let (own, id) = (json(cast.observer), json(cast.other));
                Some(format!(r#"{{"{TENANT_WORD}":{own},"{TENANT_WORD}":{id}{comma}{rest}"#))
            }),
            Way::Nested => by_line(&mut request, |line| {
                with(line, |fields| {
                    let id = json(cast.other);
                    for root in TENANT_ROOTS.iter().copied().chain(["organization"]) {
                        let word = format!("{root}_id");
                        fields.entry(root).or_insert(json!({ "id": id, TENANT_WORD: id, word: id }));
                    }
                    fields.entry(TENANT_WORD).or_insert(json!([id]));
                })
            }),
            Way::Reference => {
                let values = self.service_fields(cast, role);
                by_line(&mut request, |line| {
                    with(line, |fields| {
                        values.iter().for_each(|(name, value)| drop(fields.insert(name.clone(), value.clone())))
                    })
                });
            }
            Way::Form => as_form(&mut request, &id),
            Way::Claim | Way::Misled(_) | Way::Spelled(_) | Way::Override(_) | Way::Verb(_) => {}
        }
        request
    }

    /// Fields that the service answers and does not take, with ids of the subject.
    fn service_fields(&self, cast: &Cast<'_>, role: &str) -> Vec<(String, Value)> {
        let properties = |body: &Option<crate::operation::Body>| -> Map<String, Value> {
            let schema = body.as_ref().and_then(|b| b.schema.get("properties")).and_then(Value::as_object);
            schema.cloned().unwrap_or_default()
        };
        let taken = properties(&cast.operation.body);
        let answered = properties(&cast.operation.answer);
        let ids = answered.iter().filter(|(_, s)| s.get("format").and_then(Value::as_str) == Some("uuid"));
        let names = SERVICE_FIELDS.iter().map(|n| (*n).to_string()).chain(ids.map(|(name, _)| name.clone()));
        let table = cast.access.table.as_deref();
        let value = |name: &str| {
            let row = self.row(cast, role);
            let planted = table.and_then(|t| self.holdings.value(cast.other, row, t, name).ok()?.json());
            planted.unwrap_or_else(|| self.holdings.tenant_json(cast.other))
        };
        // What the service takes is the tenant's own data, whatever it names.
        names.filter(|name| !taken.contains_key(name)).map(|name| (name.clone(), value(&name))).collect()
    }
}

/// By what means that way reaches for its subject.
pub(super) fn vector(way: Way, operation: &Operation) -> Vector {
    match way {
        Way::Taker(place, _) => match operation.parameters[place].place {
            Place::Header => Vector::ForgedHeader,
            Place::Cookie => Vector::ForgedCookie,
            _ => Vector::ForgedQuery,
        },
        Way::Told => Vector::ForgedBody,
        Way::Host(_) => Vector::ForgedHost,
        Way::Forwarded(_) => Vector::ForgedForwarded,
        Way::Cookie(_) => Vector::ForgedCookie,
        Way::Path(..) => Vector::ForgedPath,
        Way::Name(_) => Vector::ForgedName,
        Way::Repeated(_) | Way::RepeatedFilter(_) => Vector::Repeated,
        Way::RepeatedKey => Vector::RepeatedKey,
        Way::Nested => Vector::NestedBody,
        Way::Reference => Vector::BodyReference,
        Way::Form => Vector::FormBody,
        Way::Claim => Vector::ForgedClaim,
        Way::Misled(_) => Vector::Credential,
        Way::Spelled(_) => Vector::Spelling,
        Way::Override(_) => Vector::Override,
        Way::Verb(_) => Vector::Verb,
    }
}

/// `value` in the place of a parameter.
pub(super) fn put(request: &mut Request, parameter: &Parameter, value: &str) {
    let name = parameter.name.as_str();
    match parameter.place {
        Place::Cookie => request.headers.push(("Cookie".into(), format!("{name}={value}"))),
        place => {
            let all = if place == Place::Header { &mut request.headers } else { &mut request.query };
            all.retain(|(given, _)| given != name);
            all.push((name.into(), value.into()));
        }
    }
}

/// Changes each line of the body that `change` can change.
fn by_line(request: &mut Request, change: impl Fn(&str) -> Option<String>) {
    if let Some((_, body)) = &mut request.body {
        let lines = body.lines().map(|line| change(line).unwrap_or_else(|| line.into()));
        *body = lines.collect::<Vec<_>>().join("\n");
    }
}

/// A JSON object with `change` made to its fields.
fn with(line: &str, change: impl FnOnce(&mut Map<String, Value>)) -> Option<String> {
    let mut fields = serde_json::from_str::<Map<String, Value>>(line).ok()?;
    change(&mut fields);
    Some(Value::Object(fields).to_string())
}

/// The body's fields as a form, with the tenant among them.
fn as_form(request: &mut Request, tenant: &str) {
    let Some((content_type, body)) = &mut request.body else { return };
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(body) else { return };
    let pairs = fields.iter().map(|(name, value)| (name.clone(), super::request::text_of(value)));
    let pairs = pairs.chain([(TENANT_WORD.to_string(), tenant.to_string())]);
    *body = pairs
        .map(|(name, value)| format!("{}={}", form_encoded(&name), form_encoded(&value)))
        .collect::<Vec<_>>()
        .join("&");
    *content_type = "application/x-www-form-urlencoded".into();
}

/// Placeholders stay what they are: the driver fills them in.
fn form_encoded(text: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for c in text.chars() {
        inside = c == '⟦' || (inside && c != '⟧');
        if inside || c == '⟧' || c.is_ascii_alphanumeric() || "-._~".contains(c) {
            out.push(c);
        } else {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")));
        }
    }
    out
}
