//! Steps in terms of application roles and tenants: whatever names its owner is a symbol, so that the same steps can be
//! cast onto any tenants of any run. `⟦1.documents.7.id⟧` is the `id` of row 7 that is planted in `documents` for the
//! script's tenant 1; `⟦0.written.2.text⟧` is what its third write carries.

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::{AhoCorasick, MatchKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Step;
use crate::canary::{Canary, Owner, Scanner};
use crate::cell::Relation;
use crate::tenant::{Holdings, Planted, WRITTEN, rfc3339};

/// Generators whose values name their owner.
const NAMING: [&str; 10] =
    ["tenant", "principal", "actor", "ref", "uuid", "text", "email", "timestamptz", "inet", "bigint"];
/// The table of a symbol for what is written during the run.
const WRITES: &str = "written";
/// Writes that one casting may number; the next begins beyond.
const WRITES_MAX: u32 = 1 << 10;

/// Steps of a finding, to be played by any tenants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Script {
    /// Connections in the target's pool; none when the target file gives no way to set it.
    pub pool_size: Option<u32>,
    /// Tenants that take part, numbered from 0.
    pub tenants: u32,
    /// The steps of each connection, in order; connections run at once.
    pub lanes: Vec<Vec<Step>>,
}

impl Script {
    /// The script of `lanes`, whose values are of `holdings`.
    pub fn of(mut lanes: Vec<Vec<Step>>, pool_size: Option<u32>, holdings: &Holdings, scanner: &Scanner) -> Self {
        let mut cast = Vec::new();
        let mut written = BTreeSet::new();
        for step in lanes.iter().flatten() {
            let mut meet = |owner: Owner| {
                if ![Owner::PLATFORM, Owner::ABSENT].contains(&owner) && !cast.contains(&owner) {
                    cast.push(owner);
                }
            };
            step.actor.tenant.into_iter().chain(step.subject).for_each(&mut meet);
            for text in step.clone().request.texts() {
                scanner.scan(text.as_bytes(), &mut |sighting| {
                    meet(sighting.owner);
                    if let (Some(WRITTEN), Some(row)) = (sighting.column, sighting.row) {
                        written.insert((row, sighting.owner));
                    }
                });
            }
        }
        let symbols = symbols(&cast, &written, holdings);
        let part = |owner: &mut Owner| {
            if let Some(place) = cast.iter().position(|known| known == owner) {
                *owner = Owner::new(place as u32);
            }
        };
        for step in lanes.iter_mut().flatten() {
            step.actor.tenant.iter_mut().chain(&mut step.subject).for_each(part);
            let before: Vec<String> = step.request.query.iter().map(|(_, value)| value.clone()).collect();
            for text in step.request.texts() {
                *text = symbols.replace(text);
            }
            relate_instants(step, &before);
        }
        Self { pool_size, tenants: cast.len() as u32, lanes }
    }

    /// All steps, lane by lane.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.lanes.iter().flatten()
    }

    /// The same with tenant `from` played by `into`; none where a step would then name its actor's own objects as
    /// another's.
    pub fn folded(&self, from: Owner, into: Owner) -> Option<Self> {
        let mut folded = self.renamed(&|owner| if owner == from { into } else { owner });
        folded.renumber();
        let confused = |step: &Step| step.cell.relation == Relation::Foreign && step.actor.tenant == step.subject;
        let sound = !folded.steps().any(confused);
        sound.then_some(folded)
    }

    /// Numbers the tenants that take part anew, without gaps.
    pub fn renumber(&mut self) {
        let known: BTreeSet<Owner> = (0..self.tenants).map(Owner::new).filter(|owner| self.mentions(*owner)).collect();
        let place = |owner| known.iter().position(|k| *k == owner).map_or(owner, |place| Owner::new(place as u32));
        *self = Self { tenants: known.len() as u32, ..self.renamed(&place) };
    }

    fn mentions(&self, owner: Owner) -> bool {
        let symbol = format!("⟦{}.", owner.index());
        self.lanes.clone().iter_mut().flatten().any(|step| {
            step.actor.tenant == Some(owner)
                || step.subject == Some(owner)
                || step.request.texts().any(|t| t.contains(&symbol))
        })
    }

    fn renamed(&self, name: &dyn Fn(Owner) -> Owner) -> Self {
        let mut script = self.clone();
        let renamed = |symbol: &str| {
            let Some((whose, rest)) = symbol.split_once('.') else { return Ok(format!("⟦{symbol}⟧")) };
            let whose = whose.parse().map_or_else(|_| whose.into(), |n| name(Owner::new(n)).index().to_string());
            Ok(format!("⟦{whose}.{rest}⟧"))
        };
        for step in script.lanes.iter_mut().flatten() {
            step.actor.tenant.iter_mut().chain(&mut step.subject).for_each(|tenant| *tenant = name(*tenant));
            for text in step.request.texts() {
                // A text whose symbols do not end has none to rename.
                if let Ok(text_renamed) = spoken(text, &renamed) {
                    *text = text_renamed;
                }
            }
        }
        script
    }

    /// The steps, played by `tenants`; each `take` writes values that no other does.
    ///
    /// # Errors
    /// A symbol that `holdings` has no value for, as a sentence.
    pub fn cast(&self, tenants: &[Owner], take: u32, holdings: &Holdings) -> Result<Vec<Vec<Step>>, String> {
        let owner = |part: Owner| tenants.get(part.index() as usize).copied().unwrap_or(part);
        let mut lanes = self.lanes.clone();
        for step in lanes.iter_mut().flatten() {
            step.actor.tenant.iter_mut().chain(&mut step.subject).for_each(|tenant| *tenant = owner(*tenant));
            for text in step.request.texts() {
                *text = spoken(text, &|symbol| value(symbol, &owner, take, holdings))?;
            }
        }
        Ok(lanes)
    }
}

