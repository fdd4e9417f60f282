//! Sessions: what begins one and what ends it, read from the document. Whatever ends the session that it is called in is
//! called in one begun for the occasion, and what that session opened is shut after it, as a credential is that was revoked.

use std::collections::{BTreeMap, BTreeSet};

use super::cast::{Cast, id_parameter};
use super::{Answer, Expect, Planner, Proof, Request, Step, Vector};
use crate::canary::Owner;
use crate::cell::Relation;
use crate::operation::Operation;
use crate::principal::NOBODY;
use crate::target::credential::{Credential, Send};
use crate::target::file::Access;

/// That a credential which was revoked opens nothing.
const REVOKED: &str = "live/revoked";
/// That a session which was ended opens nothing.
const SIGNED_OUT: &str = "live/signed-out";

/// The name of what an earlier step was issued; it says that it is a secret.
const ISSUED: &str = "issued token";

/// How a session is begun.
#[derive(Clone, Copy)]
pub(super) struct Entry<'p> {
    pub(super) operation: &'p Operation,
    pub(super) access: &'p Access,
    /// Where its token is in the answer.
    pub(super) token: &'p str,
    /// Where the token goes.
    pub(super) send: &'p Send,
}

/// What an operation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// The session that it is called in.
    Session,
    /// The token that it is given.
    Token,
}

/// What an operation ends, by what it is called (RFC 7009 for tokens).
fn ends(operation: &Operation) -> Option<Ends> {
    let mut literal = operation.path.split('/').filter(|part| !part.starts_with('{'));
    let all = literal.clone().flat_map(words).chain(["/".to_string()]).chain(words(&operation.id));
    let all: Vec<String> = all.collect();
    let says = |word: &str| all.iter().any(|known| known == word);
    let pair = |first: &str, then: &str| all.windows(2).any(|two| two[0] == first && two[1] == then);
    let out = ["logout", "logoff", "signout", "signoff"].into_iter().any(says)
        || ["log", "sign"].into_iter().any(|word| pair(word, "out") || pair(word, "off"))
        || ["end", "close", "destroy", "terminate"].into_iter().any(|word| pair(word, "session"));
    let last = literal.rfind(|part| !["current", "me", "this"].contains(part)).unwrap_or_default();
    let deletes = operation.method == "DELETE" && words(last).any(|word| word == "session" || word == "sessions");
    match operation.is_read() {
        true => None,
        false if out || deletes => Some(Ends::Session),
        false => ["revoke", "revocation"].into_iter().any(says).then_some(Ends::Token),
    }
}

/// `signOut`, `sign_out` and `sign-out` in words.
fn words(name: &str) -> impl Iterator<Item = String> {
    let mut all = vec![String::new()];
    let mut small = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && small) {
            all.push(String::new());
        }
        small = c.is_lowercase();
        if let (true, Some(word)) = (c.is_alphanumeric(), all.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    all.into_iter().filter(|word| !word.is_empty())
}

/// `request` with what an earlier step was issued as its credential.
pub(super) fn present(request: &mut Request, send: &Send, issued: &str) {
    request.proof = Proof::Issued;
    for place in send.places() {
        let place = place.replace("{token}", &format!("⟦{issued}⟧"));
        let header = place.split_once(": ").map(|(name, value)| (name.into(), value.into()));
        let parameter = place.strip_prefix('?').and_then(|place| place.split_once('='));
        match parameter {
            Some((name, value)) => request.query.push((name.into(), value.into())),
            None => request.headers.extend(header),
        }
    }
}

