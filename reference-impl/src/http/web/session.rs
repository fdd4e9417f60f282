//! The browser's session: the access and the refresh token of the API, each in a cookie that no script reads and no
//! other site sends. Only the page's routes look at them.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::answer::{NotSignedIn, Refused, see};
use crate::caller::{self, Allowed, Takes};
use crate::http::App;
use crate::http::sign_in::{Tokens, renew};
use crate::problem::Problem;
use crate::token::{Claims, Lifetime};

const ACCESS: &str = "audit-access";
const REFRESH: &str = "audit-refresh";
const CHOICE: &str = "audit-choice";
/// Who gave the right password has so long to choose a tenant.
const CHOICE_MAX: Duration = Duration::minutes(5);

/// What the browser holds.
#[derive(Clone)]
pub(super) struct Session {
    access: String,
    /// Renews and ends the session.
    pub refresh: String,
}

impl Session {
    fn of(app: &App, jar: &CookieJar) -> Option<Self> {
        let value = |name| jar.get(&named(app, name)).map(|cookie| cookie.value().to_string());
        Some(Self { access: value(ACCESS)?, refresh: value(REFRESH)? })
    }

    /// Opens a session in the browser.
    pub fn begin(app: &App, jar: CookieJar, tokens: Tokens) -> CookieJar {
        jar.remove(gone(app, CHOICE)).add(cookie(app, ACCESS, tokens.access_token)).add(cookie(
            app,
            REFRESH,
            tokens.refresh_token,
        ))
    }

    /// Takes it away again.
    pub fn end(app: &App, jar: CookieJar) -> CookieJar {
        jar.remove(gone(app, ACCESS)).remove(gone(app, REFRESH)).remove(gone(app, CHOICE))
    }

    /// The same session with fresh tokens, for the person that the access token names.
    async fn renewed(&self, app: &App) -> Option<Tokens> {
        let caller = caller::signed_in(&self.access, app, Lifetime::Any).await.ok()?;
        renew(app, caller.id, &self.refresh).await.ok().map(|tokens| tokens.0)
    }
}

/// Where it travels over https alone, the browser also refuses one that another host of the domain has set.
fn named(app: &App, name: &str) -> String {
    if app.plain_http { name.into() } else { format!("__Host-{name}") }
}

fn cookie(app: &App, name: &str, value: String) -> Cookie<'static> {
    let cookie = Cookie::build((named(app, name), value)).path("/").http_only(true);
    cookie.same_site(SameSite::Strict).secure(!app.plain_http).build()
}

fn gone(app: &App, name: &str) -> Cookie<'static> {
    cookie(app, name, String::new())
}

/// Remembers for a few minutes that the browser knows the password of `person`.
pub(super) fn begin_choice(app: &App, jar: CookieJar, person: Uuid) -> Result<CookieJar, Problem> {
    let exp = (OffsetDateTime::now_utc() + CHOICE_MAX).unix_timestamp();
    let claims = Claims { sub: person, tenant: None, role: "none".into(), sid: Uuid::nil(), exp };
    let mut cookie = cookie(app, CHOICE, app.choices.sign(&claims).ok_or(Problem::Internal)?);
    cookie.set_max_age(CHOICE_MAX);
    Ok(jar.add(cookie))
}

/// Who has still to choose a tenant.
pub(super) fn choosing(app: &App, jar: &CookieJar) -> Result<Uuid, Problem> {
    let cookie = jar.get(&named(app, CHOICE)).ok_or(Problem::Unauthenticated)?;
    let claims = app.choices.verify(cookie.value(), Lifetime::Running).ok_or(Problem::Unauthenticated)?;
    Ok(claims.sub)
}

/// A person signed in on the page, whose role the operation takes.
pub(super) struct SignedIn<T: Takes>(pub Allowed<T>);

impl<T: Takes> FromRequestParts<App> for SignedIn<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refused> {
        let session = parts.extensions.get::<Session>().ok_or(Problem::Unauthenticated)?;
        let caller = caller::signed_in(&session.access, app, Lifetime::Running).await?.traced(parts);
        caller::admit(parts, app, &caller)?;
        Ok(Self(Allowed::of(caller)?))
    }
}

/// Finds the session, renews it once its access token has run out or says what is no longer so, and takes it from a
/// browser whose session has ended.
pub(super) async fn held(State(app): State<App>, jar: CookieJar, mut request: Request, next: Next) -> Response {
    let Some(mut session) = Session::of(&app, &jar) else { return next.run(request).await };
    let mut given = None;
    if app.signer.verify(&session.access, Lifetime::Running).is_none() {
        match session.renewed(&app).await {
            Some(tokens) => {
                session = Session { access: tokens.access_token.clone(), refresh: tokens.refresh_token.clone() };
                given = Some(Session::begin(&app, jar.clone(), tokens));
            }
            // Perhaps another request of the same browser has just renewed it: what that one was given stays.
            None => return next.run(request).await,
        }
    }
    let again = request.uri().path_and_query().filter(|_| request.method() == Method::GET);
    let again = again.map_or_else(|| "/".to_string(), ToString::to_string);
    request.extensions_mut().insert(session.clone());
    let response = next.run(request).await;
    if response.extensions().get::<NotSignedIn>().is_some() {
        // The role may have changed meanwhile; who is out altogether cannot renew.
        return match session.renewed(&app).await {
            Some(tokens) => (Session::begin(&app, jar, tokens), see(&again)).into_response(),
            None => (Session::end(&app, jar), response).into_response(),
        };
    }
    match given {
        // What a page itself said about the session is the last word.
        Some(jar) if !response.headers().contains_key(header::SET_COOKIE) => (jar, response).into_response(),
        _ => response,
    }
}
