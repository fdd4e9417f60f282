//! What a run is asked to do: a target, a profile's bounds, and a selection of requirements.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, unknown};

/// How much a run does. A profile names defaults; flags override each.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Bounds {
    /// The profile's name.
    pub profile: String,
    /// Tenants planted.
    pub tenants: u32,
    /// Rows planted a tenant in each table planted per row.
    pub rows: u32,
    /// Tenant pairs (observer, owner) that visit each cell.
    pub pairs: u32,
    /// Pool sizes visited, when the target's can be set.
    pub pool_sizes: Vec<u32>,
    /// Connections at once, where many are driven.
    pub workers: u32,
    /// Sequences in each pool state that a fault befalls between the target and its database.
    #[serde(default)]
    pub faults: u32,
    /// Generated cases beyond the sweep of all cells, over all pool states.
    pub cases_max: u64,
    /// Wall-clock seconds of driving after which the rest is left out, and said so.
    pub time_s_max: Option<u64>,
    /// Requests a second at most; none when unbounded.
    pub rate_limit: Option<u32>,
}

/// The known profiles.
pub const PROFILES: [&str; 3] = ["quick", "standard", "deep"];

impl Bounds {
    /// The defaults of a profile.
    ///
    /// # Errors
    /// An unknown name; the text gives the nearest.
    pub fn of_profile(profile: &str) -> Result<Self> {
        let base = Self {
            profile: profile.into(),
            tenants: 6,
            rows: 24,
            pairs: 1,
            pool_sizes: vec![1, 2, 8],
            workers: 8,
            faults: 13,
            cases_max: 3_000,
            time_s_max: None,
            rate_limit: None,
        };
        match profile {
            "quick" => Ok(base),
            "standard" => Ok(Self { tenants: 20, rows: 48, pairs: 2, faults: 39, cases_max: 20_000, ..base }),
            "deep" => {
                Ok(Self { tenants: 200, rows: 60, pairs: 4, faults: 130, cases_max: 1_000_000, workers: 16, ..base })
            }
            other => Err(unknown("profile", other, PROFILES)),
        }
    }

    /// Checks what no type can.
    ///
    /// # Errors
    /// Bounds under which nothing could be shown.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: &str| Err(Error::Usage(why.into()));
        if self.tenants < 2 {
            return wrong("--tenants must be 2 or more: a wall has two sides");
        }
        if self.tenants > 1_000_000 {
            return wrong("--tenants must be 1,000,000 or fewer: a canary has 20 bits for its tenant");
        }
        if self.rows < 6 {
            return wrong("--rows must be 6 or more, so that every application role has rows of its own");
        }
        if self.workers == 0 || self.pool_sizes.contains(&0) {
            return wrong("--workers and pool sizes must be 1 or more");
        }
        Ok(())
    }
}
