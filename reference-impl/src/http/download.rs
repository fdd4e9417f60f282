//! Bytes that tenants sent, on their way out: always a file to keep, never a page to show.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::problem::Problem;

/// What RFC 8187 lets stand as it is in a parameter's value.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A download called `name`, `size` bytes of `content_type`.
pub(super) fn download(
    name: &str,
    content_type: &str,
    size: i64,
    bytes: BoxStream<'static, Result<Bytes, object_store::Error>>,
) -> Result<Response, Problem> {
    let disposition = format!("attachment; filename*=UTF-8''{}", utf8_percent_encode(name, NAME));
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Problem::Internal);
    let headers: [(HeaderName, HeaderValue); 6] = [
        (header::CONTENT_TYPE, value(content_type)?),
        (header::CONTENT_LENGTH, value(&size.to_string())?),
        (header::CONTENT_DISPOSITION, value(&disposition)?),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}
