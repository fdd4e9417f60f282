//! Each requirement is violated by the mutant that it names, when nothing else is judged: a mutant that several
//! requirements name must break each of them.

use partywall::exit_code::ExitCode;
use partywall::mutant;
use partywall::verdict::Verdict;
use partywall_tests::{campaign, run};

async fn check(requirement: &str, mutant: &str) -> anyhow::Result<()> {
    let mutant = mutant::select(&[mutant.to_string()])?.remove(0);
    let (mut campaign, _reports) = campaign(23)?;
    campaign.first_finding_only = true;
    campaign.bounds.pool_sizes = vec![2];
    campaign.only = vec![requirement.into()];
    campaign.variant = mutant.variant();
    let ended = run(&campaign).await?;
    let verdict = &ended.report.judgement.requirements[0].verdict;
    assert_eq!(*verdict, Verdict::Violated, "{requirement} stands although: {}", mutant.sentence);
    assert_eq!(ended.exit, ExitCode::Violated);
    Ok(())
}

macro_rules! violated {
    ($($name:ident: $requirement:literal by $mutant:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> anyhow::Result<()> {
            check($requirement, $mutant).await
        })+
    };
}

violated! {
    a_key_given_twice: "context/repeated-key" by "tenant-from-body";
    fields_that_are_the_services_to_set: "context/body-reference" by "tenant-from-body";
    an_id_in_another_spelling: "context/spelling" by "idor-by-id";
    a_verb_that_is_not_documented: "context/verb" by "idor-by-id";
    an_object_below_anothers_parent: "read/child" by "rls-disabled";
    counts_of_anothers_rows: "read/aggregate" by "counts-shared";
    what_anothers_answer_yielded: "read/learnt" by "export-by-id";
    an_answer_kept_for_another: "store/cache" by "me-kept";
    an_object_of_anothers_rows: "store/objects" by "export-scope-kept";
    a_stream_taken_up_where_another_left_it: "live/resume" by "cursor-unbound";
}
