//! Compares what one tenant is answered where other tenants have and do little with what it is answered where they have
//! and do more. What differs between two identical worlds is the target's own noise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::canary_sighting::actor_words;
use super::{Ground, Oracle, Suspicion};
use crate::canary::{Owner, Scanner};
use crate::finding::OracleId;
use crate::history::Observation;
use crate::world::World;

/// A run of so many characters of an id or a signature; what is shorter is a word.
const TOKEN_MIN: usize = 16;
/// Differences shown in one finding.
const SHOWN_MAX: usize = 4;

/// Stands for a leaf that is not there.
const ABSENT: &str = "absent";

/// Where an answer stands in the transcript: sequence, position and page.
type Place = (u64, u32, u32);
/// A leaf of an answer: `body.items.3.id`.
type Leaves = BTreeMap<String, String>;

/// The oracle, with the answers of the worlds before.
#[derive(Default)]
pub struct Noninterference {
    answers: BTreeMap<World, BTreeMap<Place, Leaves>>,
    names: BTreeMap<World, Names>,
    /// Sequences in which something was taken on and not yet done: how far it is, is a matter of time. What follows in them
    /// is judged where it was asked until its answer stayed as it was.
    pending: BTreeSet<u64>,
    /// What answers were in between: of what was taken on, and of what followed on it.
    passing: BTreeMap<(World, u64), Vec<Leaves>>,
    passed: BTreeMap<(World, Place), Vec<Leaves>>,
    /// Answers that were asked for to the end.
    ended: BTreeSet<(World, Place)>,
    scanner: Option<Scanner>,
}

/// Ids that the target makes itself, each by where it appeared first. Were they numbered, one more of them, in an answer that
/// a matter of time decides on, would be a difference in all that comes after.
type Names = BTreeMap<String, String>;

impl Oracle for Noninterference {
    fn id(&self) -> OracleId {
        OracleId::Noninterference
    }

    fn observe(&mut self, ground: &Ground, observation: &Observation) -> Vec<Suspicion> {
        let Some(world) = observation.world else { return Vec::new() };
        if !observation.step.actor.tenant.is_some_and(|tenant| World::observers().any(|o| Owner::new(o) == tenant)) {
            return Vec::new();
        }
        let place = (observation.sequence, observation.position, observation.page);
        let leaves = self.leaves(ground, world, observation);
        let pending = self.pending.contains(&observation.sequence);
        let ended = observation.answered().is_some_and(|answer| answer.ended);
        // Accepted (RFC 9110, 15.3.3).
        if observation.answered().is_some_and(|answer| answer.status == 202) {
            self.pending.insert(observation.sequence);
            self.passing.entry((world, observation.sequence)).or_default().push(leaves.clone());
        } else if pending && !ended {
            let passed = self.passed.entry((world, place)).or_default();
            if passed.last() != Some(&leaves) {
                passed.push(leaves.clone());
            }
        }
        if ended {
            self.ended.insert((world, place));
        }
        let due = world == World::ManyAgain && (!pending || self.has_ended_everywhere(place));
        let found = if due { self.differs(place, &leaves) } else { Vec::new() };
        let found = if pending && self.is_on_the_way(place, &found) { Vec::new() } else { found };
        // A question that was put off is asked again: the last answer counts.
        self.answers.entry(world).or_default().insert(place, leaves);
        let Some((path, few, many)) = found.first() else { return Vec::new() };
        let shows = found
            .iter()
            .take(SHOWN_MAX)
            .map(|(path, few, many)| format!("{path} is {few} where the others are few, {many} where they are many"));
        vec![Suspicion {
            requirement: None,
            sentence: format!(
                "{} answered the {} differently for what other tenants have: {path} is {few} or {many}",
                observation.step.cell.operation,
                actor_words(observation)
            ),
            owner: None,
            shows: shows.collect(),
            beside: Vec::new(),
        }]
    }
}

impl Noninterference {
    /// Whether what was put off was asked to the end in every world.
    fn has_ended_everywhere(&self, place: Place) -> bool {
        World::ALL.into_iter().all(|world| self.ended.contains(&(world, place)))
    }

    /// Whether one side is where the other one was before: then it is only slower.
    fn is_on_the_way(&self, place: Place, found: &[(String, String, String)]) -> bool {
        let was = |worlds: [World; 2], path: &str, value: &str| {
            let before = worlds.into_iter().flat_map(|world| {
                let taken_on = self.passing.get(&(world, place.0));
                taken_on.into_iter().chain(self.passed.get(&(world, place))).flatten()
            });
            let mut values = before.map(|leaves| leaves.get(path).map_or(ABSENT, String::as_str));
            values.any(|known| known == value)
        };
        found.iter().any(|(path, few, many)| {
            was([World::Many, World::ManyAgain], path, few) || was([World::Few, World::FewAgain], path, many)
        })
    }

