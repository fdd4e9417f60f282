//! Each mutant of the reference is killed.

use partywall::exit_code::ExitCode;
use partywall::finding::OracleId;
use partywall::verdict::Verdict;
use partywall::{mutant, requirement};
use partywall_tests::{campaign, run};

/// Oracles whose requirements are each broken by mutants of their own.
const OWN: [OracleId; 5] = [
    OracleId::ExistenceSignal,
    OracleId::WriteContainment,
    OracleId::Noninterference,
    OracleId::TenantContext,
    OracleId::Recovery,
];
/// Requirements of other oracles that are broken alone, too.
const ALONE: [&str; 9] = [
    "work/webhook",
    "pool/together",
    "context/form-body",
    "context/nested-body",
    "live/signed-out",
    "live/closed",
    "live/removed",
    "live/downgraded",
    "role/misleading-header",
];

async fn check(id: &str) -> anyhow::Result<()> {
    let mutant = mutant::select(&[id.to_string()])?.remove(0);
    let (mut campaign, _reports) = campaign(21)?;
    campaign.bounds.cases_max = 6_000;
    campaign.first_finding_only = true;
    campaign.variant = mutant.variant();
    // What breaks one of these breaks it alone, and by that name it must be known.
    let broken =
        requirement::catalogue()?.into_iter().filter(|r| r.mutants.iter().any(|m| m == id) && !r.needs_probe());
    let own = broken.filter(|r| r.oracles.iter().any(|o| OWN.contains(o)) || ALONE.contains(&r.id.as_str()));
    campaign.only = own.map(|r| r.id).collect();
    if !campaign.only.is_empty() {
        campaign.bounds.pool_sizes = vec![2];
        campaign.bounds.cases_max = 0;
    }
    let ended = run(&campaign).await?;
    let why = &ended.report.run.stopped_because;
    let told =
        ended.report.judgement.requirements.iter().filter(|r| !matches!(r.verdict, Verdict::NotApplicable { .. }));
    let told: Vec<_> = told.map(|r| (&r.requirement, &r.verdict, r.judged)).collect();
    assert_eq!(ended.exit, ExitCode::Violated, "{id} survived: {} {why:?} {told:?}", mutant.sentence);
    let finding = &ended.report.judgement.findings[0];
    assert!(
        finding.witness.iter().any(|w| w.part == "probe" && !w.shows.is_empty()),
        "{id}: a finding needs its proof"
    );
    Ok(())
}

macro_rules! killed {
    ($($name:ident: $id:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> anyhow::Result<()> {
            check($id).await
        })+

        #[test]
        fn no_mutant_is_left_out() -> anyhow::Result<()> {
            let known: Vec<String> = mutant::catalogue()?.into_iter().map(|m| m.id).collect();
            assert_eq!(known, [$($id),+]);
            Ok(())
        }
    };
}

