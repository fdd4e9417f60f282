//! What is learnt of given tenants from their own answers: the ids that the service makes. A plan names such a value by
//! its place, `⟦table.column of tenant/row⟧`, and the driver fills in what the ledger holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::canary::{Canary, Owner};
use crate::placeholder;
use crate::principal::Principal;

/// Bits that must vary in a column for its values to be nobody else's by chance, a sequence's numbers least of all.
const BITS_MIN: f64 = 28.0;
/// Characters that a value needs at least, to be told from a word.
const LEN_MIN: usize = 8;

/// Who made what, and where planting failed.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    values: HashMap<String, Learnt>,
    /// Every value of a column: its canary says whose.
    columns: BTreeMap<(String, String), Vec<(Canary, String)>>,
    /// Planted tables of which not all rows could be made, and why.
    unmade: BTreeMap<String, String>,
}

/// A learnt value.
#[derive(Clone, Debug)]
struct Learnt {
    text: String,
    /// True when the service writes it as a number.
    number: bool,
}

/// The ledger's name of a planted place.
pub fn name(table: &str, column: &str, owner: Owner, row: u32) -> String {
    format!("{table}.{column} of {}/{row}", owner.index())
}

/// The ledger's name of a tenant's id.
pub fn tenant_name(owner: Owner) -> String {
    format!("tenant {}", owner.index())
}

/// The name of what the target file's `env` gives for a principal: known to its credential alone.
pub fn given_name(name: &str, principal: &Principal) -> String {
    format!("given {name} of {principal}")
}

impl Ledger {
    /// A JSON body with what is learnt filled in: numbers without quotes, text with its escapes.
    pub fn filled_body(&self, body: &str) -> String {
        let mut out = body.to_string();
        for name in placeholder::names(body) {
            let Some((text, number)) = self.value(name) else { continue };
            let quoted = format!("\"{}\"", placeholder::of(name));
            out = match number {
                true => out.replace(&quoted, text),
                false => out.replace(&quoted, &serde_json::Value::from(text).to_string()),
            };
        }
        out
    }

    /// Learns the value of a place. `canary` names the place.
    pub fn learn(&mut self, table: &str, column: &str, canary: Canary, value: &serde_json::Value) {
        let (text, number) = match value {
            serde_json::Value::String(text) => (text.clone(), false),
            serde_json::Value::Number(number) => (number.to_string(), true),
            _ => return,
        };
        self.columns.entry((table.into(), column.into())).or_default().push((canary, text.clone()));
        self.values.insert(name(table, column, canary.owner, canary.row), Learnt { text, number });
    }

    /// Learns a tenant's id.
    pub fn learn_tenant(&mut self, owner: Owner, id: &str) {
        self.values.insert(tenant_name(owner), Learnt { text: id.into(), number: id.parse::<i64>().is_ok() });
    }

    /// Whether `owner` has what a place of another holds, as where each tenant counts for itself.
    pub fn is_shared_with(&self, name: &str, owner: Owner) -> bool {
        let place = name.rsplit_once(" of ").and_then(|(place, _)| place.split_once('.'));
        let Some(((table, column), value)) = place.zip(self.values.get(name)) else { return false };
        let column = self.columns.get(&(table.to_string(), column.to_string()));
        column.into_iter().flatten().any(|(canary, text)| canary.owner == owner && *text == value.text)
    }

    /// Notes that not all rows of `table` could be made.
    pub fn fail(&mut self, table: &str, why: String) {
        self.unmade.entry(table.into()).or_insert(why);
    }

    /// Why not all rows of `table` could be made, where they could not.
    pub fn unmade(&self, table: &str) -> Option<&str> {
        self.unmade.get(table).map(String::as_str)
    }

    /// All such tables, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unmade.iter().map(|(table, why)| (table.as_str(), why.as_str()))
    }

    /// Takes in what another one learnt.
    pub fn merge(&mut self, other: Self) {
        self.values.extend(other.values);
        for (column, values) in other.columns {
            self.columns.entry(column).or_default().extend(values);
        }
        for (table, why) in other.unmade {
            self.fail(&table, why);
        }
    }

    /// Makes, for `rows` rows of every column, values like those learnt that nobody has.
    pub fn imagine(&mut self, rows: u32) {
        let mut made = Vec::new();
        for ((table, column), values) in &self.columns {
            let taken: BTreeSet<&str> = values.iter().map(|(_, text)| text.as_str()).collect();
            for row in 0..rows {
                let Some((canary, text)) = values.get(row as usize % values.len().max(1)) else { continue };
                let number = self.values.get(&name(table, column, canary.owner, canary.row)).is_some_and(|v| v.number);
                let absent = absent(text, &taken, row);
                made.push((name(table, column, Owner::ABSENT, row), Learnt { text: absent, number }));
            }
        }
        if let Some(first) = self.values.get(&tenant_name(Owner::new(0))) {
            let absent = Learnt { text: absent(&first.text, &BTreeSet::new(), 0), number: first.number };
            made.push((tenant_name(Owner::ABSENT), absent));
        }
        self.values.extend(made);
    }

    /// The value of that name, and whether it is a number.
    pub fn value(&self, name: &str) -> Option<(&str, bool)> {
        self.values.get(name).map(|learnt| (learnt.text.as_str(), learnt.number))
    }

    /// Values that name their owner wherever they are seen: those of columns that vary enough, each had by one tenant
    /// alone. The row is none where several rows of the tenant share the value.
    pub fn telling(&self) -> Vec<(String, Owner, Option<u32>, u16)> {
        let mut owners: BTreeMap<&str, (Canary, BTreeSet<Owner>, BTreeSet<u32>)> = BTreeMap::new();
        for values in self.columns.values() {
            let texts: Vec<&str> = values.iter().map(|(_, text)| text.as_str()).collect();
            if !varies(&texts) {
                continue;
            }
            for (canary, text) in values {
                let seen = owners.entry(text).or_insert_with(|| (*canary, BTreeSet::new(), BTreeSet::new()));
                seen.1.insert(canary.owner);
                seen.2.insert(canary.row);
            }
        }
        let single = owners.into_iter().filter(|(text, (_, owners, _))| owners.len() == 1 && text.len() >= LEN_MIN);
        single
            .map(|(text, (canary, _, rows))| {
                (text.to_string(), canary.owner, (rows.len() == 1).then_some(canary.row), canary.column)
            })
            .collect()
    }
}