    /// What differs between the pairs and within neither: the smallest first.
    fn differs(&self, place: Place, many_again: &Leaves) -> Vec<(String, String, String)> {
        let at = |world: World| self.answers.get(&world).and_then(|answers| answers.get(&place));
        let (Some(few), Some(few_again), Some(many)) = (at(World::Few), at(World::FewAgain), at(World::Many)) else {
            return Vec::new();
        };
        let noise: BTreeSet<String> =
            different(few, few_again).chain(different(many, many_again)).map(everywhere).collect();
        let noisy = |path: &str| noise.contains(&everywhere(path));
        let shown = |leaves: &Leaves, path: &str| leaves.get(path).cloned().unwrap_or_else(|| ABSENT.into());
        let mut found: Vec<_> = different(few, many)
            .filter(|path| !noisy(path))
            .map(|path| (path.to_string(), shown(few, path), shown(many, path)))
            .collect();
        found.sort_by_key(|(path, few, many)| few.len() + many.len() + path.len());
        found
    }

    /// The answer, leaf by leaf, with what the target makes itself renamed.
    fn leaves(&mut self, ground: &Ground, world: World, observation: &Observation) -> Leaves {
        let plan = ground.plan.for_worlds();
        let scanner = self.scanner.get_or_insert_with(|| Scanner::new(plan.canary_key(), plan.window()));
        let place = format!("{}.{}.{}", observation.sequence, observation.position, observation.page);
        let mut text = Text { scanner, names: self.names.entry(world).or_default(), place };
        let mut leaves = Leaves::new();
        let Some(answer) = observation.answered() else {
            leaves.insert("answer".into(), "none".into());
            return leaves;
        };
        leaves.insert("status".into(), answer.status.to_string());
        for (name, value) in &answer.headers {
            let path = format!("headers.{name}");
            let value = text.plain(&path, value);
            leaves.insert(path, value);
        }
        let body = answer.body.as_deref().unwrap_or_default();
        match serde_json::from_str::<Value>(body) {
            Ok(value) => text.spread("body".into(), &value, &mut leaves),
            // Lines of JSON, messages of a stream, CSV.
            Err(_) => {
                for (number, line) in body.lines().enumerate() {
                    let (field, rest) = line.split_once(": ").unwrap_or(("", line));
                    let path = format!("body.{number}");
                    match serde_json::from_str::<Value>(rest) {
                        Ok(value @ (Value::Object(_) | Value::Array(_))) => text.spread(path, &value, &mut leaves),
                        _ => {
                            let value = format!("{field} {}", text.plain(&path, rest));
                            leaves.insert(path, value);
                        }
                    }
                }
            }
        }
        leaves
    }
}

/// Paths of leaves that differ, or that one side has alone.
fn different<'l>(one: &'l Leaves, other: &'l Leaves) -> impl Iterator<Item = &'l str> {
    let lacking = other.keys().filter(|path| !one.contains_key(*path));
    one.iter()
        .filter(|(path, value)| other.get(*path) != Some(value))
        .map(|(path, _)| path)
        .chain(lacking)
        .map(String::as_str)
}

/// The path with its places in arrays left out: noise in one row is noise in all.
fn everywhere(path: &str) -> String {
    path.split('.')
        .map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { "*" } else { part })
        .collect::<Vec<_>>()
        .join(".")
}

/// Renames what the target makes itself.
struct Text<'a> {
    scanner: &'a Scanner,
    names: &'a mut Names,
    /// Which answer it is.
    place: String,
}

