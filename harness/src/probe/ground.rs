//! Whose is what: the tenants of a run, their planted rows, and by what a row of an answer tells its owner.

use std::collections::{BTreeMap, BTreeSet};

use crate::canary::{Mint, Owner, Scanner, Sighting, TimeWindow};
use crate::seed::Seed;

/// A tenant as the database knows it.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Whom its canaries name.
    pub owner: Owner,
    /// What its rows' tenant columns hold.
    pub id: String,
    /// What is bound for it, one value a setting.
    pub context: Vec<String>,
    /// False for one that was there before.
    pub planted: bool,
}

/// A planted row as the database keeps it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its table.
    pub table: i64,
    /// Number of its tenant; none for one that all share.
    pub tenant: Option<usize>,
    /// Its number among the tenant's.
    pub number: u32,
    /// Its columns' values as text.
    pub values: BTreeMap<String, Option<String>>,
    /// Columns that were given a value, and the value.
    pub given: Vec<(String, Option<String>)>,
    /// The statement that planted it.
    pub statement: String,
}

/// What is known of a run's rows.
pub struct Ground {
    /// The tenants, those planted first.
    pub tenants: Vec<Tenant>,
    /// Planted rows, in the order in which they were planted.
    pub rows: Vec<Row>,
    /// Rows that could be planted and were not: what a trial inserts.
    pub spares: Vec<Row>,
    /// Ids of tenants that were there before and are none of the run's.
    pub strangers: Vec<String>,
    /// Names of columns that name a tenant, wherever they stand.
    pub tenant_columns: BTreeSet<String>,
    /// Makes the run's canaries.
    pub mint: Mint,
    key: [u8; 16],
    window: TimeWindow,
    scanner: Scanner,
}

/// What one row tells of its owners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Numbers of tenants.
    pub tenants: BTreeSet<usize>,
    /// True when it is that of a tenant who is none of the run's.
    pub other: bool,
}

/// Planted instants: a month before the epoch of tests, so that nothing that the database makes lies in it.
const WINDOW_START_UNIX_S: i64 = 1_704_067_200;
const WINDOW_S: u64 = 28 * 86_400;
/// Shorter values may be met by chance.
const TELLING_LEN_MIN: usize = 8;
/// Distinct characters without which a value is a word or a round number.
const TELLING_CHARS_MIN: usize = 5;

impl Ground {
    /// A ground without rows.
    pub fn new(seed: Seed, tenants: u32, rows: u32) -> Self {
        let window =
            TimeWindow { start_unix_s: WINDOW_START_UNIX_S, seconds: WINDOW_S, owners: tenants, rows_per_owner: rows };
        let key = seed.canary_key(0);
        Self {
            tenants: Vec::new(),
            rows: Vec::new(),
            spares: Vec::new(),
            strangers: Vec::new(),
            tenant_columns: BTreeSet::new(),
            mint: Mint::new(key, window),
            key,
            window,
            scanner: Scanner::new(key, window),
        }
    }

    /// Learns what the database made of planted rows: values that one tenant alone has.
    pub fn learn(&mut self) {
        let mut had: BTreeMap<&str, (BTreeSet<Option<usize>>, u32)> = BTreeMap::new();
        for row in self.rows.iter().chain(&self.spares) {
            for value in row.values.values().flatten() {
                let seen = had.entry(value).or_insert_with(|| (BTreeSet::new(), row.number));
                seen.0.insert(row.tenant);
            }
        }
        let telling = had.into_iter().filter_map(|(value, (tenants, number))| {
            let [Some(tenant)] = tenants.into_iter().collect::<Vec<_>>()[..] else { return None };
            (tells(value) && !self.is_canary(value))
                .then(|| (value.to_string(), self.tenants[tenant].owner, Some(number), 0))
        });
        let telling = telling.collect();
        self.scanner = Scanner::new(self.key, self.window).with_learnt(telling);
    }

    fn is_canary(&self, value: &str) -> bool {
        let mut found = false;
        Scanner::new(self.key, self.window).scan(value.as_bytes(), &mut |_| found = true);
        found
    }

