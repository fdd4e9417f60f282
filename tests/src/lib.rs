//! What the tests share: a campaign against the bundled reference.

pub mod planted;
pub mod walls;

use std::path::PathBuf;
use std::sync::Arc;

use partywall::campaign::{Campaign, Ended, Interrupt, Variant};
use partywall::postgres::Source;
use partywall::scenario::Bounds;
use partywall::seed::Seed;
use partywall::target::file::TargetFile;
use partywall::target::tenants::Variables;

/// A campaign against the bundled reference; its reports go to a folder that is kept only until the test ends.
///
/// # Errors
/// A bundled file that does not parse.
pub fn campaign(seed: u64) -> anyhow::Result<(Campaign, tempfile::TempDir)> {
    let reports = tempfile::tempdir()?;
    let campaign = Campaign {
        target: TargetFile::load(None)?,
        target_dir: PathBuf::new(),
        target_file: None,
        bounds: Bounds { cases_max: 1_200, ..Bounds::of_profile("quick")? },
        only: Vec::new(),
        seed: Seed(seed),
        postgres: Source::Auto,
        through: None,
        reports: reports.path().into(),
        formats: Vec::new(),
        reproduce: format!("partywall certify --seed {seed}"),
        dry_run: false,
        first_finding_only: false,
        variant: Variant::default(),
        variables: Variables::default(),
        recording: None,
        har: None,
        shrink: None,
        corpus: None,
    };
    Ok((campaign, reports))
}

/// Runs a campaign to its end.
///
/// # Errors
/// Whatever kept it from starting.
pub async fn run(campaign: &Campaign) -> anyhow::Result<Ended> {
    Ok(campaign.run(Arc::new(|_| {}), Interrupt::default()).await?)
}
