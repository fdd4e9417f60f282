//! The tenant context of one connection as its statements set it: what holds for the session, what for the transaction,
//! what savepoints bring back, and what is left on the connection by whom.

use super::act::{Act, Value};
use super::binding::ROLE;
use crate::wire::{State, Who};

/// Advisory locks of one connection that are told apart.
const LOCKS_MAX: usize = 16;

/// Statements prepared by name on one connection that do something here.
const PREPARED_MAX: usize = 256;

/// Finds whom a value names.
pub trait Naming {
    /// Whom; none for an empty value, and for one of a place that names nobody.
    fn whom(&self, setting: &str, value: &[u8]) -> Option<Who>;
}

/// One way in which a tenant may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    setting: String,
    /// As the connection began.
    first: Option<Who>,
    session: Option<Option<Who>>,
    local: Option<Option<Who>>,
}

impl Slot {
    fn effective(&self) -> Option<Who> {
        self.local.or(self.session).unwrap_or(self.first)
    }
}

/// Something left on the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What.
    pub state: State,
    /// Its name.
    pub name: String,
    /// By whom.
    pub by: Who,
}

/// What a statement was given, and what came of it, as far as an act may need it.
#[derive(Clone, Copy, Default)]
pub struct Given<'g> {
    /// The values that were bound.
    pub parameters: &'g [Option<Box<[u8]>>],
    /// Whether a row came.
    pub any_row: bool,
    /// Whether the first value of the first row is false.
    pub refused: bool,
}

/// A connection's context.
#[derive(Clone, Debug, Default)]
pub struct Context {
    slots: Vec<Slot>,
    held: Vec<Held>,
    /// As they were when the last transaction had ended.
    committed: (Vec<Slot>, Vec<Held>),
    /// What statements that were prepared by name do.
    prepared: Vec<(String, Vec<Act>)>,
    savepoints: Vec<(String, Vec<Slot>, Vec<Held>)>,
    bound: Vec<Who>,
    /// Whether a transaction was begun, and has not ended.
    pub in_transaction: bool,
}

impl Context {
    /// Whom the connection itself names, by a parameter of its start: its database, its role, its settings.
    pub fn begin(&mut self, setting: &str, value: &[u8], naming: &impl Naming) {
        let whom = naming.whom(setting, value);
        self.slot(setting).first = whom;
        self.committed.0.clone_from(&self.slots);
        self.bind();
    }

    /// Who is bound, in every way that names somebody, each once.
    pub fn bound(&self) -> &[Who] {
        &self.bound
    }

    /// What is left on the connection.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Who is bound beyond the transaction, by something that was set since the connection began.
    pub fn left(&self) -> impl Iterator<Item = Who> {
        self.slots.iter().filter_map(|slot| slot.session.flatten())
    }

    fn slot(&mut self, setting: &str) -> &mut Slot {
        let at = self.slots.iter().position(|slot| slot.setting == setting).unwrap_or_else(|| {
            self.slots.push(Slot { setting: setting.into(), first: None, session: None, local: None });
            self.slots.len() - 1
        });
        &mut self.slots[at]
    }

    fn bind(&mut self) {
        self.bound.clear();
        for who in self.slots.iter().filter_map(Slot::effective) {
            if !self.bound.contains(&who) {
                self.bound.push(who);
            }
        }
    }