struct Symbols {
    values: Option<AhoCorasick>,
    symbols: Vec<String>,
}

impl Symbols {
    fn replace(&self, text: &str) -> String {
        self.values.as_ref().map_or_else(|| text.into(), |values| values.replace_all(text, &self.symbols))
    }
}

/// The symbol of every value that names one of `cast`, the platform or nobody.
fn symbols(cast: &[Owner], written: &BTreeSet<(u32, Owner)>, holdings: &Holdings) -> Symbols {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let word = |owner: Owner| match owner {
        Owner::PLATFORM => Some("platform".to_string()),
        Owner::ABSENT => Some("absent".to_string()),
        owner => cast.iter().position(|known| *known == owner).map(|place| place.to_string()),
    };
    let owners = || cast.iter().copied().chain([Owner::PLATFORM, Owner::ABSENT]);
    for owner in owners() {
        let Some(word) = word(owner) else { continue };
        for table in holdings.tables() {
            let columns = table.columns.iter().filter(|(_, generator)| names_owner(generator));
            for (column, row) in columns.flat_map(|(column, _)| (0..holdings.rows_of(table)).map(move |r| (column, r)))
            {
                let value = holdings.value(owner, row, &table.name, column).ok().and_then(|v| v.text());
                if let Some(value) = value {
                    known.entry(value).or_insert_with(|| format!("⟦{word}.{}.{row}.{column}⟧", table.name));
                }
            }
        }
        known.entry(holdings.tenant_id(owner).to_string()).or_insert_with(|| format!("⟦{word}.tenant.0.id⟧"));
    }
    for (number, (row, owner)) in written.iter().enumerate() {
        let (Some(word), canary) = (word(*owner), Canary { owner: *owner, row: *row, column: WRITTEN }) else {
            continue;
        };
        for form in ["email", "text", "uuid", "inet"] {
            known.insert(minted(form, canary, holdings), format!("⟦{word}.{WRITES}.{number}.{form}⟧"));
        }
    }
    let (values, symbols): (Vec<String>, Vec<String>) = known.into_iter().unzip();
    // No other error can be had from plain literals than too many of them, and then nothing is renamed.
    let values = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(values).ok();
    Symbols { values, symbols }
}

fn names_owner(generator: &str) -> bool {
    NAMING.contains(&generator.split(':').next().unwrap_or(generator))
}

fn minted(form: &str, canary: Canary, holdings: &Holdings) -> String {
    let mint = holdings.mint();
    match form {
        "email" => mint.email(canary),
        "uuid" => mint.uuid(canary).to_string(),
        "inet" => mint.inet(canary).to_string(),
        _ => mint.text(canary),
    }
}

/// An instant beside a planted one moves with it: the other end of a range.
fn relate_instants(step: &mut Step, before: &[String]) {
    let instant = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok().map(|at| at.unix_timestamp_nanos() / 1_000);
    let query = &mut step.request.query;
    let anchor = query.iter().zip(before).find_map(|((_, now), before)| {
        let symbol = now.strip_prefix('⟦').and_then(|s| s.strip_suffix('⟧'))?;
        Some((symbol.to_string(), instant(before)?))
    });
    let Some((symbol, at)) = anchor else { return };
    for (_, value) in query {
        if let Some(other) = instant(value) {
            *value = format!("⟦{symbol}+{}⟧", other - at);
        }
    }
}

/// `text` with its symbols spoken; names of captured values have no dot and stay.
fn spoken(text: &str, value: &dyn Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('⟦') {
        let (symbol, after) = after.split_once('⟧').ok_or_else(|| format!("a symbol without an end in `{text}`"))?;
        out.push_str(before);
        match symbol.contains('.') {
            true => out.push_str(&value(symbol)?),
            false => out.push_str(&format!("⟦{symbol}⟧")),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn value(symbol: &str, owner: &dyn Fn(Owner) -> Owner, take: u32, holdings: &Holdings) -> Result<String, String> {
    let wrong = || format!("`⟦{symbol}⟧` is no symbol: it is tenant, table, row and column, with dots between");
    let (name, later_us) = match symbol.split_once('+') {
        Some((name, later)) => (name, later.parse::<i64>().map_err(|_| wrong())?),
        None => (symbol, 0),
    };
    let (whose, rest) = name.split_once('.').ok_or_else(wrong)?;
    let (rest, column) = rest.rsplit_once('.').ok_or_else(wrong)?;
    let (table, row) = rest.rsplit_once('.').ok_or_else(wrong)?;
    let row: u32 = row.parse().map_err(|_| wrong())?;
    let whose = match whose {
        "platform" => Owner::PLATFORM,
        "absent" => Owner::ABSENT,
        number => owner(number.parse().ok().filter(|n| *n < 1 << 16).map(Owner::new).ok_or_else(wrong)?),
    };
    if holdings.table(table).is_none() {
        return match table {
            WRITES => {
                let row = take.wrapping_mul(WRITES_MAX).wrapping_add(row) & 0x1ff_ffff;
                Ok(minted(column, Canary { owner: whose, row, column: WRITTEN }, holdings))
            }
            "tenant" => Ok(holdings.tenant_id(whose).to_string()),
            _ => Err(format!("`⟦{symbol}⟧` names no planted table")),
        };
    }
    match holdings.value(whose, row, table, column)? {
        Planted::Time(us) => Ok(rfc3339(us + later_us)),
        other => other.text().ok_or_else(|| format!("`⟦{symbol}⟧` cannot stand in a request")),
    }
}
