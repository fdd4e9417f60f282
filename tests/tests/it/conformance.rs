//! The sound reference upholds everything, and nothing is left out.

use partywall::campaign::Ended;
use partywall::exit_code::ExitCode;
use partywall::oracle::Judge;
use partywall::plan::Plan;
use partywall::{history, requirement};
use partywall_tests::{campaign, run};

/// The history of a run, judged again, comes to the same.
fn judged_offline(ended: &Ended) -> anyhow::Result<()> {
    let plan: Plan = serde_json::from_str(&std::fs::read_to_string(ended.dir.join("plan.json"))?)?;
    let requirements = requirement::select(&plan.requirements)?;
    let mut judge = Judge::new(plan.into(), requirements);
    let (_, entries) = history::read(&ended.dir.join("history.ndjson.zst"))?;
    for entry in entries {
        judge.enter(&entry?);
    }
    let again = serde_json::to_string(&judge.conclude(None))?;
    assert_eq!(again, serde_json::to_string(&ended.report.judgement)?);
    Ok(())
}

/// What the certify gate does as well, and at more pool sizes: not among the tests that are run every time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_upholds_every_requirement() -> anyhow::Result<()> {
    let (mut campaign, _reports) = campaign(11)?;
    campaign.bounds.pool_sizes = vec![2];
    let ended = run(&campaign).await?;
    ended.assert_upheld();
    judged_offline(&ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selection_judges_only_what_it_names_and_its_history_judges_the_same_offline() -> anyhow::Result<()> {
    let (mut campaign, _reports) = campaign(12)?;
    campaign.only = vec!["pool/..".into()];
    campaign.bounds.pool_sizes = vec![1];
    campaign.bounds.cases_max = 0;
    let ended = run(&campaign).await?;
    assert_eq!(ended.exit, ExitCode::Upheld);
    let judged = ended.report.judgement.requirements.iter().map(|r| r.requirement.clone());
    let pool = requirement::select(&["pool/..".into()])?.into_iter().map(|r| r.id);
    assert_eq!(judged.collect::<Vec<_>>(), pool.collect::<Vec<_>>());
    judged_offline(&ended)
}