    /// Follows one act of a statement that came to its end.
    pub fn act(&mut self, act: &Act, given: Given<'_>, naming: &impl Naming) {
        let by = self.bound.first().copied();
        match act {
            Act::Begin => self.in_transaction = true,
            Act::Commit => self.end(true),
            Act::Rollback => self.end(false),
            Act::Savepoint(name) => self.savepoints.push((name.clone(), self.slots.clone(), self.held.clone())),
            Act::RollbackTo(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|(known, ..)| known == name) {
                    self.savepoints.truncate(at + 1);
                    self.slots.clone_from(&self.savepoints[at].1);
                    self.held.clone_from(&self.savepoints[at].2);
                }
            }
            Act::Set(setting, value, local) => {
                self.set(setting, &Value::Text(value.clone()), *local, given, naming);
            }
            // A function in a query is not called where no row comes.
            Act::Configure(setting, value, local) if given.any_row => {
                self.set(setting, value, is_true(local, given), given, naming);
            }
            Act::Bind(function, value) if given.any_row => self.set(function, value, true, given, naming),
            Act::Configure(..) | Act::Bind(..) => {}
            Act::Reset(setting) => {
                let slot = self.slot(setting);
                (slot.session, slot.local) = (None, None);
                if setting == ROLE {
                    self.take(State::Role, None);
                }
            }
            Act::ResetAll => {
                for slot in &mut self.slots {
                    // A role is no setting to this statement.
                    if slot.setting != ROLE {
                        (slot.session, slot.local) = (None, None);
                    }
                }
            }
            Act::DiscardAll => {
                self.slots.iter_mut().for_each(|slot| (slot.session, slot.local) = (None, None));
                self.held.clear();
                self.prepared.clear();
            }
            Act::Leave(state, name) => self.leave(*state, name, by),
            Act::LeaveIf(state) if !given.refused => self.leave(*state, "", by),
            Act::LeaveIf(_) => {}
            Act::Prepare(name, does) => {
                self.prepared.retain(|(known, _)| known != name);
                if self.prepared.len() < PREPARED_MAX {
                    self.prepared.push((name.clone(), does.clone()));
                }
            }
            Act::Execute(name, values) => self.execute(name, values, given, naming),
            Act::Take(state, name) => self.take(*state, name.as_deref()),
        }
        self.bind();
    }

    /// What was prepared under `name` is run with `values`.
    fn execute(&mut self, name: &str, values: &[Value], given: Given<'_>, naming: &impl Naming) {
        let Some((_, does)) = self.prepared.iter().find(|(known, _)| known == name).cloned() else { return };
        let value = |value: &Value| match value {
            Value::Text(text) => Some(Box::from(text.as_bytes())),
            Value::Parameter(number) => given.parameters.get(usize::from(*number).wrapping_sub(1)).cloned().flatten(),
            Value::Unknown => None,
        };
        let parameters: Vec<Option<Box<[u8]>>> = values.iter().map(value).collect();
        for act in &does {
            self.act(act, Given { parameters: &parameters, ..given }, naming);
        }
    }

    fn set(&mut self, setting: &str, value: &Value, local: bool, given: Given<'_>, naming: &impl Naming) {
        let bytes = match value {
            Value::Text(text) => Some(text.as_bytes()),
            Value::Parameter(number) => {
                given.parameters.get(usize::from(*number).wrapping_sub(1)).and_then(|value| value.as_deref())
            }
            Value::Unknown => None,
        };
        let whom = bytes.and_then(|bytes| naming.whom(setting, bytes));
        let by = self.bound.first().copied();
        let slot = self.slot(setting);
        if local {
            slot.local = Some(whom);
        } else {
            (slot.session, slot.local) = (Some(whom), None);
            if setting == ROLE {
                let name = String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
                self.take(State::Role, None);
                self.leave(State::Role, &name, by);
            }
        }
    }

    fn leave(&mut self, state: State, name: &str, by: Option<Who>) {
        let alike = self.held.iter().filter(|held| held.state == state && held.name == name).count();
        // Who left it first has it; only locks are counted, so far as they are worth it.
        if let Some(by) = by.filter(|_| alike == 0 || (state == State::AdvisoryLock && alike < LOCKS_MAX)) {
            self.held.push(Held { state, name: name.into(), by });
        }
    }

    fn take(&mut self, state: State, name: Option<&str>) {
        match name {
            None => self.held.retain(|held| held.state != state),
            Some(name) => {
                if let Some(at) = self.held.iter().rposition(|held| held.state == state && held.name == name) {
                    self.held.remove(at);
                }
            }
        }
    }

    /// The transaction has ended, or a statement outside of one.
    pub fn end(&mut self, committed: bool) {
        if !committed {
            // Of what is left on a connection only these locks outlast a rollback.
            let locks = self.held.drain(..).filter(|held| held.state == State::AdvisoryLock);
            let kept = self.committed.1.iter().filter(|held| held.state != State::AdvisoryLock).cloned();
            self.held = kept.chain(locks.collect::<Vec<_>>()).collect();
            self.slots.clone_from(&self.committed.0);
        }
        self.slots.iter_mut().for_each(|slot| slot.local = None);
        self.savepoints.clear();
        self.in_transaction = false;
        if self.committed.0 != self.slots {
            self.committed.0.clone_from(&self.slots);
        }
        if self.committed.1 != self.held {
            self.committed.1.clone_from(&self.held);
        }
        self.bind();
    }
}

