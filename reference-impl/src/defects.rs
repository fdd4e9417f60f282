//! Deliberate defects, for trying those who test the wall. Without the `defects` feature every seam is a constant and
//! the wall is whole; with it, `AUDIT_DEFECTS` names the ones to switch on.

/// A deliberate defect, or the removal of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The tenant is taken from the query.
    TenantFromQuery,
    /// The context is set for the session, and not again where a connection has one.
    SessionSetNotLocal,
    /// Events are fetched by id alone.
    IdorById,
    /// Totals are counted without the tenant.
    CountUnscoped,
    /// Cursors are unsigned and carry the tenant they continue in.
    CursorUnbound,
    /// The store's own tenant predicate lets all pass.
    NoStorePredicate,
    /// The store holds no tenant of its own: its predicate asks what is bound to the transaction.
    StoreBelievesContext,
    /// No tenant is bound.
    NoContext,
    /// A list within one month reads that month's partition by name.
    PartitionDirect,
    /// Serving as a database role that stands above the wall is not refused.
    AsOwner,
    /// Serving behind a wall with holes is not refused: row security, policies, views, functions.
    ServeUnwalled,
    /// The tenant is taken from a header.
    TenantFromHeader,
    /// The tenant of a bulk is taken from its first line.
    TenantFromBody,
    /// Operations take every application role.
    RoleUnchecked,
    /// Who may see a part of its tenant's events sees all.
    SightIgnored,
    /// Access tokens are believed whoever signed them.
    SignatureUnverified,
    /// A request without a credential is an operator's.
    NobodyOperates,
    /// Who one is is kept for all who ask.
    MeKept,
    /// Annotations are changed and deleted by their id alone.
    AnnotationById,
    /// A client that goes away cancels the scope, whose connection goes back as it is.
    ScopeCancelled,
    /// A transaction that has a tenant bound is not bound again, nor is the membership asked for.
    BoundOnce,
    /// A list is kept for all who ask the same, and whatever is written.
    ListsKept,
    /// Events are counted by day over all tenants.
    DaysUnscoped,
    /// What another has is forbidden, where what nobody has is not found.
    ForbiddenForForeign,
    /// What another has is not found, and has a tag.
    TagForForeign,
    /// What another has is not found, in other words.
    DetailForForeign,
    /// What another has is unchanged, whatever tag is known.
    UnchangedForForeign,
    /// What is made is numbered for all tenants alike.
    NumbersOverTenants,
    /// A cursor of another tenant is refused in words of its own.
    CursorKnown,
    /// An address that nobody has is not found.
    AccountKnown,
    /// The tenant is taken from the host.
    TenantFromHost,
    /// The tenant is taken from the host that a proxy names.
    TenantFromForwarded,
    /// The tenant is taken from a cookie.
    TenantFromCookie,
    /// The tenant is taken from before the path.
    TenantFromPath,
    /// The tenant is taken from its name in the query.
    TenantFromName,
    /// The tenant is taken from the query when it is named there twice.
    TenantFromLast,
    /// The tenant of a bulk is taken from a document within its first line.
    TenantFromNested,
    /// A header names another method than the request's.
    MethodOverride,
    /// Counts are kept without their tenant.
    CountsShared,
    /// An idempotency key is anybody's.
    KeysShared,
    /// What opens an object is believed whoever signed it.
    SignedUnverified,
    /// Exports are written in the scope of the first one.
    ExportScopeKept,
    /// An export is fetched by its id alone.
    ExportById,
    /// All streams show the tenant whose stream was opened last.
    StreamsShared,
    /// A secret once proved is not asked for again.
    CredentialKept,
    /// The log tells what events hold.
    LogTells,
    /// An error tells what was written last, by whomever.
    ErrorTells,
    /// A header tells what was written before, by whomever.
    HeaderTells,
    /// A session is not asked for.
    SessionUnasked,
    /// A stream asks once who its reader is.
    StreamOutlives,
    /// Whether a person belongs to the tenant still, with that role, is not asked.
    RemovedInName,
    /// Events are fetched by id alone, and those of others are thrown away.
    FilteredLate,
    /// A transaction looks at an event before it is bound.
    LookedAtUnbound,
    /// The tenant is bound to the session, each time anew.
    BoundToSession,
    /// A temporary table is left on the connection.
    TemporaryTableKept,
    /// A lock is left on the connection.
    LockKept,
    /// A channel is left listened on.
    ListeningKept,
    /// The tenant is bound to the session, and taken back when the database did not fail.
    ResetAfterSuccess,
    /// A connection on which the database failed goes back as it is.
    FailedGivenBack,
    /// What is sent to one webhook is sent to all that are known.
    DeliveriesShared,
    /// What is left of a limit is counted over all tenants.
    LimitsShared,
    /// Who asks what is just being asked is answered with it.
    AskedTogether,
    /// What cannot be answered at once is answered as it last was, to whoever asks.
    StaleForAll,
    /// A body may be a form, and the tenant in it is believed.
    TenantFromForm,
    /// A retention run deletes nothing, and is done.
    RetentionIdle,
    /// A legal hold holds nothing.
    HoldIgnored,
    /// Signing out is answered, and ends nothing.
    SignedOutInName,
    /// The key that an access token names is read from a file of that name.
    KeyFromFile,
    /// The key that an access token names is asked for by a statement with the name in it.
    KeyFromQuery,
}

