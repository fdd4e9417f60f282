//! Forgeries: another tenant claimed in every place that services have taken one from, and its objects named in other
//! spellings and by other verbs. Each operation meets each of them once a run, in turns of application role and pool
//! state.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::cast::Cast;
use super::request::TENANT_ROOTS;
use super::{Answer, Expect, Planner, Proof, Request, Step, Vector, spelling};
use crate::canary::Owner;
use crate::cell::{PoolState, Relation};
use crate::operation::{Operation, Place};
use crate::principal::NOBODY;
use crate::target::credential::Credential;
use crate::target::file::Access;

/// Where routers take a tenant from the path; `{}` is its name.
const PREFIXES: [&str; 5] = ["/t/{}", "/tenants/{}", "/orgs/{}", "/v1/tenants/{}", "/{}"];
/// Fields that are the service's to set.
const SERVICE_FIELDS: [&str; 8] =
    ["id", "tenant_id", "tenantId", "tenant", "org_id", "owner_id", "created_by", "parent_id"];
/// Words for a tenant in cookies and, where one is enough, elsewhere.
const TENANT_WORD: &str = "tenant_id";
const COOKIES: [&str; 4] = [TENANT_WORD, "tenant", "org", "workspace"];
/// What some frameworks take another verb from.
const OVERRIDES: [&str; 3] = ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"];
const VERBS: [&str; 9] = ["HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "QUERY"];

/// One forgery of one operation.
#[derive(Clone, Debug)]
pub(super) struct Forgery {
    operation: usize,
    way: Way,
}

/// How it is done. Numbers pick a name of the tenant, or one of several forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Host(usize),
    Forwarded(usize),
    Cookie(usize),
    Path(usize, usize),
    Name(usize),
    Repeated(usize),
    RepeatedFilter(bool),
    RepeatedKey,
    Nested,
    Reference,
    Form,
    Claim,
    Spelled(usize),
    Override(usize),
    Verb(&'static str),
}

/// All forgeries of a plan.
pub(super) fn forgeries(planner: &Planner) -> Vec<Forgery> {
    let names = planner.holdings.tenant_names(Owner::new(0)).len();
    let mut all = Vec::new();
    for (index, operation) in planner.plan.operations.iter().enumerate() {
        let Some(access) = planner.access(operation) else { continue };
        let foreign = access.relations.as_ref().is_none_or(|r| r.contains(&Relation::Foreign));
        if access.open || !foreign || planner.tenant_roles(access).is_empty() {
            continue;
        }
        let ways = planner.ways(index, access, names);
        all.extend(ways.into_iter().map(|way| Forgery { operation: index, way }));
    }
    all
}

impl Planner {
    /// The roles of a tenant that may call an operation.
    pub(super) fn tenant_roles<'a>(&self, access: &'a Access) -> Vec<&'a str> {
        let of_tenant = |role: &&str| self.plan.target.role(role).is_some_and(|r| !r.platform);
        access.allow.iter().map(String::as_str).filter(of_tenant).collect()
    }

    fn ways(&self, index: usize, access: &Access, names: usize) -> Vec<Way> {
        let operation = &self.plan.operations[index];
        let mut ways: Vec<Way> = Vec::new();
        // Which name is claimed changes with the operation, and the form with the number.
        let name = |turn: usize| turn % names;
        ways.extend([Way::Host(name(index)), Way::Forwarded(name(index)), Way::Cookie(name(index))]);
        ways.extend((0..PREFIXES.len()).map(|prefix| Way::Path(prefix, name(index + prefix))));
        ways.extend((names > 1).then(|| Way::Name(1 + index % (names - 1))));
        ways.extend((0..4).map(Way::Repeated));
        if self.filters(operation, access).next().is_some() {
            ways.extend([Way::RepeatedFilter(true), Way::RepeatedFilter(false)]);
        }
        if operation.body.as_ref().is_some_and(|body| body.content_type.contains("json")) {
            ways.extend([Way::RepeatedKey, Way::Nested, Way::Reference]);
            ways.extend(access.lines_of.is_none().then_some(Way::Form));
        }
        if operation.secured && self.login_role(access).is_some() {
            ways.push(Way::Claim);
        }
        if self.object_parameter(operation, access).is_some() {
            ways.extend((0..spelling::ALL.len()).map(Way::Spelled));
            ways.extend((0..3).map(Way::Override));
            let of_path = |o: &&Operation| o.path == operation.path;
            let first = self.plan.operations.iter().find(of_path).is_some_and(|o| o.id == operation.id);
            let documented = |verb: &str| self.plan.operations.iter().filter(of_path).any(|o| o.method == verb);
            ways.extend(VERBS.iter().filter(|verb| first && !documented(verb)).map(|verb| Way::Verb(verb)));
        }
        ways
    }

    /// The last path parameter that names a planted row.
    fn object_parameter<'a>(&self, operation: &'a Operation, access: &'a Access) -> Option<(&'a str, &'a str)> {
        self.plan.target.rows_in_path(operation, access).last()
    }

    fn filters<'a>(&self, operation: &'a Operation, access: &'a Access) -> impl Iterator<Item = (&'a str, &'a str)> {
        let filters = operation.parameters_in(Place::Query);
        filters.filter_map(|p| Some((p.name.as_str(), access.params.get(&p.name)?.as_str())))
    }

    /// A role whose credential is a token with claims.
    fn login_role<'a>(&self, access: &'a Access) -> Option<&'a str> {
        self.tenant_roles(access).into_iter().find(|role| {
            let role = self.plan.target.role(role).and_then(|r| self.plan.target.credential.get(&r.credential));
            matches!(role, Some(Credential::Login { .. } | Credential::Jwt { .. }))
        })
    }

    /// The steps of one forgery.
    pub(super) fn forgery(&self, pool_state: PoolState, forgery: &Forgery, turn: u64) -> Result<Vec<Step>, String> {
        let operation = &self.plan.operations[forgery.operation];
        let Some(access) = self.access(operation) else { return Ok(Vec::new()) };
        let roles = self.tenant_roles(access);
        let role = roles[turn as usize % roles.len()];
        let tenants = self.plan.bounds.tenants;
        let observer = (turn % u64::from(tenants)) as u32;
        let (observer, other) = (Owner::new(observer), Owner::new((observer + 1) % tenants));
        let cast = Cast { operation, access, pool_state, observer, other, turn };
        let mut steps = Vec::new();
        match forgery.way {
            Way::Claim => self.reclaimed(&cast, &mut steps)?,
            Way::Spelled(_) | Way::Override(_) | Way::Verb(_) => {
                steps.push(self.named_oddly(&cast, role, forgery.way)?);
            }
            way => {
                let vector = vector(way);
                self.forge(&cast, role, Relation::Foreign, vector, &mut steps, |request| {
                    self.claiming(request, &cast, role, way)
                })?;
                let made = access.creates.is_some() && self.object_parameter(operation, access).is_none();
                if made && matches!(way, Way::RepeatedKey | Way::Nested | Way::Reference | Way::Form) {
                    let before = steps.len();
                    self.read_back(&cast, role, &mut steps)?;
                    for step in &mut steps[before..] {
                        step.vector = vector;
                        step.requirement = self.requirement(&cast, role, Relation::Foreign, vector);
                    }
                }
                if matches!(way, Way::RepeatedKey | Way::Nested | Way::Reference | Way::Form) {
                    self.handed_away(&cast, role, way, &mut steps)?;
                }
            }
        }
        Ok(steps)
    }

    /// What is one's own is changed with the other's tenant in the body: it is not the other's after that.
    fn handed_away(&self, cast: &Cast<'_>, role: &str, way: Way, steps: &mut Vec<Step>) -> Result<(), String> {
        let before = steps.len();
        let changes = !cast.reads() && cast.access.creates.is_none() && cast.operation.method != "DELETE";
        if !changes || self.object_parameter(cast.operation, cast.access).is_none() {
            return Ok(());
        }
        let Some((name, made)) = self.made(cast, role, steps)? else { return Ok(()) };
        let vector = vector(way);
        let mut step = self.step(cast, role, Relation::Own, vector, BTreeMap::from([(name, made)]))?;
        step.request = self.claiming(step.request, cast, role, way);
        step.cell.relation = Relation::Foreign;
        step.subject = Some(cast.other);
        steps.push(step);
        self.read_back(cast, role, steps)?;
        for step in &mut steps[before + 1..] {
            step.vector = vector;
            step.requirement = self.requirement(cast, role, Relation::Foreign, vector);
            // Who takes such a field in earnest may refuse it, and then the row is as it was.
            if step.expect.answer == Answer::Success {
                step.expect.answer = Answer::Either;
            }
        }
        Ok(())
    }

    fn reclaimed(&self, cast: &Cast<'_>, steps: &mut Vec<Step>) -> Result<(), String> {
        let Some(role) = self.login_role(cast.access) else { return Ok(()) };
        let given = self.prepared(cast, role, steps)?;
        let named = self.object_parameter(cast.operation, cast.access).map_or(Relation::Own, |_| Relation::Foreign);
        let mut step = self.step(cast, role, named, Vector::ForgedClaim, given)?;
        let id = |owner| self.holdings.tenant_id(owner);
        step.request.proof = Proof::Reclaimed(id(cast.observer), id(cast.other));
        step.cell.role = NOBODY.into();
        step.cell.relation = Relation::Foreign;
        step.subject = Some(cast.other);
        step.expect = Expect { answer: Answer::Refused, ..Expect::default() };
        steps.push(step);
        Ok(())
    }

    /// An object of the subject, in another spelling or by another verb.
    fn named_oddly(&self, cast: &Cast<'_>, role: &str, way: Way) -> Result<Step, String> {
        let mut given = self.below(cast, cast.observer)?;
        if let (Way::Spelled(index), Some((name, reference))) =
            (way, self.object_parameter(cast.operation, cast.access))
        {
            let row = self.row(cast, role);
            let own = self.planted(cast.observer, row, reference)?;
            given.insert(name.to_string(), spelling::ALL[index](&self.planted(cast.other, row, reference)?, &own));
        }
        let mut step = self.step(cast, role, Relation::Foreign, vector(way), given)?;
        step.expect = Expect { answer: Answer::Denied, ..Expect::default() };
        let request = &mut step.request;
        match way {
            Way::Override(form) => {
                let documented = std::mem::replace(&mut request.method, ["GET", "POST", "POST"][form].into());
                let meant = if documented == request.method { "DELETE".into() } else { documented };
                if form == 2 {
                    request.query.push(("_method".into(), meant));
                } else {
                    request.headers.extend(OVERRIDES.map(|name| (name.into(), meant.clone())));
                }
            }
            Way::Verb(verb) => {
                request.method = verb.into();
                // What may be done tells nothing of what is there.
                if verb == "OPTIONS" {
                    step.expect.answer = Answer::Either;
                }
            }
            _ => {}
        }
        Ok(step)
    }

    /// `request` with the subject claimed in `way`.
    fn claiming(&self, mut request: Request, cast: &Cast<'_>, role: &str, way: Way) -> Request {
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
            Way::Claim | Way::Spelled(_) | Way::Override(_) | Way::Verb(_) => {}
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

fn vector(way: Way) -> Vector {
    match way {
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
        Way::Spelled(_) => Vector::Spelling,
        Way::Override(_) => Vector::Override,
        Way::Verb(_) => Vector::Verb,
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
