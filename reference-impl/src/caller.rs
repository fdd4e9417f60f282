//! Who calls: proved by a bearer credential, with one application role. A handler's signature says which roles it
//! takes.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use futures_util::future::BoxFuture;
use sqlx::Row;
use uuid::Uuid;

use crate::defects::{Defect, on};
use crate::http::App;
use crate::http::log::TenantSeen;
use crate::limits::Told;
use crate::problem::Problem;
use crate::scope::TenantScope;
use crate::store::{AuditStore, Sight};
use crate::telemetry::Trace;
use crate::token::{self, Lifetime, Signer};
use crate::{believed, careless};

/// An application role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything in the tenant.
    Owner,
    /// Everything but owning it.
    Admin,
    /// Reads all.
    Auditor,
    /// Reads its own actions, annotates them.
    Member,
    /// Writes events only.
    Ingest,
    /// Reads one actor's or one target's events.
    Viewer,
    /// Operates the service; sees no tenant row.
    Platform,
}

impl Role {
    /// The word that credentials and answers use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Member => "member",
            Self::Ingest => "ingest",
            Self::Viewer => "viewer",
            Self::Platform => "platform",
        }
    }

    /// The role of that word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Owner, Self::Admin, Self::Auditor, Self::Member, Self::Ingest, Self::Viewer, Self::Platform]
            .into_iter()
            .find(|role| role.word() == word)
    }

    fn is_person(self) -> bool {
        matches!(self, Self::Owner | Self::Admin | Self::Auditor | Self::Member)
    }
}

/// A proved caller.
#[derive(Clone)]
pub struct Caller {
    /// The person, API key or viewer token.
    pub id: Uuid,
    /// The application role.
    pub role: Role,
    /// Which of the tenant's events it may see.
    pub sight: Sight,
    tenant: Option<Uuid>,
    /// A person's session; keys and viewer tokens have none.
    session: Option<Uuid>,
    /// When its access token runs out, seconds since the Unix epoch; keys and viewer tokens have none.
    expires_s: Option<i64>,
    trace: Option<Trace>,
    app: App,
}

/// Who asks, in full: another tenant, person, session, role or sight is another asker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proved {
    tenant: Uuid,
    session: Uuid,
    id: Uuid,
    role: Role,
    sight: Sight,
}

impl Proved {
    /// The one asker of a cache that does not tell askers apart.
    pub(crate) fn of_nobody(self) -> Self {
        Self { tenant: Uuid::nil(), session: Uuid::nil(), id: Uuid::nil(), role: Role::Viewer, sight: Sight::None }
    }
}

impl Caller {
    /// Who asks; none without a tenant, and none for keys and viewer tokens, which were asked about already.
    pub(crate) fn proved(&self) -> Option<Proved> {
        let (tenant, session) = self.tenant.zip(self.session)?;
        Some(Proved { tenant, session, id: self.id, role: self.role, sight: self.sight.clone() })
    }

    /// As part of the request's trace.
    pub(crate) fn traced(self, parts: &Parts) -> Self {
        Self { trace: parts.extensions.get::<Trace>().cloned(), ..self }
    }

    /// One whose membership nobody asks for any more.
    pub(crate) fn unasked(self) -> Self {
        Self { session: None, ..self }
    }

    /// The tenant; none for the platform's operators.
    pub fn tenant(&self) -> Option<Uuid> {
        self.tenant
    }

    /// When the access token runs out, seconds since the Unix epoch; keys and viewer tokens have none.
    pub fn expires_s(&self) -> Option<i64> {
        self.expires_s
    }

    /// Runs `work` in the caller's tenant, once its membership and its session are seen to stand still.
    ///
    /// # Errors
    /// [`Problem::Unauthenticated`] once the membership or the session has ended; else as [`TenantScope::run`].
    pub async fn run<T, W>(&self, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: for<'s> FnOnce(&'s mut AuditStore) -> BoxFuture<'s, Result<T, Problem>> + Send + 'static,
    {
        let tenant = self.tenant.ok_or(Problem::Forbidden)?;
        self.run_in(tenant, work).await
    }