impl Text<'_> {
    fn spread(&mut self, path: String, value: &Value, leaves: &mut Leaves) {
        match value {
            Value::Object(fields) => {
                let keys = format!("{path}.keys");
                leaves.insert(keys.clone(), fields.len().to_string());
                for (index, (name, field)) in fields.iter().enumerate() {
                    // Dots part the path, and what the target made as a key is renamed as in a value.
                    let name = self.plain(&format!("{keys}.{index}"), name).replace('.', "·");
                    self.spread(format!("{path}.{name}"), field, leaves);
                }
            }
            Value::Array(items) => {
                leaves.insert(format!("{path}.length"), items.len().to_string());
                for (index, item) in items.iter().enumerate() {
                    self.spread(format!("{path}.{index}"), item, leaves);
                }
            }
            Value::String(text) => {
                let text = self.plain(&path, text);
                leaves.insert(path, text);
            }
            other => drop(leaves.insert(path, other.to_string())),
        }
    }

    /// The `text` at `path`, with ids by where they appeared first and without instants, save those that were planted.
    fn plain(&mut self, path: &str, text: &str) -> String {
        let part_of_token = |c: char| c.is_ascii_alphanumeric() || "_-.:+".contains(c);
        let mut out = String::with_capacity(text.len());
        let (mut rest, mut number) = (text, 0);
        while !rest.is_empty() {
            let run = rest.find(|c| !part_of_token(c)).unwrap_or(rest.len());
            let (token, after) = rest.split_at(run);
            number += 1;
            out.push_str(&self.token(path, number, token));
            let between = after.find(part_of_token).unwrap_or(after.len());
            out.push_str(&after[..between]);
            rest = &after[between..];
        }
        out
    }

    /// The `number`th part of the text at `path`.
    fn token(&mut self, path: &str, number: usize, token: &str) -> String {
        let made = token.len() >= TOKEN_MIN && token.bytes().any(|b| b.is_ascii_digit());
        if !made || self.is_planted(token) {
            return token.into();
        }
        if is_instant(token) {
            return "⟨instant⟩".into();
        }
        let first = || format!("⟨{path} of {}, {number}⟩", self.place);
        self.names.entry(token.into()).or_insert_with(first).clone()
    }

    fn is_planted(&self, token: &str) -> bool {
        let mut planted = false;
        self.scanner.scan(token.as_bytes(), &mut |_| planted = true);
        planted
    }
}

