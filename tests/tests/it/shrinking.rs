//! A finding shrinks to its fewest steps, which show it again on the mutant and never on the sound reference.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, ensure};
use partywall::campaign::{Campaign, Interrupt, Shrink, Variant};
use partywall::evidence::Evidence;
use partywall::exit_code::ExitCode;
use partywall::finding::{Finding, Reproduced};
use partywall::oracle::Judge;
use partywall::plan::Plan;
use partywall::principal::Principal;
use partywall::{history, mutant, requirement};
use partywall_tests::planted::Planted;
use partywall_tests::{campaign, run};

/// A campaign against a mutant to its first finding, which is made smaller.
async fn shrunk(
    id: &str,
    only: &[&str],
) -> anyhow::Result<(Campaign, Finding, Evidence, tempfile::TempDir, std::path::PathBuf)> {
    let mutant = mutant::select(&[id.to_string()])?.remove(0);
    let (mut campaign, reports) = campaign(21)?;
    campaign.bounds.cases_max = 6_000;
    campaign.first_finding_only = true;
    campaign.variant = mutant.variant();
    campaign.shrink = Some(Shrink { causes_max: 1, time_s: 30 });
    if !only.is_empty() {
        campaign.only = only.iter().map(|id| (*id).into()).collect();
        campaign.bounds.pool_sizes = vec![2];
        campaign.bounds.cases_max = 0;
        // A try plants, launches and reads tables, or looks for what did it among all operations.
        campaign.shrink = Some(Shrink { causes_max: 1, time_s: 120 });
    }
    let ended = run(&campaign).await?;
    assert_eq!(ended.exit, ExitCode::Violated, "{id} survived");
    let found = ended.report.judgement.findings.iter().find(|f| f.minimised.is_some());
    let found = found.with_context(|| format!("{id}: no finding was made smaller: {:?}", ended.report.run.notes))?;
    let folder = ended.dir.join(&found.minimised.as_ref().context("minimised")?.folder);
    let evidence = Evidence::load(&folder.join("finding.json"))?;
    Ok((campaign, found.clone(), evidence, reports, folder))
}

async fn again(campaign: &Campaign, evidence: &Evidence) -> anyhow::Result<Reproduced> {
    Ok(campaign.reproduce(evidence, 3, Arc::new(|_| {}), Interrupt::default()).await?)
}

async fn check(id: &str) -> anyhow::Result<()> {
    let (mut campaign, finding, evidence, _reports, folder) = shrunk(id, &[]).await?;
    let minimised = finding.minimised.clone().context("minimised")?;
    assert!((1..=4).contains(&minimised.steps), "{id}: {minimised:?}");
    assert!(minimised.reproduced.k >= 8, "{id}: {}", minimised.reproduced);
    assert_eq!(evidence.script.steps().count() as u32, minimised.steps);
    assert_eq!((evidence.requirement.as_str(), evidence.mutant.as_deref()), (finding.requirement.as_str(), Some(id)));

    let judged = offline(&folder)?;
    ensure!(
        judged.iter().any(|f| f.requirement == finding.requirement && f.oracle == finding.oracle),
        "{id}: {judged:#?}"
    );
    assert!(again(&campaign, &evidence).await?.k > 0, "{id}: the mutant shows it again");
    campaign.variant = Variant { defects_build: true, ..Variant::default() };
    assert_eq!(again(&campaign, &evidence).await?.k, 0, "{id}: the sound reference does not: {:#?}", evidence.script);
    Ok(())
}

/// A finding that no answer tells.
async fn check_told(id: &str, requirement: &str, says: &str) -> anyhow::Result<()> {
    let (mut campaign, finding, evidence, _reports, folder) = shrunk(id, &[requirement]).await?;
    let minimised = finding.minimised.clone().context("minimised")?;
    assert!((1..=6).contains(&minimised.steps), "{id}: {minimised:?} {:#?}", evidence.script);
    assert!(minimised.reproduced.k >= 8, "{id}: {}", minimised.reproduced);
    assert_eq!(evidence.requirement, requirement);
    let script = std::fs::read_to_string(folder.join("reproduce.sh"))?;
    assert!(script.contains("curl alone cannot show it") && script.contains(says), "{script}");
    assert!(again(&campaign, &evidence).await?.k > 0, "{id}: the mutant shows it again");
    campaign.variant = Variant { defects_build: true, ..Variant::default() };
    assert_eq!(again(&campaign, &evidence).await?.k, 0, "{id}: the sound reference does not: {:#?}", evidence.script);
    Ok(())
}