/// Whether a value is true, as text or as one byte.
fn is_true(value: &Value, given: Given<'_>) -> bool {
    let bytes = match value {
        Value::Text(text) => Some(text.as_bytes()),
        Value::Parameter(number) => {
            given.parameters.get(usize::from(*number).wrapping_sub(1)).and_then(|value| value.as_deref())
        }
        Value::Unknown => None,
    };
    bytes.is_some_and(|bytes| matches!(bytes.first(), Some(b't' | b'T' | b'y' | b'Y' | b'1' | 1)) || bytes == b"on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Owner;
    use crate::wiretap::binding::Binding;

    /// Tenants are named by their number.
    struct Numbers;

    impl Naming for Numbers {
        fn whom(&self, _: &str, value: &[u8]) -> Option<Who> {
            let number = std::str::from_utf8(value).ok()?.trim_start_matches("tenant_").parse().ok()?;
            Some(Who::Tenant(Owner::new(number)))
        }
    }

    /// Who is bound after all of `script`, who beyond the transaction, and what is held; each statement has a row.
    fn after(script: &str) -> (Vec<u32>, Vec<u32>, Vec<(State, u32)>) {
        let binding = Binding { settings: vec!["t".into()], functions: vec!["enter".into()] };
        let mut context = Context::default();
        let parameters = [Some(Box::from(&b"7"[..])), Some(Box::from(&[1u8][..]))];
        for statement in binding.read(script) {
            for act in &statement.acts {
                let refused = statement.shape.contains("refused");
                let given = Given { parameters: &parameters, any_row: !statement.shape.contains("WHERE"), refused };
                context.act(act, given, &Numbers);
            }
        }
        let number = |who: &Who| match who {
            Who::Tenant(owner) => owner.index(),
            Who::Stranger(_) => u32::MAX,
        };
        let held = context.held().iter().map(|held| (held.state, number(&held.by))).collect();
        (context.bound().iter().map(number).collect(), context.left().map(|who| number(&who)).collect(), held)
    }

    #[test]
    fn a_tenant_is_bound_for_as_long_as_postgres_keeps_it() {
        for (script, bound, left) in [
            ("BEGIN; SET LOCAL t = '1'", &[1][..], &[][..]),
            ("BEGIN; SET LOCAL t = '1'; COMMIT", &[], &[]),
            ("BEGIN; SELECT set_config('t', '1', true); SELECT 1", &[1], &[]),
            ("BEGIN; SELECT set_config('t', '1', true) WHERE x", &[], &[]),
            ("BEGIN; SELECT set_config('t', $1, $2)", &[7], &[]),
            ("SET t = '1'", &[1], &[1]),
            ("BEGIN; SET t = '1'; ROLLBACK", &[], &[]),
            ("BEGIN; SET t = '1'; COMMIT", &[1], &[1]),
            ("SET t = '1'; BEGIN; SET LOCAL t = '2'", &[2], &[1]),
            ("SET t = '1'; BEGIN; SET LOCAL t = '2'; END", &[1], &[1]),
            ("SET t = '1'; RESET t", &[], &[]),
            ("SET t = '1'; RESET ALL", &[], &[]),
            ("SET t = '1'; DISCARD ALL", &[], &[]),
            ("SET t = '1'; SET t = ''", &[], &[]),
            ("BEGIN; SET LOCAL t = '1'; SAVEPOINT a; SET LOCAL t = '2'; ROLLBACK TO a", &[1], &[]),
            ("BEGIN; SAVEPOINT a; SET t = '2'; RELEASE a; COMMIT", &[2], &[2]),
            ("BEGIN; SELECT * FROM enter('3'); SET LOCAL t = '3'", &[3], &[]),
            ("BEGIN; SELECT * FROM enter('3'); SET LOCAL t = '4'", &[3, 4], &[]),
            ("PREPARE p AS SELECT set_config('t', $1, true); BEGIN; EXECUTE p('6')", &[6], &[]),
            ("PREPARE p AS SELECT set_config('t', $1, true)", &[], &[]),
            ("BEGIN; DO $$ BEGIN PERFORM set_config('t', '6', true); END $$", &[6], &[]),
            ("DO $$ BEGIN IF true THEN SET t = '6'; END IF; END $$", &[6], &[6]),
            ("SET search_path = tenant_5", &[5], &[5]),
            ("BEGIN; SET LOCAL ROLE tenant_5", &[5], &[]),
        ] {
            let (is, beyond, _) = after(script);
            assert_eq!((is.as_slice(), beyond.as_slice()), (bound, left), "{script}");
        }
    }

    #[test]
    fn what_is_left_is_left_by_whoever_was_bound_until_it_is_taken_away() {
        for (script, held) in [
            ("CREATE TEMP TABLE a (b int)", vec![]),
            ("BEGIN; SET LOCAL t = '1'; CREATE TEMP TABLE a (b int); COMMIT", vec![(State::TemporaryTable, 1)]),
            ("BEGIN; SET LOCAL t = '1'; CREATE TEMP TABLE a (b int); ROLLBACK", vec![]),
            ("BEGIN; SET LOCAL t = '1'; CREATE TEMP TABLE a (b int); COMMIT; DROP TABLE a", vec![]),
            ("BEGIN; SET LOCAL t = '1'; SELECT pg_advisory_lock(1); ROLLBACK", vec![(State::AdvisoryLock, 1)]),
            ("BEGIN; SET LOCAL t = '1'; SELECT pg_try_advisory_lock(refused); COMMIT", vec![]),
            ("BEGIN; SET LOCAL t = '1'; LISTEN c; COMMIT", vec![(State::Listening, 1)]),
            ("BEGIN; SET LOCAL t = '1'; LISTEN c; COMMIT; UNLISTEN *", vec![]),
            ("BEGIN; SET LOCAL t = '1'; SET ROLE other; COMMIT", vec![(State::Role, 1)]),
            ("BEGIN; SET LOCAL t = '1'; SET ROLE other; RESET ROLE; COMMIT", vec![]),
            ("BEGIN; SET LOCAL t = '1'; PREPARE p AS SELECT 1; COMMIT; DISCARD ALL", vec![]),
        ] {
            assert_eq!(after(script).2, held, "{script}");
        }
    }
}
