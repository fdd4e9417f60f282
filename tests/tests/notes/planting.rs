//! How given tenants are settled in: what is learnt of them from where, and what becomes of a run that cannot.

use partywall::campaign::{Campaign, Ended};
use partywall::exit_code::ExitCode;
use partywall::target::file::TargetFile;
use partywall::verdict::CellState;

use crate::service::{Habit, Notes};
use crate::{ACME, GLOBEX};

async fn driven(habit: Habit, id: &str) -> anyhow::Result<Ended> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let notes = Notes::new([(ACME, "acme"), (GLOBEX, "globex")]).with(habit);
    let service = tokio::spawn(axum::serve(listener, notes.router()).into_future());
    let file = include_str!("partywall.toml").replace("learnt:/id", id);
    let campaign = Campaign::against(TargetFile::parse(&file, id)?).max_cases(100).variable("NOTES_URL", &url);
    let ended = campaign.variable("ACME_TOKEN", ACME).variable("GLOBEX_TOKEN", GLOBEX).run().await?;
    service.abort();
    Ok(ended)
}

#[tokio::test]
async fn numbers_that_count_up_serve_as_ids() -> anyhow::Result<()> {
    only_numbers_tell(&driven(Habit::Counts, "learnt:/id").await?);
    Ok(())
}

#[tokio::test]
async fn ids_are_learnt_from_a_header_and_from_lists() -> anyhow::Result<()> {
    for id in ["listed:/id", "learnt:location"] {
        driven(Habit::Sound, id).await?.assert_upheld();
    }
    only_numbers_tell(&driven(Habit::Counts, "listed:/id").await?);
    let ended = driven(Habit::Leaks, "listed:/id").await?;
    assert_eq!(ended.exit, ExitCode::Violated);
    // Where the id is told nowhere else, what is made and then changed cannot be named: the rest can.
    let ended = driven(Habit::Points, "learnt:location").await?;
    assert!(ended.report.judgement.findings.is_empty(), "{:#?}", ended.report.judgement.findings);
    assert_eq!(ended.exit, ExitCode::Inconclusive);
    Ok(())
}

#[tokio::test]
async fn an_owner_that_is_not_shown_its_own_stops_the_run() -> anyhow::Result<()> {
    let ended = driven(Habit::Hides, "learnt:/id").await?;
    let why = ended.report.run.stopped_because.unwrap_or_default();
    assert!(why.contains("planting failed") && why.contains("list_notes showed no row 0"), "{why}");
    assert_eq!((ended.exit, ended.report.judgement.counts.attempted), (ExitCode::Unreachable, 0));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_made_is_left_open_by_name() -> anyhow::Result<()> {
    let ended = driven(Habit::Refuses, "learnt:/id").await?;
    assert_eq!(ended.exit, ExitCode::Inconclusive);
    let judgement = &ended.report.judgement;
    assert!(judgement.findings.is_empty(), "{:#?}", judgement.findings);
    let told = |why: &str| why.contains("not all rows of notes could be made: create_note answered 422");
    assert!(judgement.cells.iter().all(|cell| matches!(&cell.state, CellState::Inconclusive(why) if told(why))));
    Ok(())
}

#[tokio::test]
async fn ids_that_are_others_on_each_run_are_learnt_on_each() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let notes = Notes::new([(ACME, "acme"), (GLOBEX, "globex")]);
    let service = tokio::spawn(axum::serve(listener, notes.router()).into_future());
    for _ in 0..2 {
        // The same seed, beside what the run before has left there.
        let target = TargetFile::parse(include_str!("partywall.toml"), "partywall.toml")?;
        let campaign = Campaign::against(target).seed(7).max_cases(100).variable("NOTES_URL", &url);
        campaign.variable("ACME_TOKEN", ACME).variable("GLOBEX_TOKEN", GLOBEX).run().await?.assert_upheld();
    }
    service.abort();
    Ok(())
}

/// Numbers that count for all tell each how much the others make; nothing else is wrong with them.
fn only_numbers_tell(ended: &partywall::campaign::Ended) {
    let findings = &ended.report.judgement.findings;
    assert!(findings.iter().all(|finding| finding.requirement == "existence/sequence"), "{findings:#?}");
    assert_eq!(ended.exit, ExitCode::Violated);
}
