//! What a statement does to its connection: whom it binds, what it leaves behind, where a transaction begins and ends.

use super::binding::{Binding, ROLE};
use super::token::{Token, tokens};
use crate::wire::State;

/// A value that a statement is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// It stands there.
    Text(String),
    /// It is bound, the first one has number 1.
    Parameter(u16),
    /// It is computed.
    Unknown,
}

impl Value {
    /// It, where it stands there.
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parameter(_) | Self::Unknown => String::new(),
        }
    }
}

/// One thing that a statement does, once it came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Begins a transaction.
    Begin,
    /// Commits it.
    Commit,
    /// Rolls it back.
    Rollback,
    /// Sets a savepoint.
    Savepoint(String),
    /// Goes back to one.
    RollbackTo(String),
    /// Sets a setting, for the transaction alone when the third is true.
    Set(String, String, bool),
    /// Calls the function that does.
    Configure(String, Value, Value),
    /// Gives a setting its first value again.
    Reset(String),
    /// Calls a function that binds whom its argument names.
    Bind(String, Value),
    /// Leaves something behind, by its name.
    Leave(State, String),
    /// As [`Act::Leave`], unless the function answered false.
    LeaveIf(State),
    /// Takes it away; all of it without a name.
    Take(State, Option<String>),
    /// Gives all settings their first values again.
    ResetAll,
    /// Takes everything away.
    DiscardAll,
    /// Prepares what does this once it is run.
    Prepare(String, Vec<Act>),
    /// Runs what was prepared, with these values.
    Execute(String, Vec<Value>),
}