impl Planner {
    /// What ends a session and names no row: its operation, and what it ends.
    fn ender<'p>(&'p self, operation: &'p Operation) -> Option<(&'p Access, Ends)> {
        let access = self.access(operation)?;
        let named = access.table.is_some() || access.creates.is_some() || access.list.is_some();
        Some((access, ends(operation).filter(|_| !named)?))
    }

    /// How `role` begins a session, where the document has it.
    pub(super) fn entry(&self, role: &str) -> Option<Entry<'_>> {
        let credential = self.plan.target.credential.get(&self.plan.target.role(role)?.credential)?;
        let Credential::Login { path, token, send, .. } = credential else { return None };
        let operation = self.plan.operations.iter().find(|o| o.method == "POST" && o.path == *path)?;
        let access = self.access(operation)?;
        let may = access.open || access.allow.iter().any(|r| r == role);
        may.then_some(Entry { operation, access, token, send })
    }

    /// What `role` may call with what it was issued as its session began, and what ends none.
    pub(super) fn renewers(&self, role: &str, entry: &Entry<'_>) -> Vec<(&Operation, &Access)> {
        let known = self.plan.operations.iter().filter_map(|operation| Some((operation, self.access(operation)?)));
        let renews = known.filter(|(operation, access)| {
            let begun = access.prepare.as_ref().is_some_and(|prepare| prepare.operation == entry.operation.id);
            let may = access.open || access.allow.iter().any(|allowed| allowed == role);
            begun && may && self.ender(operation).is_none()
        });
        renews.collect()
    }

    /// Operations that end a session which a tenant's principal can begin: what that is, and by which roles.
    pub(super) fn enders(&self) -> Vec<(usize, Vec<&str>)> {
        let operations = self.plan.operations.iter().enumerate();
        let all = operations.filter_map(|(index, operation)| {
            let (access, _) = self.ender(operation)?;
            let roles = self.plan.target.role.iter().filter(|role| !role.platform).map(|role| role.name.as_str());
            let may = |role: &&str| access.open || access.allow.iter().any(|allowed| allowed == role);
            let roles = roles.filter(may).filter(|role| self.entry(role).is_some() && self.opened_by(role).is_some());
            Some((index, roles.collect::<Vec<_>>())).filter(|(_, roles)| !roles.is_empty())
        });
        all.collect()
    }

    /// What `role` may read without naming anything, of itself rather than of rows.
    fn opened_by(&self, role: &str) -> Option<(&Operation, &Access)> {
        let reads = self.plan.operations.iter().filter(|o| o.is_read() && self.is_plain(o));
        let may = reads.filter_map(|o| Some((o, self.access(o)?))).filter(|(operation, access)| {
            let streams = operation.answer.as_ref().is_some_and(|a| a.content_type.contains("event-stream"));
            !access.open && !streams && access.allow.iter().any(|allowed| allowed == role)
        });
        may.min_by_key(|(_, access)| access.table.is_some())
    }

    /// The ids of all operations that end a session.
    pub(super) fn endings(&self) -> BTreeSet<String> {
        let all = self.plan.operations.iter().filter(|operation| self.ender(operation).is_some());
        all.map(|operation| operation.id.clone()).collect()
    }

    /// The same steps, where whoever ends a session has begun it just before: the run's own must last.
    pub(super) fn sheltered(&self, steps: Vec<Step>) -> Result<Vec<Step>, String> {
        if !steps.iter().any(|step| self.endings.contains(&step.cell.operation)) {
            return Ok(steps);
        }
        let mut all: Vec<Step> = Vec::new();
        for (number, mut step) in steps.into_iter().enumerate() {
            let ends = self.endings.contains(&step.cell.operation);
            let own = step.request.proof == Proof::AsIssued && step.actor.role != NOBODY;
            if let (Some(entry), true) = (self.entry(&step.actor.role), own && ends) {
                let name = format!("session token {number}");
                let begun = |last: &Step| last.cell.operation == entry.operation.id && last.actor == step.actor;
                if !all.last().is_some_and(begun) {
                    let observer = step.actor.tenant.unwrap_or(Owner::PLATFORM);
                    let (operation, access) = (entry.operation, entry.access);
                    let pool_state = step.cell.pool_state;
                    let cast = Cast { operation, access, pool_state, observer, other: observer, turn: 0 };
                    let mut begins =
                        self.step(&cast, &step.actor.role, Relation::Own, Vector::Plain, BTreeMap::new())?;
                    begins.expect = Expect { answer: Answer::Success, ..Expect::default() };
                    all.push(begins);
                }
                all.iter_mut().last().into_iter().for_each(|begins| {
                    begins.captures.insert(name.clone(), entry.token.into());
                });
                present(&mut step.request, entry.send, &name);
            }
            all.push(step);
        }
        Ok(all)
    }

    /// A session is begun, and used; it is ended, and opens nothing any more; nor is it renewed by what the end was told.
    pub(super) fn signed_out(&self, cast: &Cast<'_>, roles: &[&str]) -> Result<Vec<Step>, String> {
        let role = roles[cast.turn as usize % roles.len()];
        let (Some((access, ends)), Some(entry)) = (self.ender(cast.operation), self.entry(role)) else {
            return Ok(Vec::new());
        };
        let Some((operation, opens)) = self.opened_by(role) else { return Ok(Vec::new()) };
        let own = |step: &mut Step| {
            step.vector = Vector::Story;
            step.requirement = SIGNED_OUT.into();
            step.expect = Expect { answer: Answer::Success, ..Expect::default() };
        };
        let mut steps = Vec::new();
        let given = self.prepared(cast, role, &mut steps)?;
        let told = steps.last().is_some_and(|step| step.cell.operation == entry.operation.id);
        if !told {
            let begins = Cast { operation: entry.operation, access: entry.access, ..*cast };
            steps.push(self.step(&begins, role, Relation::Own, Vector::Story, BTreeMap::new())?);
        }
        let issued = ISSUED;
        steps.iter_mut().last().into_iter().for_each(|begins| {
            begins.captures.insert(issued.into(), entry.token.into());
        });
        let opened = Cast { operation, access: opens, ..*cast };
        let mut opened = self.step(&opened, role, Relation::Own, Vector::Story, BTreeMap::new())?;
        let mut ended = self.step(cast, role, Relation::Own, Vector::Story, given)?;
        for step in [&mut opened, &mut ended] {
            present(&mut step.request, entry.send, issued);
        }
        let mut after = Vec::new();
        // Of a refresh token that is revoked, the access tokens may run out by themselves (RFC 7009, 2.1).
        if ends == Ends::Session || access.prepare.is_none() {
            after.push(opened.clone());
        }
        for renewer in self.plan.target.operation.iter().filter(|renewer| told && renewer.id != access.id) {
            let same = renewer
                .prepare
                .as_ref()
                .zip(access.prepare.as_ref())
                .is_some_and(|(one, other)| one.operation == other.operation && one.capture == other.capture);
            let may = renewer.open || renewer.allow.iter().any(|allowed| allowed == role);
            let operation = self.operation(&renewer.id).filter(|o| same && may && self.ender(o).is_none());
            let Some(operation) = operation else { continue };
            let renews = Cast { operation, access: renewer, ..*cast };
            let mut step = self.step(&renews, role, Relation::Own, Vector::Story, BTreeMap::new())?;
            present(&mut step.request, entry.send, issued);
            after.push(step);
        }
        steps.extend([opened, ended]);
        steps.iter_mut().for_each(own);
        for mut step in after {
            own(&mut step);
            step.cell.role = NOBODY.into();
            step.expect.answer = Answer::Refused;
            steps.push(step);
        }
        Ok(steps)
    }

    /// A credential is issued, and used; it is revoked, and opens nothing any more.
    pub(super) fn revoked(&self, maker: &Cast<'_>, ender: &Cast<'_>, used: &Cast<'_>) -> Result<Vec<Step>, String> {
        let (Some(issued), Some(table)) = (&maker.access.issues, maker.access.table.as_deref()) else {
            return Ok(Vec::new());
        };
        let Some(parameter) = id_parameter(ender.operation, ender.access, table) else { return Ok(Vec::new()) };
        let credential =
            self.plan.target.role(&issued.role).and_then(|r| self.plan.target.credential.get(&r.credential));
        let send = credential.ok_or("a credential that the target file does not have")?.send();
        let mut made = self.told(maker, REVOKED, BTreeMap::new())?;
        made.captures.insert(ISSUED.into(), issued.token.clone());
        let mut opened = self.step(used, &issued.role, Relation::Own, Vector::Story, BTreeMap::new())?;
        opened.requirement = REVOKED.into();
        present(&mut opened.request, send, ISSUED);
        opened.expect = Expect { answer: Answer::Success, ..Expect::default() };
        let ended = self.told(ender, REVOKED, BTreeMap::from([(parameter, "⟦made⟧".to_string())]))?;
        let mut after = opened.clone();
        after.cell.role = NOBODY.into();
        after.expect.answer = Answer::Refused;
        Ok(vec![made, opened, ended, after])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_session_is_known_by_what_it_is_called() {
        let of = |id: &str, method: &str, path: &str| {
            ends(&Operation {
                id: id.into(),
                method: method.into(),
                path: path.into(),
                parameters: Vec::new(),
                body: None,
                answer: None,
                secured: true,
            })
        };
        for (id, method, path) in [
            ("sign_out", "POST", "/v1/sign-out"),
            ("signOut", "POST", "/x"),
            ("x", "POST", "/auth/logout"),
            ("x", "POST", "/users/log_out"),
            ("x", "DELETE", "/session"),
            ("x", "DELETE", "/api/sessions/current"),
            ("endSession", "POST", "/x"),
        ] {
            assert_eq!(of(id, method, path), Some(Ends::Session), "{id} {method} {path}");
        }
        assert_eq!(of("x", "POST", "/oauth/revoke"), Some(Ends::Token));
        for (id, method, path) in [
            ("list_sessions", "GET", "/sessions"),
            ("begin", "POST", "/sessions"),
            ("design_outline", "POST", "/design/outline"),
            ("blog_out", "POST", "/blog/outbox"),
            ("x", "DELETE", "/sessions/{id}/notes/{note}"),
            ("log", "POST", "/outputs"),
        ] {
            assert_eq!(of(id, method, path), None, "{id} {method} {path}");
        }
    }
}
