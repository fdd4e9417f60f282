//! A service unlike the reference: `service.rs` tells how. Sound, nothing is found; with one habit, what it breaks is.

mod service;

use partywall::campaign::{Campaign, Ended};
use partywall::exit_code::ExitCode;
use partywall::target::file::TargetFile;
use service::{Boards, Habit};

const ACME: &str = "acme-2f6d0c1f8a4f4b57";
const GLOBEX: &str = "globex-7c0de5f5a2b14e03";

async fn certified(habit: Habit) -> anyhow::Result<Ended> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let boards = Boards::new([(ACME, 7001), (GLOBEX, 7002)], habit);
    let service = tokio::spawn(axum::serve(listener, boards.router()).into_future());
    let target = TargetFile::parse(include_str!("partywall.toml"), "partywall.toml")?;
    let campaign = Campaign::against(target).variable("BOARDS_URL", &url).max_cases(200).rows(6);
    let ended = campaign.variable("ACME_TOKEN", ACME).variable("GLOBEX_TOKEN", GLOBEX).run().await?;
    service.abort();
    Ok(ended)
}

#[tokio::test]
async fn a_sound_service_whose_paths_begin_with_the_tenant_is_upheld() -> anyhow::Result<()> {
    certified(Habit::Sound).await?.assert_upheld();
    Ok(())
}

/// Caught, by the requirement that it breaks and at the operation that does.
async fn caught(habit: Habit, requirement: &str, operation: &str) -> anyhow::Result<()> {
    let ended = certified(habit).await?;
    let findings = &ended.report.judgement.findings;
    let told: Vec<String> = findings.iter().map(|f| format!("{} {}", f.requirement, f.operation)).collect();
    assert!(told.contains(&format!("{requirement} {operation}")), "{habit:?}: {told:#?}");
    Ok(())
}

#[tokio::test]
async fn an_object_of_another_below_the_own_tenants_path_is_caught() -> anyhow::Result<()> {
    caught(Habit::CommentOfAnyone, "read/by-id", "read_comment").await
}

#[tokio::test]
async fn a_list_of_ids_in_a_body_that_shows_anothers_is_caught() -> anyhow::Result<()> {
    caught(Habit::LookupOfAnyone, "read/search", "look_up").await
}

#[tokio::test]
async fn a_list_of_ids_of_which_the_first_alone_is_looked_at_is_caught() -> anyhow::Result<()> {
    caught(Habit::FirstAlone, "write/tampering", "read_task").await
}

#[tokio::test]
async fn a_later_page_with_a_row_of_another_is_caught() -> anyhow::Result<()> {
    caught(Habit::LaterPages, "read/list", "list_tasks").await
}

#[tokio::test]
async fn a_body_that_may_name_another_ones_object_is_caught() -> anyhow::Result<()> {
    caught(Habit::FollowsAnyone, "existence/write", "create_task").await
}

#[tokio::test]
async fn a_row_that_a_document_in_the_body_hands_to_another_is_caught() -> anyhow::Result<()> {
    caught(Habit::Moves, "context/nested-body", "read_task").await
}

#[tokio::test]
async fn numbers_that_each_tenant_counts_for_itself_are_no_finding() -> anyhow::Result<()> {
    let ended = certified(Habit::NumbersEach).await?;
    let judgement = &ended.report.judgement;
    assert!(judgement.findings.is_empty(), "{:#?}", judgement.findings);
    // What is another's has the number of what is one's own: whether it is reached cannot be told, and that is said.
    assert_eq!(ended.exit, ExitCode::Inconclusive);
    Ok(())
}
