//! Planted rows that are old enough for retention to take them, and a tenant of which it may take nothing.

use std::collections::BTreeMap;

use crate::canary::Owner;
use crate::target::retention::Retention;
use crate::tenant::Planted;

const DAY_US: i64 = 86_400_000_000;

/// Which planted rows are due, and what says so in the database.
#[derive(Clone, Debug)]
pub struct Ageing {
    table: String,
    column: String,
    /// When the rows were made that are due, and the others, microseconds since the Unix epoch.
    due_us: i64,
    fresh_us: i64,
    /// What holds the rows of [`Ageing::HELD`]: `TABLE.COLUMN` to value.
    holds: BTreeMap<String, String>,
}

impl Ageing {
    /// Tenants of which two have retention run, and the others look on.
    pub const TENANTS: u32 = 4;
    /// Whose retention runs.
    pub const RUNS: Owner = Owner::new(0);
    /// Whose retention runs under a hold, where the target file says how one is put.
    pub const HELD: Owner = Owner::new(1);

    /// As `retention` says, counted back from `day_unix_s`, seconds since the Unix epoch.
    pub fn of(retention: &Retention, day_unix_s: i64) -> Self {
        let fresh_us = day_unix_s * 1_000_000;
        Self {
            table: retention.table.clone(),
            column: retention.column.clone(),
            due_us: fresh_us - i64::from(retention.days) * DAY_US,
            fresh_us,
            holds: retention.hold.clone(),
        }
    }

    /// Whether a row of the table is old enough: every other one is, the first included.
    pub fn is_due(row: u32) -> bool {
        row.is_multiple_of(2)
    }

    /// The table, and the column that age counts from.
    pub fn place(&self) -> (&str, &str) {
        (&self.table, &self.column)
    }

    /// What stands there in place of what is planted otherwise.
    pub fn value(&self, owner: Owner, row: u32, table: &str, column: &str) -> Option<Planted> {
        if self.place() == (table, column) {
            return Some(Planted::Time(if Self::is_due(row) { self.due_us } else { self.fresh_us }));
        }
        let held = self.holds.get(&format!("{table}.{column}")).filter(|_| owner == Self::HELD);
        held.map(|value| Planted::Text(value.clone()))
    }
}