killed! {
    row_security_that_is_off_is_seen: "rls-disabled";
    serving_as_an_owner_who_is_not_forced_is_seen: "owner-no-force";
    a_policy_that_lets_all_pass_is_seen: "using-true";
    a_policy_that_opens_without_context_is_seen: "fail-open-no-context";
    a_partition_without_row_security_is_seen: "new-partition-no-rls";
    a_tenant_taken_from_the_query_is_seen: "tenant-from-query";
    a_context_left_on_the_connection_is_seen: "session-set-not-local";
    an_event_fetched_by_id_alone_is_seen: "idor-by-id";
    a_total_over_all_tenants_is_seen: "count-unscoped";
    a_cursor_that_carries_its_tenant_is_seen: "cursor-unbound";
    a_tenant_taken_from_a_header_is_seen: "tenant-from-header";
    a_tenant_taken_from_a_body_is_seen: "tenant-from-body";
    an_application_role_that_is_not_asked_for_is_seen: "role-unchecked";
    a_narrowed_role_that_sees_all_is_seen: "sight-ignored";
    a_signature_that_is_not_verified_is_seen: "signature-unverified";
    an_operator_without_a_credential_is_seen: "nobody-operates";
    an_answer_kept_without_its_tenant_is_seen: "me-kept";
    a_change_by_id_alone_is_seen: "annotation-by-id";
    a_transaction_that_a_client_left_open_is_seen: "transaction-left-open";
    a_sign_in_as_another_is_seen: "sign-in-of-another";
    a_list_kept_for_all_is_seen: "lists-kept";
    a_count_by_day_over_all_tenants_is_seen: "days-unscoped";
    a_status_that_tells_is_seen: "forbidden-for-foreign";
    a_header_that_tells_is_seen: "tag-for-foreign";
    words_that_tell_are_seen: "detail-for-foreign";
    a_condition_that_tells_is_seen: "unchanged-for-foreign";
    a_name_that_is_known_is_seen: "name-held-by-another";
    a_refused_change_that_tells_is_seen: "gone-for-foreign";
    a_value_that_is_taken_is_seen: "unique-over-tenants";
    a_key_that_is_taken_is_seen: "idempotency-over-tenants";
    a_cursor_that_is_known_is_seen: "cursor-known";
    an_account_that_is_known_is_seen: "account-known";
    numbers_that_count_for_all_are_seen: "numbers-over-tenants";
    a_change_that_touches_another_is_seen: "update-touches-another";
    a_deletion_that_takes_anothers_is_seen: "delete-takes-anothers";
    what_is_written_under_another_is_seen: "written-under-another";
    a_tenant_taken_from_the_host_is_seen: "tenant-from-host";
    a_tenant_taken_from_what_a_proxy_says_is_seen: "tenant-from-forwarded";
    a_tenant_taken_from_a_cookie_is_seen: "tenant-from-cookie";
    a_tenant_taken_from_the_path_is_seen: "tenant-from-path";
    a_tenant_taken_from_its_name_is_seen: "tenant-from-name";
    a_tenant_named_twice_is_seen: "tenant-from-last";
    a_tenant_taken_from_within_a_body_is_seen: "tenant-from-nested";
    a_method_that_a_header_changes_is_seen: "override-unguarded";
    counts_kept_without_their_tenant_are_seen: "counts-shared";
    an_idempotency_key_of_all_is_seen: "keys-shared";
    a_signature_of_an_address_that_is_not_verified_is_seen: "signed-unverified";
    an_export_of_another_tenants_rows_is_seen: "export-scope-kept";
    an_export_fetched_by_id_alone_is_seen: "export-by-id";
    a_stream_of_another_tenant_is_seen: "streams-shared";
    a_credential_that_outlives_its_end_is_seen: "credential-kept";
    a_log_that_tells_rows_is_seen: "log-tells";
    an_error_that_tells_rows_is_seen: "error-tells";
    a_header_that_tells_rows_is_seen: "header-tells";
    claims_that_are_believed_are_seen: "claims-believed";
    a_row_that_the_service_throws_away_is_seen: "filtered-late";
    a_row_that_comes_before_a_tenant_is_bound_is_seen: "looked-at-unbound";
    a_tenant_that_stays_bound_is_seen: "bound-to-session";
    a_temporary_table_that_stays_is_seen: "temporary-table-kept";
    a_lock_that_stays_is_seen: "lock-kept";
    a_channel_that_stays_listened_on_is_seen: "listening-kept";
    a_tenant_that_a_failure_leaves_bound_is_seen: "reset-after-success";
    a_connection_that_is_never_whole_again_is_seen: "failed-given-back";
    what_is_sent_to_anothers_webhook_is_seen: "deliveries-shared";
    a_limit_that_others_use_up_is_seen: "limits-shared";
    an_answer_to_all_who_ask_at_once_is_seen: "asked-together";
    a_kept_answer_to_all_while_the_database_is_away_is_seen: "stale-for-all";
    a_tenant_taken_from_a_form_is_seen: "tenant-from-form";
    a_retention_that_deletes_nothing_is_seen: "retention-idle";
    a_retention_that_takes_anothers_rows_is_seen: "retention-over-tenants";
    a_retention_that_takes_what_is_held_is_seen: "hold-ignored";
    a_sign_out_that_ends_nothing_is_seen: "signed-out-in-name";
    a_key_read_from_the_file_that_a_token_names_is_seen: "key-from-file";
    a_key_asked_for_by_what_a_token_says_is_seen: "key-from-query";
    a_row_that_goes_with_one_of_its_name_is_seen: "deleted-by-name";
    a_member_who_was_removed_and_stays_is_seen: "removed-in-name";
    a_stream_that_outlives_its_readers_membership_is_seen: "stream-outlives";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_defects_build_is_sound_while_no_defect_is_on() -> anyhow::Result<()> {
    let (mut campaign, _reports) = campaign(22)?;
    campaign.bounds.pool_sizes = vec![1];
    campaign.variant.defects_build = true;
    run(&campaign).await?.assert_upheld();
    Ok(())
}
