//! A service whose people sign in and out and whose rows have codes: `service.rs` tells how. Sound, nothing is found; with
//! one habit, what it breaks is.

mod service;

use partywall::campaign::{Campaign, Ended};
use partywall::target::file::TargetFile;
use partywall::verdict::Verdict;
use service::{Habit, Stock};

const ACME: &str = "acme-password-41c9d2";
const GLOBEX: &str = "globex-password-8e07fa";
const TARGET: &str = include_str!("partywall.toml");

async fn certified(habit: Habit, target: &str) -> anyhow::Result<Ended> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let stock = Stock::new([(ACME, "acme-3f19"), (GLOBEX, "globex-b7e2")], habit);
    let service = tokio::spawn(axum::serve(listener, stock.router()).into_future());
    let campaign = Campaign::against(TargetFile::parse(target, "partywall.toml")?).variable("STOCK_URL", &url);
    let campaign = campaign.variable("ACME_PASSWORD", ACME).variable("GLOBEX_PASSWORD", GLOBEX);
    let ended = campaign.max_cases(200).rows(6).run().await?;
    service.abort();
    Ok(ended)
}

/// Upheld, and by steps that were answered.
fn upheld(ended: &Ended, ids: &[&str]) {
    ended.assert_upheld();
    for id in ids {
        let found = ended.report.judgement.requirements.iter().find(|r| r.requirement == *id);
        assert_eq!(found.map(|found| &found.verdict), Some(&Verdict::Upheld), "{id}");
    }
}

#[tokio::test]
async fn a_sound_service_is_upheld() -> anyhow::Result<()> {
    let judged = ["context/forged-query", "live/signed-out", "role/misleading-header", "write/namesake"];
    upheld(&certified(Habit::Sound, TARGET).await?, &judged);
    Ok(())
}

#[tokio::test]
async fn a_sign_out_that_is_told_nothing_ends_no_session_but_its_own() -> anyhow::Result<()> {
    let told = "prepare = { operation = \"sign_in\", capture = { refresh = \"/refresh\" } }\n\
                body = { refresh = \"{captured:refresh}\" }\n";
    let untold = TARGET.replacen(told, "", 1);
    assert_ne!(untold, TARGET);
    upheld(&certified(Habit::Sound, &untold).await?, &["live/signed-out"]);
    Ok(())
}

/// Caught, by the requirement that it breaks and at the operation that does.
async fn caught(habit: Habit, requirement: &str, operation: &str) -> anyhow::Result<()> {
    let ended = certified(habit, TARGET).await?;
    let findings = &ended.report.judgement.findings;
    let told: Vec<String> = findings.iter().map(|f| format!("{} {}", f.requirement, f.operation)).collect();
    assert!(told.contains(&format!("{requirement} {operation}")), "{habit:?}: {told:#?}");
    Ok(())
}

macro_rules! caught {
    ($($name:ident: $habit:ident, $requirement:literal, $operation:literal;)+) => {
        $(#[tokio::test]
        async fn $name() -> anyhow::Result<()> {
            caught(Habit::$habit, $requirement, $operation).await
        })+
    };
}

caught! {
    a_tenant_that_only_a_value_names_is_caught: ListsByScope, "context/forged-query", "list_items";
    a_count_of_a_tenant_that_only_a_value_names_is_caught: CountsByScope, "existence/name", "count_items";
    a_sign_out_in_name_is_caught: SignsOutInName, "live/signed-out", "me";
    a_session_that_is_renewed_after_its_end_is_caught: RenewsForEver, "live/signed-out", "renew";
    a_deletion_by_code_is_caught: DeletesByCode, "write/namesake", "read_item";
    what_goes_with_a_namesake_is_caught: LotsGoByCode, "write/namesake", "read_lot";
    a_row_filed_by_its_code_is_caught: FilesByCode, "write/namesake", "read_item";
    a_row_replaced_by_its_code_is_caught: ReplacesByCode, "write/namesake", "read_item";
    a_change_by_code_is_caught: ChangesByCode, "write/namesake", "read_item";
}