/// `2026-03-01T10:00:00…`.
fn is_instant(token: &str) -> bool {
    let bytes = token.as_bytes();
    bytes.len() >= 19
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[10] == b'T'
        && bytes[13] == b':'
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{Told, ground, observed, suspected};
    use super::*;
    use crate::cell::{Lanes, PoolState};
    use crate::history::Outcome;
    use crate::plan::Planner;

    /// What is suspected of a service that answers each question of the observer with `body`, given how often any service
    /// was asked before.
    fn check(body: impl Fn(World, u64, u64) -> String) -> Vec<(String, String)> {
        check_told(|world, sequence, _, number| (200, body(world, sequence, number)))
    }

    /// The same where the status is told too, by the position of the question in its sequence.
    fn check_told(told: impl Fn(World, u64, usize, u64) -> (u16, String)) -> Vec<(String, String)> {
        check_asked(|world, sequence, position, number| vec![told(world, sequence, position, number)])
    }

    /// The same where a question may be asked several times, until it is answered.
    fn check_asked(told: impl Fn(World, u64, usize, u64) -> Vec<(u16, String)>) -> Vec<(String, String)> {
        let ground = ground();
        let mut history = Vec::new();
        for world in World::ALL {
            let state = PoolState { pool_size: None, lanes: Lanes::One };
            for sequence in Planner::new(ground.plan.clone()).transcript(world, state).expect("a transcript") {
                for (position, step) in sequence.steps.iter().enumerate() {
                    let number = history.len() as u64;
                    for (status, body) in told(world, sequence.number, position, number) {
                        let told = Told { status, headers: Vec::new(), body };
                        let place = (sequence.number, position as u32);
                        history.push(Observation { world: Some(world), ..observed(step, number, place, told) });
                    }
                }
            }
        }
        assert!(history.len() > 20, "a transcript of {}", history.len());
        suspected(&ground, &mut Noninterference::default(), &history)
    }

    fn many(world: World) -> bool {
        world.others().len() > 1
    }

    #[test]
    fn what_the_service_makes_itself_and_its_noise_are_not_suspected() {
        assert_eq!(check(|_, sequence, _| format!(r#"{{"total":{sequence}}}"#)), []);
        // Ids of its own, instants, cursors, and a counter of all that it was ever asked.
        let noisy = |_: World, _: u64, number: u64| {
            format!(
                r#"{{"id":"0190a5d4-0000-7000-8000-{number:012}","at":"2026-11-21T10:00:{:02}Z","next":"eyJhbGciOiJIUzI1NiJ9.{number}",
                    "asked":{number},"items":[{{"id":"0190a5d4-0000-7000-8000-{number:012}"}}]}}"#,
                number % 60
            )
        };
        assert_eq!(check(noisy), []);
        // Lines, too.
        assert_eq!(check(|_, _, number| format!("id: 0190a5d4-0000-7000-8000-{number:012}\ndata: {{\"n\":1}}")), []);
    }

    #[test]
    fn what_was_put_off_once_in_one_world_changes_nothing_in_what_comes_after() {
        let told = |world: World, _: u64, position: usize, number: u64| {
            let id = format!("0190a5d4-0000-7000-8000-{number:012}");
            let later = (many(world) && position == 0).then(|| (503, format!(r#"{{"trace":"later-{id}"}}"#)));
            later.into_iter().chain([(200, format!(r#"{{"id":"{id}"}}"#))]).collect()
        };
        assert_eq!(check_asked(told), []);
    }

    #[test]
    fn how_far_something_is_that_was_only_taken_on_is_not_suspected() {
        let state = |world: World| format!(r#"{{"state":"{}"}}"#, if many(world) { "queued" } else { "done" });
        let told = |first: u16| {
            check_told(move |world, _, position, _| match position {
                0 => (first, "{}".into()),
                _ => (200, state(world)),
            })
        };
        assert_eq!(told(202), []);
        assert!(!told(200).is_empty());
    }

    /// What is suspected where something is taken on, and what follows is asked for again in the end: `asked` tells the
    /// answer by how often it was asked for before.
    fn check_later(asked: impl Fn(World, usize) -> String) -> Vec<(String, String)> {
        let ground = ground();
        let state = PoolState { pool_size: None, lanes: Lanes::One };
        let mut history = Vec::new();
        for world in World::ALL {
            let sequences = Planner::new(ground.plan.clone()).transcript(world, state).expect("a transcript");
            let sequence =
                sequences.iter().find(|s| s.steps.len() > 1 && s.steps[0].actor.tenant == Some(Owner::new(0)));
            let sequence = sequence.expect("a sequence of the observer's with a later step");
            for time in 0..4_usize {
                let position = usize::from(time > 0);
                let number = history.len() as u64;
                let (status, body) =
                    if time == 0 { (202, r#"{"id":1}"#.into()) } else { (200, asked(world, time - 1)) };
                let told = Told { status, headers: Vec::new(), body };
                let place = (sequence.number, position as u32);
                let mut observation =
                    Observation { world: Some(world), ..observed(&sequence.steps[position], number, place, told) };
                if let Outcome::Answered(answer) = &mut observation.outcome {
                    answer.ended = time == 3;
                }
                history.push(observation);
            }
        }
        suspected(&ground, &mut Noninterference::default(), &history)
    }

    #[test]
    fn what_was_taken_on_is_judged_once_it_is_done() {
        let told = |state: &str, rows: u64| format!(r#"{{"state":"{state}","rows":{rows}}}"#);
        // It ends alike, however long it takes.
        assert_eq!(
            check_later(|world, time| told(if time > usize::from(many(world)) { "done" } else { "queued" }, 3)),
            []
        );
        // It ends otherwise for what the others have.
        let found = check_later(|world, time| match time {
            0 => told("queued", 0),
            _ => told("done", 3 + u64::from(many(world))),
        });
        assert!(found.len() == 1 && found[0].1.contains("body.rows is 3 or 4"), "{found:?}");
        // Where the others are many it is not done in time.
        assert_eq!(
            check_later(|world, time| if time == 0 || many(world) { told("queued", 0) } else { told("done", 3) }),
            []
        );
    }

    #[test]
    fn what_depends_on_the_others_is_suspected_however_small_it_is() {
        let total = |world: World, _: u64, _: u64| {
            format!(r#"{{"rows":[{{"day":1,"events":{}}}]}}"#, 3 + i32::from(many(world)))
        };
        let longer =
            |world: World, _: u64, _: u64| if many(world) { r#"{"items":[1,2]}"# } else { r#"{"items":[1]}"# }.into();
        let key = |world: World, _: u64, _: u64| if many(world) { r#"{"a":1,"b":null}"# } else { r#"{"a":1}"# }.into();
        let line = |world: World, _: u64, _: u64| if many(world) { "a,b\n2,2" } else { "a,b\n1,2" }.into();
        // The same two ids, the other way round.
        let order = |world: World, _: u64, number: u64| {
            let ids =
                [format!("0190a5d4-0000-7000-8000-a{number:011}"), format!("0190a5d4-0000-7000-8000-b{number:011}")];
            let (first, then) = if many(world) { (&ids[1], &ids[0]) } else { (&ids[0], &ids[1]) };
            format!(r#"{{"made":["{}","{}"],"listed":["{first}","{then}"]}}"#, ids[0], ids[1])
        };
        for (index, found) in [check(total), check(longer), check(key), check(line), check(order)].iter().enumerate() {
            assert!(!found.is_empty(), "case {index}");
            assert!(found.iter().all(|(requirement, _)| requirement == crate::plan::NONINTERFERENCE), "{found:?}");
        }
        assert!(check(total)[0].1.contains("body.rows.0.events is 3 or 4"), "the field is named");
    }
}
