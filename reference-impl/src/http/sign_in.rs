//! Sign-in, before any tenant is known: one answer and one amount of work, whether an address is known or not.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::extract::{Body, text};
use crate::caller::{Allowed, Anyone, Belongs, People, Renews};
use crate::defects::{Defect, on};
use crate::problem::{Problem, Refusals};
use crate::token::{self, ACCESS_S, Claims, SESSION_S};

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The address.
    #[schema(format = "email", max_length = 320)]
    pub email: String,
    /// The password.
    #[schema(format = "password", max_length = 1024)]
    pub password: String,
    /// Which of one's own tenants; needed only by those who have several.
    #[serde(default)]
    pub tenant_id: Option<Uuid>,
}

/// What opens the tenant's door.
#[derive(Serialize, ToSchema)]
pub struct Tokens {
    /// Sent as bearer; short-lived.
    pub access_token: String,
    /// Renews the session, once.
    pub refresh_token: String,
    /// `Bearer`.
    pub token_type: &'static str,
    /// The access token's life, seconds.
    pub expires_in_s: i64,
    /// The tenant; null for the platform's operators.
    pub tenant_id: Option<Uuid>,
}

/// A session's secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The refresh token.
    #[schema(max_length = 200)]
    pub refresh_token: String,
}

/// Where to go.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// One of one's own tenants.
    pub tenant_id: Uuid,
}

/// Who one is.
#[derive(Clone, Serialize, ToSchema)]
pub struct Me {
    /// The person, API key or viewer token.
    pub id: Uuid,
    /// The application role.
    pub role: &'static str,
    /// The tenant.
    pub tenant_id: Option<Uuid>,
}

/// Signs in.
#[utoipa::path(post, path = "/v1/sign-in", operation_id = "sign_in", request_body = SignIn,
    responses((status = 200, description = "Signed in", body = Tokens),
        Refusals))]
pub async fn sign_in(State(app): State<App>, Body(request): Body<SignIn>) -> Result<Json<Tokens>, Problem> {
    let known = known(&app, &request.email, request.password).await?;
    let mut memberships = known.memberships.into_iter();
    let (tenant, role) = match request.tenant_id {
        Some(wanted) => memberships.find(|(tenant, _)| *tenant == wanted).map(|(t, r)| (Some(t), r)),
        None => match (memberships.next(), memberships.next()) {
            (Some((tenant, role)), None) => Some((Some(tenant), role)),
            (None, None) if known.is_platform => Some((None, "platform".into())),
            (Some(_), Some(_)) => {
                return Err(Problem::Unprocessable("you belong to several tenants: name one in tenant_id".into()));
            }
            _ => None,
        },
    }
    .ok_or(Problem::Unauthenticated)?;
    open(&app, known.person, tenant, role).await
}

/// A person who gave the right password.
pub(super) struct Known {
    /// The person.
    pub person: Uuid,
    /// The tenants it belongs to, and its role in each.
    pub memberships: Vec<(Uuid, String)>,
    is_platform: bool,
}

/// Who has this address and this password.
pub(super) async fn known(app: &App, email: &str, password: String) -> Result<Known, Problem> {
    text("email", email, 320)?;
    text("password", &password, 1024)?;
    let rows = sqlx::query("SELECT person_id, password_hash, is_platform, tenant_id, role FROM sign_in_of($1)")
        .bind(email)
        .fetch_all(&app.login)
        .await?;
    if on(Defect::AccountKnown) && rows.is_empty() {
        return Err(Problem::NotFound);
    }
    let stored: Option<String> = rows.first().and_then(|row| row.get("password_hash"));
    // Hashing takes milliseconds: not on a thread that serves.
    let turn = app.hashing.clone().acquire_owned().await.map_err(|_| Problem::Internal)?;
    let right = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        token::password_is(&password, stored.as_deref())
    });
    let right = right.await.map_err(|_| Problem::Internal)?;
    let person = rows.first().filter(|_| right).ok_or(Problem::Unauthenticated)?;
    let memberships =
        rows.iter().filter_map(|row| Some((row.get::<Option<Uuid>, _>("tenant_id")?, row.get::<String, _>("role"))));
    Ok(Known {
        person: person.get("person_id"),
        memberships: memberships.collect(),
        is_platform: person.get("is_platform"),
    })
}

/// Opens a session.
async fn open(app: &App, person: Uuid, tenant: Option<Uuid>, role: String) -> Result<Json<Tokens>, Problem> {
    let (session, refresh) = (Uuid::now_v7(), token::secret("rt_"));
    sqlx::query("SELECT open_session($1, $2, $3, $4, $5)")
        .bind(session)
        .bind(person)
        .bind(tenant)
        .bind(token::hash(&refresh))
        .bind(OffsetDateTime::now_utc() + Duration::seconds(SESSION_S))
        .execute(&app.login)
        .await?;
    tokens(app, person, tenant, role, session, refresh)
}

