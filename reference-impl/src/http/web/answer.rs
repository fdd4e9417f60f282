//! How a page is answered: escaped, never cached, with nothing but its own style.

use std::sync::LazyLock;

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum_extra::extract::WithRejection;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// The one style sheet, within each page.
pub(super) const STYLE: &str = include_str!("../../../templates/style.css");

/// No script at all, this style alone, forms to ourselves, no frame.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// A page made of a template.
pub(super) struct Page<T: Template>(pub T);

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(text) => Html(text).into_response(),
            Err(_) => Problem::Internal.into_response(),
        }
    }
}

/// A refusal, told to a person. Who is not signed in is sent to sign in.
pub(super) struct Refused(pub Problem);

/// An extractor of the API whose refusal is told to a person.
pub(super) type Told<E> = WithRejection<E, Refused>;

/// Marks the answer to a session that no longer stands.
#[derive(Clone)]
pub(super) struct NotSignedIn;

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    style: &'static str,
    title: &'static str,
    detail: String,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        if matches!(self.0, Problem::Unauthenticated) {
            let mut response = see("/sign-in");
            response.extensions_mut().insert(NotSignedIn);
            return response;
        }
        let status = self.0.status();
        let title = status.canonical_reason().unwrap_or("Error");
        (status, Page(ProblemPage { style: STYLE, title, detail: self.0.to_string() })).into_response()
    }
}

/// Sends the browser to `path` of this service.
pub(super) fn see(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response(),
        Err(_) => Problem::Internal.into_response(),
    }
}

/// What every answer of the page says to the browser.
pub(super) async fn guarded(mut response: Response) -> Response {
    let fixed = |name: &'static str, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        fixed("cache-control", "no-store"),
        fixed("x-content-type-options", "nosniff"),
        // Not `no-referrer`: forms would then come with no origin to check.
        fixed("referrer-policy", "same-origin"),
        fixed("cross-origin-opener-policy", "same-origin"),
        fixed("cross-origin-resource-policy", "same-origin"),
    ];
    response.headers_mut().extend(headers);
    response
}