/// The words of `AUDIT_DEFECTS`.
pub const WORDS: &[(&str, Defect)] = &[
    ("tenant-from-query", Defect::TenantFromQuery),
    ("session-set-not-local", Defect::SessionSetNotLocal),
    ("idor-by-id", Defect::IdorById),
    ("count-unscoped", Defect::CountUnscoped),
    ("cursor-unbound", Defect::CursorUnbound),
    ("no-store-predicate", Defect::NoStorePredicate),
    ("store-believes-context", Defect::StoreBelievesContext),
    ("no-context", Defect::NoContext),
    ("partition-direct", Defect::PartitionDirect),
    ("as-owner", Defect::AsOwner),
    ("serve-unwalled", Defect::ServeUnwalled),
    ("tenant-from-header", Defect::TenantFromHeader),
    ("tenant-from-body", Defect::TenantFromBody),
    ("role-unchecked", Defect::RoleUnchecked),
    ("sight-ignored", Defect::SightIgnored),
    ("signature-unverified", Defect::SignatureUnverified),
    ("nobody-operates", Defect::NobodyOperates),
    ("me-kept", Defect::MeKept),
    ("annotation-by-id", Defect::AnnotationById),
    ("scope-cancelled", Defect::ScopeCancelled),
    ("bound-once", Defect::BoundOnce),
    ("lists-kept", Defect::ListsKept),
    ("days-unscoped", Defect::DaysUnscoped),
    ("forbidden-for-foreign", Defect::ForbiddenForForeign),
    ("tag-for-foreign", Defect::TagForForeign),
    ("detail-for-foreign", Defect::DetailForForeign),
    ("unchanged-for-foreign", Defect::UnchangedForForeign),
    ("numbers-over-tenants", Defect::NumbersOverTenants),
    ("cursor-known", Defect::CursorKnown),
    ("account-known", Defect::AccountKnown),
    ("tenant-from-host", Defect::TenantFromHost),
    ("tenant-from-forwarded", Defect::TenantFromForwarded),
    ("tenant-from-cookie", Defect::TenantFromCookie),
    ("tenant-from-path", Defect::TenantFromPath),
    ("tenant-from-name", Defect::TenantFromName),
    ("tenant-from-last", Defect::TenantFromLast),
    ("tenant-from-nested", Defect::TenantFromNested),
    ("method-override", Defect::MethodOverride),
    ("counts-shared", Defect::CountsShared),
    ("keys-shared", Defect::KeysShared),
    ("signed-unverified", Defect::SignedUnverified),
    ("export-scope-kept", Defect::ExportScopeKept),
    ("export-by-id", Defect::ExportById),
    ("streams-shared", Defect::StreamsShared),
    ("credential-kept", Defect::CredentialKept),
    ("log-tells", Defect::LogTells),
    ("error-tells", Defect::ErrorTells),
    ("header-tells", Defect::HeaderTells),
    ("session-unasked", Defect::SessionUnasked),
    ("stream-outlives", Defect::StreamOutlives),
    ("filtered-late", Defect::FilteredLate),
    ("looked-at-unbound", Defect::LookedAtUnbound),
    ("bound-to-session", Defect::BoundToSession),
    ("temporary-table-kept", Defect::TemporaryTableKept),
    ("lock-kept", Defect::LockKept),
    ("listening-kept", Defect::ListeningKept),
    ("reset-after-success", Defect::ResetAfterSuccess),
    ("failed-given-back", Defect::FailedGivenBack),
    ("deliveries-shared", Defect::DeliveriesShared),
    ("limits-shared", Defect::LimitsShared),
    ("asked-together", Defect::AskedTogether),
    ("stale-for-all", Defect::StaleForAll),
    ("tenant-from-form", Defect::TenantFromForm),
    ("retention-idle", Defect::RetentionIdle),
    ("hold-ignored", Defect::HoldIgnored),
    ("signed-out-in-name", Defect::SignedOutInName),
    ("removed-in-name", Defect::RemovedInName),
    ("key-from-file", Defect::KeyFromFile),
    ("key-from-query", Defect::KeyFromQuery),
];

#[cfg(feature = "defects")]
static SELECTED: std::sync::OnceLock<Vec<Defect>> = std::sync::OnceLock::new();

/// True when `defect` is switched on.
#[cfg(feature = "defects")]
pub fn on(defect: Defect) -> bool {
    SELECTED.get().is_some_and(|selected| selected.contains(&defect))
}

/// Never.
#[cfg(not(feature = "defects"))]
pub const fn on(_: Defect) -> bool {
    false
}

/// Reads `AUDIT_DEFECTS`.
///
/// # Errors
/// An unknown word; any word at all without the feature.
pub fn select(words: &str) -> anyhow::Result<()> {
    let words: Vec<&str> = words.split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
    if words.is_empty() {
        return Ok(());
    }
    #[cfg(not(feature = "defects"))]
    anyhow::bail!("AUDIT_DEFECTS is set, and this build has no defects to offer");
    #[cfg(feature = "defects")]
    {
        let find = |word: &&str| {
            let known = WORDS.iter().find(|(name, _)| name == word).map(|(_, defect)| *defect);
            known.ok_or_else(|| anyhow::anyhow!("AUDIT_DEFECTS: no defect `{word}`"))
        };
        let selected = words.iter().map(find).collect::<anyhow::Result<Vec<_>>>()?;
        tracing::warn!(?selected, "deliberate defects are on: this wall is meant to leak");
        SELECTED.set(selected).map_err(|_| anyhow::anyhow!("defects were selected twice"))
    }
}
