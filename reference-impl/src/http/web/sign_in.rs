//! Signing in with address and password, choosing a tenant, switching to another, signing out.

use askama::Template;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::WithRejection;
use axum_extra::extract::cookie::CookieJar;
use serde::Deserialize;
use sqlx::Row;
use uuid::Uuid;

use super::answer::{Page, Refused, STYLE, Told, see};
use super::session::{Session, SignedIn, begin_choice, choosing};
use crate::caller::{Allowed, Belongs, People};
use crate::http::App;
use crate::http::extract::{Body, Fields};
use crate::http::sign_in::{self, Refresh, Switch, enter, known};
use crate::problem::Problem;

/// One of a person's tenants.
#[derive(Clone)]
pub(super) struct Membership {
    pub tenant: Uuid,
    pub tenant_name: String,
    pub role: String,
    pub display_name: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    style: &'static str,
    email: String,
    /// What went wrong.
    wrong: Option<String>,
}

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    style: &'static str,
    memberships: Vec<Membership>,
}

/// The form.
#[derive(Deserialize)]
pub(super) struct Credentials {
    email: String,
    password: String,
}

/// The tenants of `person`, who has proved itself.
pub(super) async fn memberships(app: &App, person: Uuid) -> Result<Vec<Membership>, Problem> {
    let rows = sqlx::query("SELECT tenant_id, tenant_name, role, display_name FROM memberships_of($1)")
        .bind(person)
        .fetch_all(&app.login)
        .await?;
    let membership = rows.iter().map(|row| Membership {
        tenant: row.get("tenant_id"),
        tenant_name: row.get("tenant_name"),
        role: row.get("role"),
        display_name: row.get("display_name"),
    });
    Ok(membership.collect())
}

pub(super) async fn form(session: Option<Extension<Session>>) -> Response {
    match session {
        Some(_) => see("/"),
        None => Page(SignInPage { style: STYLE, email: String::new(), wrong: None }).into_response(),
    }
}

pub(super) async fn sign_in(
    State(app): State<App>,
    jar: CookieJar,
    WithRejection(Fields(given), _): Told<Fields<Credentials>>,
) -> Result<Response, Refused> {
    let email = given.email.trim().to_string();
    let known = match known(&app, &email, given.password).await {
        // Who operates the service sees no tenant, and so nothing here: answered as one who is not known.
        Ok(known) if !known.memberships.is_empty() => known,
        Ok(_) | Err(Problem::Unauthenticated) => return Ok(again(email, Problem::Unauthenticated)),
        Err(problem @ Problem::Unprocessable(_)) => return Ok(again(email, problem)),
        Err(problem) => return Err(problem.into()),
    };
    match known.memberships.as_slice() {
        [(tenant, _)] => {
            let tokens = enter(&app, known.person, *tenant).await?.0;
            Ok((Session::begin(&app, jar, tokens), see("/")).into_response())
        }
        _ => {
            let page = Page(TenantsPage { style: STYLE, memberships: memberships(&app, known.person).await? });
            Ok((begin_choice(&app, jar, known.person)?, page).into_response())
        }
    }
}

/// The form again, with what went wrong.
fn again(email: String, problem: Problem) -> Response {
    let status = if matches!(problem, Problem::Unauthenticated) { StatusCode::FORBIDDEN } else { problem.status() };
    let wrong = match problem {
        Problem::Unauthenticated => "This address and this password do not belong together.".to_string(),
        other => other.to_string(),
    };
    (status, Page(SignInPage { style: STYLE, email, wrong: Some(wrong) })).into_response()
}

/// Opens the session of one who has just given the password, in the tenant that is chosen.
pub(super) async fn choose(
    State(app): State<App>,
    jar: CookieJar,
    WithRejection(Fields(chosen), _): Told<Fields<Switch>>,
) -> Result<Response, Refused> {
    let person = choosing(&app, &jar)?;
    let tokens = enter(&app, person, chosen.tenant_id).await?.0;
    Ok((Session::begin(&app, jar, tokens), see("/")).into_response())
}

/// Goes over to another of the person's tenants; the session at hand ends.
pub(super) async fn switch(
    State(app): State<App>,
    SignedIn(allowed): SignedIn<Belongs>,
    Extension(session): Extension<Session>,
    jar: CookieJar,
    WithRejection(Fields(chosen), _): Told<Fields<Switch>>,
) -> Result<Response, Refused> {
    let caller = allowed.0.clone();
    let tokens = sign_in::switch_tenant(State(app.clone()), allowed, Body(chosen)).await?.0;
    end(&app, Allowed::of(caller)?, session).await?;
    Ok((Session::begin(&app, jar, tokens), see("/")).into_response())
}

pub(super) async fn sign_out(
    State(app): State<App>,
    signed_in: Result<SignedIn<People>, Refused>,
    session: Option<Extension<Session>>,
    jar: CookieJar,
) -> Result<Response, Refused> {
    if let (Ok(SignedIn(allowed)), Some(Extension(session))) = (signed_in, session) {
        end(&app, allowed, session).await?;
    }
    Ok((Session::end(&app, jar), see("/sign-in")).into_response())
}

async fn end(app: &App, allowed: Allowed<People>, session: Session) -> Result<(), Problem> {
    let body = Body(Refresh { refresh_token: session.refresh });
    match sign_in::sign_out(State(app.clone()), allowed, body).await {
        // One that has ended already is what was asked for.
        Ok(_) | Err(Problem::NotFound) => Ok(()),
        Err(problem) => Err(problem),
    }
}