/// Opens a session in another of one's own tenants; the one at hand stays open.
#[utoipa::path(post, path = "/v1/tenants/switch", operation_id = "switch_tenant", security(("bearer" = [])), request_body = Switch,
    responses((status = 200, description = "Signed in there", body = Tokens),
        Refusals))]
pub async fn switch_tenant(
    State(app): State<App>,
    Allowed(caller, _): Allowed<Belongs>,
    Body(request): Body<Switch>,
) -> Result<Json<Tokens>, Problem> {
    // The session at hand must still stand.
    caller.run(|_| Box::pin(async { Ok(()) })).await?;
    enter(&app, caller.id, request.tenant_id).await
}

/// Opens a session in one of the person's tenants.
pub(super) async fn enter(app: &App, person: Uuid, tenant: Uuid) -> Result<Json<Tokens>, Problem> {
    let role: Option<String> =
        sqlx::query_scalar("SELECT role_of($1, $2)").bind(person).bind(tenant).fetch_one(&app.login).await?;
    // A tenant that one does not belong to, and one that does not exist, are alike.
    open(app, person, Some(tenant), role.ok_or(Problem::NotFound)?).await
}

fn tokens(
    app: &App,
    sub: Uuid,
    tenant: Option<Uuid>,
    role: String,
    sid: Uuid,
    refresh_token: String,
) -> Result<Json<Tokens>, Problem> {
    let exp = OffsetDateTime::now_utc().unix_timestamp() + ACCESS_S;
    let access_token = app.signer.sign(&Claims { sub, tenant, role, sid, exp }).ok_or(Problem::Internal)?;
    Ok(Json(Tokens { access_token, refresh_token, token_type: "Bearer", expires_in_s: ACCESS_S, tenant_id: tenant }))
}

/// Renews a session: the old refresh token is worth nothing afterwards. The access token sent beside it says whose the
/// session is, and may have run out.
#[utoipa::path(post, path = "/v1/token/refresh", operation_id = "refresh_token", security(("bearer" = [])), request_body = Refresh,
    responses((status = 200, description = "Renewed", body = Tokens),
        Refusals))]
pub async fn refresh_token(
    State(app): State<App>,
    Renews(caller): Renews,
    Body(request): Body<Refresh>,
) -> Result<Json<Tokens>, Problem> {
    text("refresh_token", &request.refresh_token, 200)?;
    renew(&app, caller.id, &request.refresh_token).await
}

/// Renews the person's session whose secret this is.
pub(super) async fn renew(app: &App, person: Uuid, secret: &str) -> Result<Json<Tokens>, Problem> {
    let refresh = token::secret("rt_");
    let row = sqlx::query("SELECT session_id, tenant_id, role FROM renew_session($1, $2, $3, $4)")
        .bind(token::hash(secret))
        .bind(person)
        .bind(token::hash(&refresh))
        .bind(OffsetDateTime::now_utc() + Duration::seconds(SESSION_S))
        .fetch_optional(&app.login)
        .await?
        .ok_or(Problem::Unauthenticated)?;
    tokens(app, person, row.get("tenant_id"), row.get("role"), row.get("session_id"), refresh)
}

/// Ends a session.
#[utoipa::path(post, path = "/v1/sign-out", operation_id = "sign_out", security(("bearer" = [])), request_body = Refresh,
    responses((status = 204, description = "Ended"),
        Refusals))]
pub async fn sign_out(
    State(app): State<App>,
    Allowed(caller, _): Allowed<People>,
    Body(request): Body<Refresh>,
) -> Result<StatusCode, Problem> {
    if on(Defect::SignedOutInName) {
        return Ok(StatusCode::NO_CONTENT);
    }
    let closed: i64 = sqlx::query_scalar("SELECT close_session($1, $2)")
        .bind(token::hash(&request.refresh_token))
        .bind(caller.id)
        .fetch_one(&app.login)
        .await?;
    if closed == 1 { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::NotFound) }
}

/// Says who one is.
#[utoipa::path(get, path = "/v1/me", operation_id = "get_me", security(("bearer" = [])),
    responses((status = 200, description = "You", body = Me),
        Refusals))]
pub async fn get_me(Allowed(caller, _): Allowed<Anyone>) -> Result<Json<Me>, Problem> {
    if caller.tenant().is_some() {
        // Asks whether the membership still stands.
        caller.run(|_| Box::pin(async { Ok(()) })).await?;
    }
    let me = Me { id: caller.id, role: caller.role.word(), tenant_id: caller.tenant() };
    if on(Defect::MeKept) {
        static KEPT: std::sync::OnceLock<Me> = std::sync::OnceLock::new();
        return Ok(Json(KEPT.get_or_init(|| me).clone()));
    }
    Ok(Json(me))
}