    /// As [`Caller::run`], in the tenant that a cursor names: the same one, unless cursors are unbound.
    ///
    /// # Errors
    /// As [`Caller::run`].
    pub(crate) async fn run_in<T, W>(&self, tenant: Uuid, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: for<'s> FnOnce(&'s mut AuditStore) -> BoxFuture<'s, Result<T, Problem>> + Send + 'static,
    {
        let (person, role) = (self.id, self.role);
        // Where the defect is the binding itself, the membership that would tell is not asked for.
        let unasked = believed::any() || on(Defect::BoundOnce) || on(Defect::SessionUnasked);
        let session = self.session.filter(|_| Some(tenant) == self.tenant && !unasked);
        TenantScope::of(self.app.storage.clone(), tenant)
            .traced(self.trace.clone())
            .run(move |store| {
                Box::pin(async move {
                    if let Some(session) = session
                        && !store.stands(person, role.word(), session).await?
                    {
                        return Err(Problem::Unauthenticated);
                    }
                    work(store).await
                })
            })
            .await
    }
}

/// The application roles that an operation takes.
pub trait Takes: Send + Sync {
    /// These.
    const ROLES: &'static [Role];
}

macro_rules! takes {
    ($($(#[$doc:meta])* $name:ident: $($role:ident)+;)+) => {$(
        $(#[$doc])*
        pub struct $name;
        impl Takes for $name {
            const ROLES: &'static [Role] = &[$(Role::$role),+];
        }
    )+};
}

takes! {
    /// Anyone with a credential.
    Anyone: Owner Admin Auditor Member Ingest Viewer Platform;
    /// People of a tenant, and the platform's.
    People: Owner Admin Auditor Member Platform;
    /// Those who may write events.
    WritesEvents: Owner Admin Ingest;
    /// Those who may read events, some only their own or a narrowed part.
    ReadsEvents: Owner Admin Auditor Member Viewer;
    /// Those who may search events.
    SearchesEvents: Owner Admin Auditor Member;
    /// Those who may annotate.
    Annotates: Owner Admin Member;
    /// Those who may read what administrators manage.
    Oversees: Owner Admin Auditor;
    /// Those who oversee, and those whose events must fit.
    ReadsTypes: Owner Admin Auditor Member Ingest;
    /// Those who keep searches.
    Searches: Owner Admin Auditor Member;
    /// People of a tenant.
    Belongs: Owner Admin Auditor Member;
    /// Who owns the tenant.
    Owns: Owner;
    /// Those who manage the tenant.
    Manages: Owner Admin;
    /// The platform's operators.
    Operates: Platform;
}

/// A caller whose role the operation takes.
pub struct Allowed<T: Takes>(pub Caller, pub PhantomData<T>);

impl<T: Takes> Allowed<T> {
    /// Lets `caller` in when the operation takes its role.
    ///
    /// # Errors
    /// [`Problem::Forbidden`].
    pub fn of(caller: Caller) -> Result<Self, Problem> {
        let takes = T::ROLES.contains(&caller.role) || on(Defect::RoleUnchecked);
        if takes { Ok(Self(caller, PhantomData)) } else { Err(Problem::Forbidden) }
    }
}

impl<T: Takes> FromRequestParts<App> for Allowed<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Self(mut caller, takes) = Self::of(prove(parts, app, Lifetime::Running).await?)?;
        if believed::any() && caller.tenant.is_some() {
            caller.tenant = believed::tenant(parts, &app.platform).await.or(caller.tenant);
        }
        Ok(Self(caller, takes))
    }
}

/// A person who renews a session: the access token may have run out, which is when one renews.
pub struct Renews(pub Caller);

impl FromRequestParts<App> for Renews {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = prove(parts, app, Lifetime::Any).await?;
        if People::ROLES.contains(&caller.role) { Ok(Self(caller)) } else { Err(Problem::Forbidden) }
    }
}

async fn prove(parts: &Parts, app: &App, lifetime: Lifetime) -> Result<Caller, Problem> {
    let caller = proved(parts, app, lifetime).await?.traced(parts);
    admit(parts, app, &caller)?;
    Ok(caller)
}

