//! A campaign for a test of one's own: `Campaign::against(target).run().await?.assert_upheld()`.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Campaign, Ended, Interrupt, Variant};
use crate::error::Result;
use crate::postgres::Source;
use crate::report::Format;
use crate::scenario::Bounds;
use crate::seed::Seed;
use crate::target::file::TargetFile;
use crate::target::tenants::Variables;

/// A campaign that is being put together; what is not said is as `partywall certify` has it.
pub struct Against {
    target: TargetFile,
    target_dir: PathBuf,
    profile: String,
    seed: Seed,
    only: Vec<String>,
    max_time_s: Option<u64>,
    max_cases: Option<u64>,
    tenants: Option<u32>,
    rows: Option<u32>,
    reports: PathBuf,
    variables: Variables,
}

impl Campaign {
    /// A campaign against `target`: [`TargetFile::load`] and [`TargetFile::parse`] read one.
    pub fn against(target: TargetFile) -> Against {
        Against {
            target,
            target_dir: PathBuf::new(),
            profile: "quick".into(),
            seed: Seed::fresh(),
            only: Vec::new(),
            max_time_s: None,
            max_cases: None,
            tenants: None,
            rows: None,
            reports: std::env::temp_dir().join("partywall-reports"),
            variables: Variables::default(),
        }
    }
}

impl Against {
    /// How much is done: `quick` (as when nothing is said), `standard` or `deep`.
    #[must_use]
    pub fn profile(mut self, profile: &str) -> Self {
        self.profile = profile.into();
        self
    }

    /// The number the plan derives from; a fresh one when nothing is said.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Seed(seed);
        self
    }

    /// Judges these requirements alone: IDs, or families as `read/..`.
    #[must_use]
    pub fn only<'a>(mut self, requirements: impl IntoIterator<Item = &'a str>) -> Self {
        self.only.extend(requirements.into_iter().map(String::from));
        self
    }

    /// Stops driving after so long.
    #[must_use]
    pub fn max_time(mut self, time: std::time::Duration) -> Self {
        self.max_time_s = Some(time.as_secs().max(1));
        self
    }

    /// Generated cases beyond the sweep of all cells.
    #[must_use]
    pub fn max_cases(mut self, cases: u64) -> Self {
        self.max_cases = Some(cases);
        self
    }

    /// Tenants to plant; where tenants are given, there are as many as are given.
    #[must_use]
    pub fn tenants(mut self, tenants: u32) -> Self {
        self.tenants = Some(tenants);
        self
    }

    /// Rows to plant a tenant and table.
    #[must_use]
    pub fn rows(mut self, rows: u32) -> Self {
        self.rows = Some(rows);
        self
    }

    /// Holds `value` for the environment variable `name` that the target file names: a test has its tokens at hand.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.set(name, value);
        self
    }

    /// The folder that the target file's OpenAPI document is looked for in, when it is a file.
    #[must_use]
    pub fn document_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.target_dir = folder.into();
        self
    }

    /// Where reports go; a folder of the system's temporary one when nothing is said.
    #[must_use]
    pub fn reports(mut self, folder: impl Into<PathBuf>) -> Self {
        self.reports = folder.into();
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// As [`Campaign::run`], and a profile that there is not.
    pub async fn run(self) -> Result<Ended> {
        let mut bounds = Bounds::of_profile(&self.profile)?;
        bounds.time_s_max = self.max_time_s.or(bounds.time_s_max);
        bounds.cases_max = self.max_cases.unwrap_or(bounds.cases_max);
        bounds.tenants = self.tenants.unwrap_or(bounds.tenants);
        bounds.rows = self.rows.unwrap_or(bounds.rows);
        let campaign = Campaign {
            corpus: None,
            reproduce: format!("Campaign::against(…).profile(\"{}\").seed({})", self.profile, self.seed.0),
            target: self.target,
            target_dir: self.target_dir,
            bounds,
            only: self.only,
            seed: self.seed,
            postgres: Source::Auto,
            through: None,
            reports: self.reports,
            formats: vec![Format::Html, Format::Json],
            dry_run: false,
            first_finding_only: false,
            variant: Variant::default(),
            target_file: None,
            recording: None,
            har: None,
            shrink: None,
            variables: self.variables,
        };
        campaign.run(Arc::new(|_| {}), Interrupt::default()).await
    }
}