    /// The canaries in `text`.
    pub fn sightings(&self, text: &str) -> Vec<Sighting> {
        let mut found = Vec::new();
        self.scanner.scan(text.as_bytes(), &mut |sighting| found.push(sighting));
        found
    }

    /// The number of the tenant whose canaries name `owner`.
    pub fn number_of(&self, owner: Owner) -> Option<usize> {
        self.tenants.iter().position(|tenant| tenant.owner == owner)
    }

    /// Whose `row` is: by `tenant`, the place of its tenant column, and by canaries that `said` does not hold.
    pub fn told(&self, row: &[Option<String>], tenant: Option<usize>, said: &[Sighting]) -> Told {
        let mut told = Told::default();
        if let Some(id) = tenant.and_then(|place| row.get(place)?.as_deref()) {
            match self.tenants.iter().position(|tenant| tenant.id == id) {
                Some(number) => {
                    told.tenants.insert(number);
                }
                None => told.other = true,
            }
        }
        for value in row.iter().flatten() {
            told.tenants.extend(self.shown(value, said));
        }
        told
    }

    /// Numbers of the tenants whose canaries are in `text` and not among those `said`.
    pub fn shown(&self, text: &str, said: &[Sighting]) -> Vec<usize> {
        let same =
            |a: &Sighting, b: &Sighting| (a.owner, a.row, a.column, a.form) == (b.owner, b.row, b.column, b.form);
        let unsaid = |seen: &Sighting| !said.iter().any(|said| same(said, seen));
        self.sightings(text).iter().filter(|seen| unsaid(seen)).filter_map(|seen| self.number_of(seen.owner)).collect()
    }

    /// Notes tenants that were there before, where their ids are met by nobody's chance.
    pub fn meet(&mut self, ids: Vec<String>) {
        let known = |id: &String| self.tenants.iter().any(|tenant| tenant.id == *id);
        self.strangers = ids.into_iter().filter(|id| tells(id) && !known(id)).collect();
    }

    /// Ids of tenants that are none of the run's in a row's values.
    pub fn strangers_in<'a>(&'a self, row: &'a [Option<String>]) -> impl Iterator<Item = &'a str> {
        let named = |id: &&String| row.iter().flatten().any(|value| value.contains(id.as_str()));
        self.strangers.iter().filter(named).map(String::as_str)
    }

    /// Rows of `table` that `tenant` has.
    pub fn rows_of(&self, table: i64, tenant: usize) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.table == table && row.tenant == Some(tenant))
    }

    /// The spare row of `table` that `tenant` has.
    pub fn spare_of(&self, table: i64, tenant: usize) -> Option<&Row> {
        self.spares.iter().find(|row| row.table == table && row.tenant == Some(tenant))
    }
}

/// True for a value that nobody else has by chance.
fn tells(value: &str) -> bool {
    let instant = value.len() > 10 && value.as_bytes()[4] == b'-' && value.as_bytes()[7] == b'-' && value.contains(':');
    let distinct: BTreeSet<char> = value.chars().collect();
    value.len() >= TELLING_LEN_MIN && distinct.len() >= TELLING_CHARS_MIN && !instant && !value.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Canary;

    #[test]
    fn a_row_is_told_by_its_tenant_column_and_by_canaries_that_nobody_said() {
        let mut ground = Ground::new(Seed(3), 2, 3);
        for number in 0..2 {
            let owner = Owner::new(number);
            let tenant = Tenant { owner, id: format!("t{number}"), context: vec![], planted: true };
            ground.tenants.push(tenant);
        }
        let text = ground.mint.text(Canary { owner: Owner::new(1), row: 0, column: 4 });
        let row = [Some("t0".into()), Some(text.clone())];
        let told = ground.told(&row, Some(0), &[]);
        assert_eq!(told.tenants, BTreeSet::from([0, 1]));
        let said = ground.sightings(&format!("SELECT '{text}'"));
        assert_eq!(ground.told(&row, Some(0), &said).tenants, BTreeSet::from([0]));
        assert!(ground.told(&[Some("t9".into())], Some(0), &[]).other);
        assert_eq!(ground.told(&[None], Some(0), &[]), Told::default());
    }
}
