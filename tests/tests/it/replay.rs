//! Recorded traffic: the reference's own, played by other tenants, upholds the wall; mutants that it reaches do not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use partywall::campaign::{Campaign, Ended};
use partywall::exit_code::ExitCode;
use partywall::mutant;
use partywall::replay::{Recording, har};
use partywall::verdict::Verdict;
use partywall_tests::{campaign, run};

fn recorded() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios/recorded/reference.har")
}

/// A campaign that plays the reference's recorded traffic.
fn replaying() -> anyhow::Result<(Campaign, tempfile::TempDir)> {
    let (mut campaign, reports) = campaign(41)?;
    campaign.only = ["replay/..", "read/total", "role/own-rows"].map(String::from).into();
    campaign.bounds.pool_sizes = vec![1];
    let recording = Recording { entries: har::load(&recorded())?, identities: BTreeMap::new() };
    campaign.recording = Some(recording);
    Ok((campaign, reports))
}

#[test]
fn what_is_recorded_is_small_and_has_no_secret() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(recorded())?;
    assert!(text.len() < 300 << 10, "{} bytes", text.len());
    for entry in har::load(&recorded())? {
        for header in entry.request.headers.iter().filter(|h| h.name == "Authorization") {
            assert!(header.value.starts_with("Bearer redacted-"), "{}", header.value);
        }
    }
    for secret in ["\\\"password\\\":\\\"", "_token\\\":\\\"", "secret\\\":\\\"", "Bearer eyJ", "ak_", "vt_", "whsec_"]
    {
        let told = text.split(secret).skip(1).find(|rest| !rest.starts_with("[redacted]"));
        assert!(told.is_none(), "{secret}{}", &told.unwrap_or_default()[..40.min(told.unwrap_or_default().len())]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_upholds_the_wall_under_its_own_traffic() -> anyhow::Result<()> {
    let (campaign, _reports) = replaying()?;
    let ended = run(&campaign).await?;
    ended.assert_upheld();
    let judgement = &ended.report.judgement;
    let own: Vec<_> = judgement.requirements.iter().filter(|r| r.requirement.starts_with("replay/")).collect();
    assert!(own.len() == 2 && own.iter().all(|r| r.verdict == Verdict::Upheld && r.judged > 0), "{own:#?}");
    let operations = campaign.target.operation.len();
    let played: std::collections::BTreeSet<&str> = judgement.cells.iter().map(|c| c.cell.operation.as_str()).collect();
    assert!(played.len() * 3 > operations * 2, "{} of {operations} operations are in the capture", played.len());
    Ok(())
}

async fn caught(id: &str) -> anyhow::Result<Ended> {
    let (mut campaign, _reports) = replaying()?;
    campaign.first_finding_only = true;
    campaign.variant = mutant::select(&[id.to_string()])?.remove(0).variant();
    let ended = run(&campaign).await?;
    assert_eq!(ended.exit, ExitCode::Violated, "{id} survived the recorded traffic: {:#?}", ended.report.run);
    Ok(ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_requests_with_the_ids_of_others_catch_what_they_do_not_do_by_themselves() -> anyhow::Result<()> {
    for id in ["tenant-from-query", "idor-by-id", "cursor-unbound"] {
        let ended = caught(id).await?;
        let finding = &ended.report.judgement.findings[0];
        assert_eq!(finding.requirement, "replay/foreign-id", "{id}: {}", finding.sentence);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_of_something_else_replays_nothing_and_says_so() -> anyhow::Result<()> {
    let (mut campaign, _reports) = replaying()?;
    let recording = campaign.recording.as_mut().expect("a recording");
    recording.entries.truncate(3);
    for (number, entry) in recording.entries.iter_mut().enumerate() {
        entry.request.url = format!("https://elsewhere.example/assets/{number}.png");
    }
    let ended = run(&campaign).await?;
    assert_eq!(ended.exit, ExitCode::Inconclusive);
    let notes = ended.report.run.notes.join("\n");
    assert!(notes.contains("0 of 3 entries replayed") && notes.contains("fits no operation"), "{notes}");
    Ok(())
}