fn offline(folder: &Path) -> anyhow::Result<Vec<Finding>> {
    let plan: Plan = serde_json::from_str(&std::fs::read_to_string(folder.join("plan.json"))?)?;
    let mut judge = Judge::new(plan.into(), requirement::select(&[])?);
    for observation in history::read(&folder.join("history.ndjson.zst"))?.1 {
        judge.enter(&observation?);
    }
    Ok(judge.conclude(None).findings)
}

macro_rules! shrinks {
    ($($name:ident: $id:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> anyhow::Result<()> {
            check($id).await
        })+
    };
}

shrinks! {
    an_event_fetched_by_id_alone_takes_few_steps: "idor-by-id";
    a_tenant_taken_from_the_query_takes_few_steps: "tenant-from-query";
    a_cursor_that_carries_its_tenant_takes_few_steps: "cursor-unbound";
    a_context_left_on_the_connection_takes_few_steps: "session-set-not-local";
    a_total_over_all_tenants_takes_few_steps: "count-unscoped";
    an_answer_kept_without_its_tenant_takes_few_steps: "me-kept";
}

macro_rules! shrinks_told {
    ($($name:ident: $id:literal, $requirement:literal, $says:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> anyhow::Result<()> {
            check_told($id, $requirement, $says).await
        })+
    };
}

shrinks_told! {
    what_worlds_tell_takes_few_steps: "days-unscoped", "inference/noninterference", "a copy in which";
    what_tables_tell_takes_few_steps: "delete-takes-anothers", "write/overreach", "the database holds";
    what_a_log_tells_takes_few_steps: "log-tells", "store/logs", "to its log";
    what_arrives_at_a_webhook_takes_few_steps: "deliveries-shared", "work/webhook", "arrives at the address";
    what_comes_of_a_fault_takes_few_steps: "reset-after-success", "pool/after-fault", "its database are struck";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_fetched_by_id_alone_is_shown_again_by_curl_alone() -> anyhow::Result<()> {
    let (campaign, finding, evidence, _reports, folder) = shrunk("idor-by-id", &[]).await?;
    let text = std::fs::read_to_string(folder.join("reproduce.sh"))?;
    let witness = std::fs::read_to_string(folder.join("witness.md"))?;
    assert!(witness.contains(&finding.sentence) && witness.contains("of 10 tries"), "{witness}");

    let bare = script(&folder, &BTreeMap::new())?;
    assert_eq!(bare.status.code(), Some(2), "it refuses to run without what it needs");
    assert!(String::from_utf8_lossy(&bare.stderr).contains("BASE_URL"));

    let plan: Plan = serde_json::from_str(&std::fs::read_to_string(folder.join("../../plan.json"))?)?;
    for (variant, code) in [(campaign.variant.clone(), 0), (Variant::default(), 1)] {
        let planted = Planted::start(&campaign, &variant, &plan).await?;
        let mut variables = BTreeMap::from([("BASE_URL".to_string(), planted.service.base_url.clone())]);
        for step in evidence.script.steps() {
            let actor: &Principal = &step.actor;
            let token = planted.token(actor);
            assert!(!text.contains(&token) && !witness.contains(&token));
            variables.insert(actor.token_variable(), token);
        }
        let output = script(&folder, &variables);
        planted.stop().await;
        let output = output?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}\n{}\n{text}", String::from_utf8_lossy(&output.stdout));
        assert!(told.contains(if code == 0 { "The leak shows" } else { "does not show" }), "{told}");
    }
    Ok(())
}

fn script(folder: &Path, variables: &BTreeMap<String, String>) -> anyhow::Result<Output> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.arg(folder.join("reproduce.sh")).env_clear().env("PATH", path).envs(variables);
    Ok(command.output()?)
}
