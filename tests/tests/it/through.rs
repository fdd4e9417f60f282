//! The wall where PgBouncer lends connections: what the reference binds goes with its transaction, and what is set for the
//! session meets the next one.

use partywall::exit_code::ExitCode;
use partywall::mutant;
use partywall::postgres::pgbouncer::{Mode, Through};
use partywall_tests::{campaign, run};

/// What a pooler may break.
const POOLED: [&str; 9] = [
    "pool/hand-over",
    "pool/after-cancel",
    "pool/together",
    "pool/carried",
    "pool/after-fault",
    "pool/recovery",
    "read/query",
    "context/unbound",
    "context/left",
];

/// What comes of the reference, or of one of its mutants, behind PgBouncer, of what is selected.
async fn through(mode: Mode, only: &[&str], id: Option<&str>) -> anyhow::Result<partywall::campaign::Ended> {
    let (mut campaign, _reports) = campaign(23)?;
    campaign.bounds.pool_sizes = vec![4];
    campaign.bounds.cases_max = 0;
    campaign.only = only.iter().map(|word| (*word).into()).collect();
    campaign.through = Some(Through { mode, program: None });
    if let Some(id) = id {
        campaign.variant = mutant::select(&[id.to_string()])?.remove(0).variant();
        campaign.first_finding_only = true;
    }
    run(&campaign).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_holds_where_each_transaction_meets_another_backend() -> anyhow::Result<()> {
    let ended = through(Mode::Transaction, &POOLED, None).await?;
    ended.assert_upheld();
    assert!(ended.report.judgement.counts.hand_overs > 100, "backends went from one tenant to another");
    assert!(
        ended.report.run.notes.iter().any(|note| note.contains("in transaction mode")),
        "{:?}",
        ended.report.run.notes
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_holds_where_each_connection_keeps_its_backend() -> anyhow::Result<()> {
    let ended = through(Mode::Session, &POOLED[..6], None).await?;
    ended.assert_upheld();
    assert!(ended.report.judgement.counts.hand_overs > 100, "backends went from one tenant to another");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_bound_to_the_session_is_seen_in_both_modes() -> anyhow::Result<()> {
    for mode in [Mode::Transaction, Mode::Session] {
        let ended = through(mode, &POOLED[..1], Some("session-set-not-local")).await?;
        let why = &ended.report.run.stopped_because;
        assert_eq!(ended.exit, ExitCode::Violated, "{} mode: {why:?}", mode.word());
    }
    Ok(())
}
