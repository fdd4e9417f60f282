//! Extractors whose rejections are problems.

use std::marker::PhantomData;
use std::time::Duration;

use axum::extract::rejection::{BytesRejection, FormRejection, JsonRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::problem::Problem;

/// Longer than this no body is waited for.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// A JSON body.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match in_time(axum::Json::<Object<T>>::from_request(request, state)).await? {
            Ok(axum::Json(Object(value))) => Ok(Self(value)),
            Err(JsonRejection::JsonDataError(e)) => Err(Problem::Unprocessable(said(&e))),
            Err(JsonRejection::JsonSyntaxError(e)) => Err(Problem::BadRequest(said(&e))),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(Problem::UnsupportedMediaType("application/json")),
            Err(JsonRejection::BytesRejection(e)) => Err(broken(&e)),
            Err(_) => Err(Problem::BadRequest("the body cannot be read".into())),
        }
    }
}

/// The fields of a form.
pub struct Fields<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Fields<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Form::<T>::from_request(request, state).await {
            Ok(axum::Form(value)) => Ok(Self(value)),
            Err(FormRejection::BytesRejection(e)) => Err(broken(&e)),
            Err(FormRejection::InvalidFormContentType(_)) => {
                Err(Problem::UnsupportedMediaType("application/x-www-form-urlencoded"))
            }
            Err(_) => Err(Problem::Unprocessable("the form is not what is expected".into())),
        }
    }
}

/// What only an object may become: serde would also take a list of the fields' values for one.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Read(PhantomData))
    }
}

/// Reads a field that must be an object.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// Reads a field that must be an object or null.
pub fn maybe_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::<Object<T>>::deserialize(deserializer).map(|value| value.map(|Object(value)| value))
}

/// A body as it came.
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        in_time(Bytes::from_request(request, state)).await?.map(Self).map_err(|e| broken(&e))
    }
}

async fn in_time<T>(read: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(BODY_TIME_MAX, read).await.map_err(|_| Problem::TooSlow)
}

fn broken(rejection: &BytesRejection) -> Problem {
    if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
        Problem::TooLarge
    } else {
        Problem::BadRequest("the body cannot be read".into())
    }
}

/// What the reader says, without what it read.
fn said(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| "the body is not what is expected".into(), ToString::to_string)
}

/// Query parameters; unknown ones are ignored.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // The reader would put replacement characters for what is no text.
        let raw = parts.uri.query().unwrap_or_default();
        if percent_encoding::percent_decode_str(raw).decode_utf8().is_err() {
            return Err(Problem::BadRequest("the query must be UTF-8".into()));
        }
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|e| Problem::BadRequest(e.body_text()))
    }
}

/// Ids in the path; what is no id names nothing.
pub struct Ids<const N: usize>(pub [Uuid; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Ids<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(values) =
            Path::<Vec<String>>::from_request_parts(parts, state).await.map_err(|_| Problem::NotFound)?;
        let ids: Option<Vec<Uuid>> = values.iter().map(|v| Uuid::try_parse(v).ok()).collect();
        ids.and_then(|ids| ids.try_into().ok()).map(Self).ok_or(Problem::NotFound)
    }
}

/// Names in the path; what is no text names nothing.
pub struct Names<const N: usize>(pub [String; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Names<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(names) = Path::<Vec<String>>::from_request_parts(parts, state).await.map_err(|_| Problem::NotFound)?;
        names.try_into().map(Self).map_err(|_| Problem::NotFound)
    }
}

/// Refuses what Postgres text cannot hold, and what is longer than `most` characters.
pub fn text(field: &str, value: &str, most: usize) -> Result<(), Problem> {
    if value.contains('\0') {
        return Err(Problem::Unprocessable(format!("{field} must not contain NUL")));
    }
    if value.chars().count() > most {
        return Err(Problem::Unprocessable(format!("{field} must have {most} characters at most")));
    }
    Ok(())
}
