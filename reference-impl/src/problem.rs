//! One error, one mapping: RFC 9457 problem details. Nothing of the database ever reaches a body.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{Content, Ref, RefOr, Response as Answer};
use utoipa::{IntoResponses, ToSchema};

/// Whoever finds the service busy may come again after so many seconds.
const BUSY_S: u64 = 1;

/// What a request may fail with.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No credential, or none that proves anything.
    #[error("sign in first")]
    Unauthenticated,
    /// The application role has no right to this operation.
    #[error("this application role may not do that")]
    Forbidden,
    /// Not there, or not yours: one answer for both.
    #[error("there is nothing here")]
    NotFound,
    /// The method is not served here.
    #[error("this method is not served here")]
    MethodNotAllowed,
    /// The request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// The request can be understood, and is wrong.
    #[error("{0}")]
    Unprocessable(String),
    /// Some lines of a bulk are wrong; none was taken.
    #[error("some lines are wrong; none was taken")]
    BadLines(Vec<LineError>),
    /// It is there already.
    #[error("{0}")]
    Conflict(String),
    /// The body is too large.
    #[error("the body is too large")]
    TooLarge,
    /// The body's media type is not served.
    #[error("send {0}")]
    UnsupportedMediaType(&'static str),
    /// More than the tenant or the principal may ask for: the seconds to wait.
    #[error("too many requests; wait {0} s")]
    TooMany(u64),
    /// The request did not arrive in time.
    #[error("the request came too slowly")]
    TooSlow,
    /// No connection in time, or one that broke.
    #[error("busy; try again")]
    Busy,
    /// Our fault; the log knows more.
    #[error("something went wrong here")]
    Internal,
}

/// What is wrong with one line of a bulk.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub detail: String,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// `about:blank`: the status says it all.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The status code.
    pub status: u16,
    /// What is wrong, and what to do.
    pub detail: String,
    /// Per-line errors of a bulk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<LineError>,
}

/// The answers that any operation may refuse with, as the document describes them.
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Answer>> {
        let refusals = [
            Problem::BadRequest("the request cannot be understood".into()),
            Problem::Unauthenticated,
            Problem::Forbidden,
            Problem::NotFound,
            Problem::TooSlow,
            Problem::Conflict("it is there already".into()),
            Problem::TooLarge,
            Problem::UnsupportedMediaType("another media type"),
            Problem::Unprocessable("a value is wrong".into()),
            Problem::TooMany(1),
            Problem::Internal,
            Problem::Busy,
        ];
        let body = || Content::new(Some(Ref::from_schema_name("ProblemBody")));
        let described = refusals.into_iter().map(|problem| {
            let mut answer = Answer::new(problem.to_string());
            answer.content.insert("application/problem+json".into(), RefOr::T(body()));
            (problem.status().as_str().to_string(), RefOr::T(answer))
        });
        described.collect()
    }
}

impl Problem {
    /// The status code.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unprocessable(_) | Self::BadLines(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::RowNotFound => Self::NotFound,
            // Text that Postgres cannot store is the client's fault; its code is all we look at.
            sqlx::Error::Database(e) if e.code().is_some_and(|c| c.starts_with("22")) => {
                Self::Unprocessable("a value cannot be stored as it is".into())
            }
            // Waited too long for a lock or an answer.
            sqlx::Error::Database(e) if e.code().is_some_and(|c| c == "55P03" || c == "57014") => Self::Busy,
            _ => {
                // The message may quote a row: only its kind is logged.
                let code = error.as_database_error().and_then(|e| e.code().map(|c| c.into_owned()));
                tracing::error!(code, kind = kind(&error), "database error");
                if passes(&error) { Self::Busy } else { Self::Internal }
            }
        }
    }
}

/// Whether the same request may well do later: the connection broke, or the server ends, begins, is full, or gave up.
fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(e) => e.code().is_some_and(|code| {
            ["57P01", "57P02", "57P03", "57014", "53300", "40001", "40P01"].contains(&&*code) || code.starts_with("08")
        }),
        _ => false,
    }
}

fn kind(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Database(_) => "database",
        sqlx::Error::Io(_) => "io",
        sqlx::Error::Protocol(_) => "protocol",
        sqlx::Error::PoolClosed => "pool closed",
        _ => "other",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let detail = self.to_string();
        let wait_s = match self {
            Self::TooMany(wait_s) => Some(wait_s),
            Self::Busy => Some(BUSY_S),
            _ => None,
        };
        let errors = match self {
            Self::BadLines(errors) => errors,
            _ => Vec::new(),
        };
        let title = status.canonical_reason().unwrap_or("Error");
        let body = ProblemBody { kind: "about:blank", title, status: status.as_u16(), detail, errors };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait_s) = wait_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