/// True when what differs between values is too much to be met by chance or by counting.
fn varies(texts: &[&str]) -> bool {
    let Some(first) = texts.first() else { return false };
    let distinct: BTreeSet<&&str> = texts.iter().collect();
    if distinct.len() < 2 {
        return false;
    }
    let common = |text: &&str| first.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    let prefix = texts.iter().filter(|text| *text != first).map(common).min().unwrap_or(0);
    texts.iter().all(|text| {
        let rest = &text[text.char_indices().map(|(at, _)| at).find(|at| *at >= prefix).unwrap_or(text.len())..];
        let alphabet = if rest.bytes().all(|b| b.is_ascii_digit()) {
            10.0_f64
        } else if rest.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            16.0
        } else {
            32.0
        };
        rest.len() as f64 * alphabet.log2() >= BITS_MIN
    })
}

/// A value like `text` that is none of `taken`: of the same length and the same kinds of characters.
fn absent(text: &str, taken: &BTreeSet<&str>, row: u32) -> String {
    if let Ok(number) = text.parse::<i64>() {
        let most = taken.iter().filter_map(|t| t.parse::<i64>().ok()).max().unwrap_or(number);
        // Far beyond what the run itself makes, and still of the same width of integer.
        return (most.saturating_add(1_000_000 + i64::from(row))).to_string();
    }
    let mut shift = 1 + row % 7;
    loop {
        // The first third stays: prefixes, versions and times are what makes a value look like one.
        let keep = text.len() / 3;
        let turned: String = text.char_indices().map(|(at, c)| if at < keep { c } else { turned(c, shift) }).collect();
        if !taken.contains(turned.as_str()) || shift > 9 {
            return turned;
        }
        shift += 1;
    }
}

fn turned(c: char, by: u32) -> char {
    let turn = |base: char, size: u32| char::from_u32(base as u32 + (c as u32 - base as u32 + by) % size).unwrap_or(c);
    match c {
        '0'..='9' => turn('0', 10),
        'a'..='f' => turn('a', 6),
        'A'..='F' => turn('A', 6),
        'g'..='z' => turn('g', 20),
        'G'..='Z' => turn('G', 20),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ledger(values: &[(u32, u32, Value)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (owner, row, value) in values {
            let canary = Canary { owner: Owner::new(*owner), row: *row, column: 3 };
            ledger.learn("notes", "id", canary, value);
        }
        ledger.imagine(4);
        ledger
    }

    #[test]
    fn only_values_that_cannot_be_met_by_chance_name_their_owner() {
        let told = |values: &[(u32, u32, Value)]| ledger(values).telling().len();
        let uuids = ["0190a5d4-7000-7000-8000-00000000aa01", "0190a5d4-7abc-7123-9abc-9812bd0c6e02"];
        assert_eq!(told(&[(0, 0, json!(uuids[0])), (1, 0, json!(uuids[1]))]), 2);
        // What two tenants have is nobody's.
        assert_eq!(told(&[(0, 0, json!(uuids[0])), (1, 0, json!(uuids[0])), (1, 1, json!(uuids[1]))]), 1);
        // Sequences count up, and another tenant's may reach the same number.
        assert_eq!(told(&[(0, 0, json!(17)), (1, 0, json!(18))]), 0);
        assert_eq!(told(&[(0, 0, json!("invoice-000000017")), (1, 0, json!("invoice-000000018"))]), 0);
        assert_eq!(told(&[(0, 0, json!(7_234_567_890_123_456u64)), (1, 0, json!(1_934_567_890_123_456u64))]), 2);
        assert_eq!(told(&[(0, 0, json!("red")), (1, 0, json!("blue"))]), 0);
        // A value of several rows names their owner, and no row.
        let shared = ledger(&[(0, 0, json!(uuids[0])), (0, 1, json!(uuids[0])), (1, 0, json!(uuids[1]))]);
        assert!(shared.telling().iter().any(|(text, _, row, _)| text == uuids[0] && row.is_none()));
    }

    #[test]
    fn what_nobody_has_looks_like_what_somebody_has() {
        for (value, other) in [(json!(41), json!(42)), (json!("note_q7Xz91bTaa"), json!("note_p2Ka83mQbb"))] {
            let ledger = ledger(&[(0, 0, value.clone()), (1, 0, other.clone())]);
            for row in 0..4 {
                let (text, number) = ledger.value(&name("notes", "id", Owner::ABSENT, row)).expect("imagined");
                assert_eq!(number, value.is_number());
                assert!(text != ledger.value(&name("notes", "id", Owner::new(0), 0)).expect("learnt").0, "{text}");
                assert!(number || (text.len() == 15 && text.starts_with("note_")), "{text}");
            }
        }
    }
}
