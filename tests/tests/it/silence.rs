//! Services that leak nothing because they say nothing, or that are not there: none of them is certified.

use partywall::exit_code::ExitCode;
use partywall::verdict::{CellState, Overall, Verdict};
use partywall_tests::{campaign, run};

async fn judged(answer: &str) -> anyhow::Result<partywall::campaign::Ended> {
    let (mut campaign, _reports) = campaign(31)?;
    let launch = campaign.target.launch.as_mut().expect("the reference is launched");
    launch.program = env!("CARGO_BIN_EXE_facade").into();
    launch.cargo_package = None;
    launch.env.insert("FACADE".into(), answer.replace('{', "{{").replace('}', "}}"));
    campaign.bounds.pool_sizes = vec![1];
    campaign.bounds.cases_max = 300;
    // The facade signs everyone in: what is asked is whether its silence passes for a wall.
    campaign.only =
        ["read/by-id", "read/list", "write/by-id", "context/forged-query", "pool/.."].map(String::from).into();
    run(&campaign).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_answers_500_to_everything_is_not_certified() -> anyhow::Result<()> {
    let ended = judged("500 {}").await?;
    assert_eq!(ended.exit, ExitCode::Inconclusive, "{:#?}", ended.report.judgement.findings);
    let upheld: Vec<_> = ended.report.judgement.requirements.iter().filter(|r| r.verdict == Verdict::Upheld).collect();
    assert!(upheld.is_empty(), "{upheld:#?}");
    let answered = ["sign_in", "readyz", "openapi"];
    let silent = |c: &&partywall::verdict::CellVerdict| !answered.contains(&c.cell.operation.as_str());
    let upheld: Vec<_> =
        ended.report.judgement.cells.iter().filter(silent).filter(|c| c.state == CellState::Upheld).collect();
    assert!(upheld.is_empty(), "{upheld:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_answers_nothing_at_length_is_not_certified() -> anyhow::Result<()> {
    for answer in ["200 {\"items\":[],\"total\":0}", "404 {}", "204 "] {
        let ended = judged(answer).await?;
        assert_ne!(ended.report.overall, Overall::Upheld, "{answer}");
        assert!(matches!(ended.exit, ExitCode::Violated | ExitCode::Inconclusive), "{answer}: {:?}", ended.exit);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_said_in_the_targets_own_words() -> anyhow::Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let (mut campaign, _reports) = campaign(32)?;
    let launch = campaign.target.launch.as_mut().expect("the reference is launched");
    launch.env.insert("AUDIT_LISTEN".into(), taken.local_addr()?.to_string());
    let Err(error) = run(&campaign).await else { panic!("nothing can be served there") };
    assert_eq!(error.downcast_ref::<partywall::error::Error>().map(|e| e.exit_code()), Some(ExitCode::Unreachable));
    let text = error.to_string();
    assert!(text.contains("ended before it was ready") && text.contains("cannot listen"), "{text}");
    Ok(())
}
