//! What the planted tables held at one moment, while nothing was driven: a digest of every planted row, and whose writing
//! lies under whose name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canary::Owner;

/// The tables at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Whether it is of the copy in which rows are old, for retention.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aged: bool,
    /// By the planted table's name.
    pub tables: BTreeMap<String, Held>,
}

/// What one planted table held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Digests of the planted columns of planted rows, by owner and row.
    pub planted: BTreeMap<Owner, BTreeMap<u32, String>>,
    /// Rows that a tenant wrote during the run and that lie under its own name.
    pub written: BTreeMap<Owner, u64>,
    /// Rows that lie under one tenant's name and hold what another wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Stray>,
}

/// Rows of one writer under one other name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// The tenant whose the rows are said to be.
    pub under: Owner,
    /// The tenant that wrote them.
    pub writer: Owner,
    /// How many.
    pub rows: u64,
}

impl Snapshot {
    /// Planted rows that were there.
    pub fn planted(&self) -> u64 {
        self.tables.values().flat_map(|held| held.planted.values()).map(|rows| rows.len() as u64).sum()
    }

    /// Rows written during the run whose writer is known.
    pub fn written(&self) -> u64 {
        let strays = |held: &Held| held.strays.iter().map(|stray| stray.rows).sum::<u64>();
        self.tables.values().map(|held| held.written.values().sum::<u64>() + strays(held)).sum()
    }
}