impl Binding {
    /// What a statement does, in order.
    pub(super) fn acts(&self, part: &[Token<'_>], acts: &mut Vec<Act>) {
        let word = |at: usize| part.get(at).copied().unwrap_or(Token::Sign(b' '));
        let name = |at: usize| word(at).says().unwrap_or_default().to_ascii_lowercase();
        let Token::Word(first) = word(0) else { return self.calls(part, acts) };
        match first.to_ascii_lowercase().as_str() {
            "begin" | "start" => acts.push(Act::Begin),
            "commit" | "end" => acts.push(Act::Commit),
            "rollback" | "abort" => match part.iter().position(|token| token.is("to")) {
                Some(to) => acts.push(Act::RollbackTo(name(to + 1 + usize::from(word(to + 1).is("savepoint"))))),
                None => acts.push(Act::Rollback),
            },
            "savepoint" => acts.push(Act::Savepoint(name(1))),
            "set" => acts.extend(self.set(&part[1..])),
            "reset" if word(1).is("all") => acts.push(Act::ResetAll),
            "reset" => {
                let setting = if word(1).is("session") { ROLE.into() } else { qualified(&part[1..]) };
                acts.push(Act::Reset(setting));
            }
            "discard" if word(1).is("all") => acts.push(Act::DiscardAll),
            "discard" if word(1).is("temp") || word(1).is("temporary") => {
                acts.push(Act::Take(State::TemporaryTable, None));
            }
            "discard" if word(1).is("plans") => acts.push(Act::Take(State::Prepared, None)),
            "create" => acts.extend(temporary(&part[1..])),
            "drop" if word(1).is("table") => {
                let at = 2 + 2 * usize::from(word(2).is("if"));
                acts.push(Act::Take(State::TemporaryTable, Some(last_name(&part[at.min(part.len())..]))));
            }
            "declare" if part.windows(2).any(|pair| pair[0].is("with") && pair[1].is("hold")) => {
                acts.push(Act::Leave(State::Cursor, name(1)));
            }
            "close" => acts.push(Act::Take(State::Cursor, (!word(1).is("all")).then(|| name(1)))),
            "listen" => acts.push(Act::Leave(State::Listening, name(1))),
            "unlisten" => acts.push(Act::Take(State::Listening, word(1).says().map(str::to_ascii_lowercase))),
            "prepare" if word(1).is("transaction") => acts.push(Act::Commit),
            "prepare" => {
                acts.push(Act::Leave(State::Prepared, name(1)));
                let mut does = Vec::new();
                let from = part.iter().position(|token| token.is("as")).map_or(part.len(), |at| at + 1);
                self.acts(&part[from..], &mut does);
                does.retain(|act| !matches!(act, Act::Prepare(..) | Act::Execute(..)));
                acts.extend((!does.is_empty()).then(|| Act::Prepare(name(1), does)));
            }
            "execute" => {
                let given = if word(2) == Token::Sign(b'(') { arguments(&part[3..]) } else { Vec::new() };
                acts.push(Act::Execute(name(1), given));
            }
            "do" => {
                for token in part {
                    if let Token::Text(block) = token {
                        self.block(block, acts);
                    }
                }
            }
            "deallocate" => {
                let at = 1 + usize::from(word(1).is("prepare"));
                acts.push(Act::Take(State::Prepared, (!word(at).is("all")).then(|| name(at))));
            }
            _ => self.calls(part, acts),
        }
    }

    /// What the statements of a `DO` block do, each taken to be run once; in it no transaction begins or ends but by
    /// words that need one to be absent.
    fn block(&self, text: &str, acts: &mut Vec<Act>) {
        let all = tokens(text, &mut |_| {});
        for part in all.split(|token| *token == Token::Sign(b';')) {
            let opens = |token: &Token<'_>| ["begin", "then", "else", "loop"].iter().any(|word| token.is(word));
            let from = part.iter().rposition(opens).map_or(0, |at| at + 1);
            let mut does = Vec::new();
            self.acts(&part[from..], &mut does);
            acts.extend(does.into_iter().filter_map(|act| match act {
                // No row tells whether a function was called.
                Act::Configure(setting, value, local) => {
                    Some(Act::Set(setting, value.text(), ["t", "true", "on", "1"].contains(&local.text().as_str())))
                }
                Act::Bind(function, value) => Some(Act::Set(function, value.text(), true)),
                Act::Begin | Act::Commit | Act::Rollback | Act::Execute(..) => None,
                act => Some(act),
            }));
        }
    }

    /// `SET [SESSION | LOCAL] name { = | TO } value`, and the spellings that roles have.
    fn set(&self, part: &[Token<'_>]) -> Option<Act> {
        let local = part.first()?.is("local");
        let authorization = part.first()?.is("session") && part.get(1).is_some_and(|token| token.is("authorization"));
        let part = &part[usize::from(local || (part[0].is("session") && !authorization))..];
        let (setting, value) = if authorization {
            (ROLE.to_string(), part.get(2..)?)
        } else if part.first()?.is(ROLE) && !matches!(part.get(1), Some(Token::Sign(b'='))) {
            (ROLE.to_string(), &part[1 + usize::from(part.get(1).is_some_and(|token| token.is("to")))..])
        } else {
            let end = part.iter().position(|token| *token == Token::Sign(b'=') || token.is("to"))?;
            (qualified(&part[..end]), &part[end + 1..])
        };
        let text: Vec<&str> = value.iter().filter_map(|token| token.says()).collect();
        if matches!(value, [only] if only.is("default") || (setting == ROLE && only.is("none"))) {
            return Some(Act::Reset(setting));
        }
        self.is_of_interest(&setting).then(|| Act::Set(setting, text.join(","), local))
    }

    /// The functions that a statement calls, as far as they mean something here.
    fn calls(&self, part: &[Token<'_>], acts: &mut Vec<Act>) {
        let into = part.windows(2).any(|pair| pair[0].is("into") && (pair[1].is("temp") || pair[1].is("temporary")));
        if into && part[0].is("select") {
            acts.push(Act::Leave(State::TemporaryTable, String::new()));
        }
        for (at, pair) in part.windows(2).enumerate() {
            let ([Token::Word(called) | Token::Name(called), Token::Sign(b'(')], true) = (pair, at + 2 < part.len())
            else {
                continue;
            };
            let called = called.to_ascii_lowercase();
            if !(called == "set_config" || called.starts_with("pg_") || self.functions.contains(&called)) {
                continue;
            }
            let given = arguments(&part[at + 2..]);
            let argument = |n: usize| given.get(n).cloned().unwrap_or(Value::Unknown);
            match called.as_str() {
                "set_config" => {
                    let Value::Text(setting) = argument(0) else { continue };
                    let setting = setting.to_ascii_lowercase();
                    if self.is_of_interest(&setting) {
                        acts.push(Act::Configure(setting, argument(1), argument(2)));
                    }
                }
                "pg_advisory_lock" | "pg_advisory_lock_shared" => {
                    acts.push(Act::Leave(State::AdvisoryLock, String::new()));
                }
                "pg_try_advisory_lock" | "pg_try_advisory_lock_shared" => acts.push(Act::LeaveIf(State::AdvisoryLock)),
                "pg_advisory_unlock" | "pg_advisory_unlock_shared" => {
                    acts.push(Act::Take(State::AdvisoryLock, Some(String::new())));
                }
                "pg_advisory_unlock_all" => acts.push(Act::Take(State::AdvisoryLock, None)),
                _ if self.functions.contains(&called) => acts.push(Act::Bind(called, argument(0))),
                _ => {}
            }
        }
    }
}

/// A name with what qualifies it, in lower case.
fn qualified(part: &[Token<'_>]) -> String {
    let words = part.iter().map_while(|token| match token {
        Token::Sign(b'.') => Some("."),
        other => other.says(),
    });
    words.collect::<String>().to_ascii_lowercase()
}

/// The name at the beginning, without what qualifies it.
fn last_name(part: &[Token<'_>]) -> String {
    qualified(part).rsplit('.').next().unwrap_or_default().into()
}

/// `CREATE TEMP TABLE …`, unless it goes with its transaction.
fn temporary(part: &[Token<'_>]) -> Option<Act> {
    let at = usize::from(part.first()?.is("local") || part[0].is("global"));
    let temporary = part.get(at)?.is("temp") || part[at].is("temporary");
    let dropped = part.windows(3).any(|three| three[0].is("on") && three[1].is("commit") && three[2].is("drop"));
    if !temporary || dropped {
        return None;
    }
    let named = part.iter().position(|token| token.is("table") || token.is("view") || token.is("sequence"))? + 1;
    let named = named + 3 * usize::from(part.get(named).is_some_and(|token| token.is("if")));
    let end = part.iter().skip(named).position(|token| token.is("as")).map_or(part.len(), |end| named + end);
    Some(Act::Leave(State::TemporaryTable, last_name(part.get(named..end)?)))
}

/// The first value of each argument up to the closing bracket.
fn arguments(part: &[Token<'_>]) -> Vec<Value> {
    let (mut depth, mut given) = (0, vec![Value::Unknown]);
    for token in part {
        match token {
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b')') if depth == 0 => break,
            Token::Sign(b')') => depth -= 1,
            Token::Sign(b',') if depth == 0 => given.push(Value::Unknown),
            other => {
                let Some(value) = given.last_mut().filter(|value| **value == Value::Unknown) else { continue };
                match other {
                    Token::Parameter(number) => *value = Value::Parameter(*number),
                    Token::Text(text) | Token::Number(text) => *value = Value::Text((*text).into()),
                    Token::Word(word) if word.eq_ignore_ascii_case("true") => *value = Value::Text("t".into()),
                    Token::Word(word) if word.eq_ignore_ascii_case("false") => *value = Value::Text("f".into()),
                    _ => {}
                }
            }
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acts(text: &str) -> Vec<Act> {
        let binding = Binding { settings: vec!["app.tenant_id".into()], functions: vec!["enter".into()] };
        binding.read(text).into_iter().flat_map(|statement| statement.acts).collect()
    }

    fn set(setting: &str, value: &str, local: bool) -> Act {
        Act::Set(setting.into(), value.into(), local)
    }

    fn configure(value: Value, local: Value) -> Act {
        Act::Configure("app.tenant_id".into(), value, local)
    }

    #[test]
    fn every_way_to_bind_a_tenant_is_read() {
        let bound = |local| vec![set("app.tenant_id", "a-b", local)];
        let text = |text: &str| Value::Text(text.into());
        for (text, read) in [
            ("SET app.tenant_id = 'a-b'", bound(false)),
            ("set session \"app\".tenant_id to 'a-b'", bound(false)),
            ("/* x */ SET LOCAL App.Tenant_Id TO 'a-b' -- y", bound(true)),
            ("SELECT set_config('app.tenant_id', 'a-b', true)", vec![configure(text("a-b"), text("t"))]),
            (
                "SELECT pg_catalog.set_config('app.tenant_id', 'a-b'::text, false), 1",
                vec![configure(text("a-b"), text("f"))],
            ),
            ("SET app.other = 'a-b'", vec![]),
            ("SELECT 'SET app.tenant_id = 1', $$set_config('app.tenant_id', 'x', true)$$", vec![]),
            ("SET search_path TO tenant_a, \"public\"", vec![set("search_path", "tenant_a,public", false)]),
            ("SET ROLE 'tenant_a'", vec![set("role", "tenant_a", false)]),
            ("SET LOCAL ROLE tenant_a", vec![set("role", "tenant_a", true)]),
            ("SET SESSION AUTHORIZATION tenant_a", vec![set("role", "tenant_a", false)]),
            ("SET ROLE NONE", vec![Act::Reset("role".into())]),
            ("RESET app.tenant_id", vec![Act::Reset("app.tenant_id".into())]),
            ("SET app.tenant_id TO DEFAULT", vec![Act::Reset("app.tenant_id".into())]),
            ("RESET ALL; DISCARD ALL", vec![Act::ResetAll, Act::DiscardAll]),
            ("SELECT storage FROM public.enter($1::uuid)", vec![Act::Bind("enter".into(), Value::Parameter(1))]),
            ("DO $$ DECLARE x int; BEGIN PERFORM set_config('app.tenant_id', 'a-b', true); END $$", bound(true)),
            ("DO LANGUAGE plpgsql $x$BEGIN IF true THEN SET app.tenant_id = 'a-b'; END IF; END$x$", bound(false)),
            (
                "PREPARE p (text) AS SELECT set_config('app.tenant_id', $1, true)",
                vec![
                    Act::Leave(State::Prepared, "p".into()),
                    Act::Prepare("p".into(), vec![configure(Value::Parameter(1), text("t"))]),
                ],
            ),
            ("EXECUTE p('a-b')", vec![Act::Execute("p".into(), vec![text("a-b")])]),
            ("SELECT set_config('app.tenant_id', $2, $3)", vec![configure(Value::Parameter(2), Value::Parameter(3))]),
        ] {
            assert_eq!(acts(text), read, "{text}");
        }
    }

    #[test]
    fn what_a_statement_leaves_behind_is_read() {
        let leaves = |state, name: &str| vec![Act::Leave(state, name.into())];
        for (text, read) in [
            ("CREATE TEMP TABLE IF NOT EXISTS Kept AS SELECT 1", leaves(State::TemporaryTable, "kept")),
            ("CREATE TEMPORARY TABLE a (b int) ON COMMIT DROP", vec![]),
            ("CREATE TABLE a (b int)", vec![]),
            ("DROP TABLE IF EXISTS pg_temp.kept", vec![Act::Take(State::TemporaryTable, Some("kept".into()))]),
            ("SELECT pg_advisory_lock($1)", leaves(State::AdvisoryLock, "")),
            ("SELECT pg_advisory_xact_lock(1)", vec![]),
            ("SELECT pg_try_advisory_lock(1, 2)", vec![Act::LeaveIf(State::AdvisoryLock)]),
            ("SELECT pg_advisory_unlock_all()", vec![]),
            ("LISTEN \"Tenant a\"", leaves(State::Listening, "tenant a")),
            ("UNLISTEN *", vec![Act::Take(State::Listening, None)]),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", leaves(State::Cursor, "c")),
            ("DECLARE c CURSOR FOR SELECT 1", vec![]),
            ("CLOSE ALL", vec![Act::Take(State::Cursor, None)]),
            ("PREPARE p AS SELECT 1", leaves(State::Prepared, "p")),
            ("EXECUTE p(1)", vec![Act::Execute("p".into(), vec![Value::Text("1".into())])]),
        ] {
            let read = if text.contains("unlock_all") { vec![Act::Take(State::AdvisoryLock, None)] } else { read };
            assert_eq!(acts(text), read, "{text}");
        }
    }

    #[test]
    fn transactions_are_read() {
        assert_eq!(
            acts("BEGIN; SAVEPOINT a; ROLLBACK TO SAVEPOINT a; ROLLBACK TO a; ABORT; START TRANSACTION; END"),
            [
                Act::Begin,
                Act::Savepoint("a".into()),
                Act::RollbackTo("a".into()),
                Act::RollbackTo("a".into()),
                Act::Rollback,
                Act::Begin,
                Act::Commit
            ]
        );
    }
}