/// Notes the caller's tenant for the log, and takes the request from what its tenant and itself may ask for.
///
/// # Errors
/// [`Problem::TooMany`].
pub(crate) fn admit(parts: &Parts, app: &App, caller: &Caller) -> Result<(), Problem> {
    if let (Some(tenant), Some(seen)) = (caller.tenant, parts.extensions.get::<TenantSeen>()) {
        seen.note(tenant);
    }
    let allowance = app.limits.take(caller.tenant, caller.id);
    if let Some(told) = parts.extensions.get::<Told>() {
        told.note(allowance);
    }
    allowance.wait_s().map_or(Ok(()), |wait_s| Err(Problem::TooMany(wait_s)))
}

async fn proved(parts: &Parts, app: &App, lifetime: Lifetime) -> Result<Caller, Problem> {
    if on(Defect::NobodyOperates) && !parts.headers.contains_key(AUTHORIZATION) {
        let (id, role, sight) = (Uuid::nil(), Role::Platform, Sight::None);
        return Ok(Caller {
            id,
            role,
            sight,
            tenant: None,
            session: None,
            expires_s: None,
            trace: None,
            app: app.clone(),
        });
    }
    let value = parts.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).ok_or(Problem::Unauthenticated)?;
    let token = value.strip_prefix("Bearer ").ok_or(Problem::Unauthenticated)?;
    if token.starts_with("ak_") || token.starts_with("vt_") {
        if on(Defect::CredentialKept)
            && let Some(caller) = careless::proved(token)
        {
            return Ok(caller);
        }
        let row = sqlx::query("SELECT tenant_id, id, role, actor_id, target_type, target_id FROM credential_of($1)")
            .bind(token::hash(token))
            .fetch_optional(&app.login)
            .await?
            .ok_or(Problem::Unauthenticated)?;
        let role = Role::of_word(row.get("role")).ok_or(Problem::Unauthenticated)?;
        let sight = match (row.get("actor_id"), row.get("target_type"), row.get("target_id")) {
            (Some(actor), _, _) => Sight::Actor(actor),
            (None, Some(kind), Some(id)) => Sight::Target(kind, id),
            _ => Sight::None,
        };
        let (id, tenant) = (row.get("id"), Some(row.get("tenant_id")));
        let (session, expires_s, trace, app) = (None, None, None, app.clone());
        let caller = Caller { id, role, sight, tenant, session, expires_s, trace, app };
        if on(Defect::CredentialKept) {
            careless::prove(token, &caller);
        }
        return Ok(caller);
    }
    signed_in(token, app, lifetime).await
}

/// The person whose access token this is; keys and viewer tokens are none.
pub(crate) async fn signed_in(token: &str, app: &App, lifetime: Lifetime) -> Result<Caller, Problem> {
    let claims = match believed::key(token, &app.login).await {
        Some(key) => Signer::new(&key).verify(token, lifetime),
        None => app.signer.verify(token, lifetime),
    };
    let claims = claims.ok_or(Problem::Unauthenticated)?;
    let role = Role::of_word(&claims.role).ok_or(Problem::Unauthenticated)?;
    if (role == Role::Platform) != claims.tenant.is_none() || !(role.is_person() || role == Role::Platform) {
        return Err(Problem::Unauthenticated);
    }
    if role == Role::Platform {
        let stands: bool = sqlx::query_scalar("SELECT operates($1, $2)")
            .bind(claims.sid)
            .bind(claims.sub)
            .fetch_one(&app.login)
            .await?;
        if !stands {
            return Err(Problem::Unauthenticated);
        }
    }
    let sight = match role {
        Role::Owner | Role::Admin | Role::Auditor => Sight::All,
        Role::Member => Sight::Actor(claims.sub),
        _ => Sight::None,
    };
    let (session, expires_s) = Option::unzip(role.is_person().then_some((claims.sid, claims.exp)));
    let (id, tenant) = (claims.sub, claims.tenant);
    Ok(Caller { id, role, sight, tenant, session, expires_s, trace: None, app: app.clone() })
}
