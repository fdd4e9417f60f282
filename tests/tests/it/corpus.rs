//! What one run learns serves the next: a defect that takes two steps is reached sooner with a corpus than without.

use std::path::Path;

use partywall::mutant;
use partywall::plan::Corpus;
use partywall_tests::{campaign, run};

/// Enough that the defect is met without a corpus, too.
const CASES: u64 = 4_000;

/// Requests until what one tenant's answer yielded opened something to another.
async fn requests_until_found(corpus: Option<&Path>) -> anyhow::Result<u64> {
    let (mut campaign, _reports) = campaign(24)?;
    campaign.bounds.pool_sizes = vec![2];
    campaign.bounds.cases_max = CASES;
    campaign.first_finding_only = true;
    campaign.only = vec!["read/learnt".into()];
    campaign.variant = mutant::select(&["export-by-id".into()])?.remove(0).variant();
    campaign.corpus = corpus.map(Into::into);
    let ended = run(&campaign).await?;
    let finding = ended.report.judgement.findings.first().expect("the defect is found");
    Ok(finding.found_after_requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defect_of_two_steps_is_reached_with_fewer_requests() -> anyhow::Result<()> {
    let corpus = tempfile::tempdir()?;
    let (mut sound, _reports) = campaign(24)?;
    sound.bounds.pool_sizes = vec![2];
    sound.bounds.cases_max = CASES;
    sound.only = vec!["read/learnt".into()];
    sound.corpus = Some(corpus.path().into());
    run(&sound).await?.assert_upheld();
    let kept: Corpus = serde_json::from_str(&std::fs::read_to_string(corpus.path().join("corpus.json"))?)?;
    assert!(!kept.cases.is_empty());
    let (with, without) = (requests_until_found(Some(corpus.path())).await?, requests_until_found(None).await?);
    assert!(with * 2 < without, "{with} requests with a corpus, {without} without");
    Ok(())
}
