//! The target's front door: sends one request, reads one answer, bounded in time and size.

use std::time::{Duration, Instant};

pub use reqwest::Client;
use reqwest::{Method, Response};

use crate::error::{Error, Result};
use crate::history::Outcome;
use crate::plan::Request;
use crate::target::identity::Presented;

/// Bytes of a body read; what is longer is cut there.
pub(super) const BODY_MAX: usize = 32 << 20;

/// A client of its own: one keep-alive connection while requests come one at a time, no redirects, no proxy.
///
/// # Errors
/// The TLS provider is missing: a defect of this build.
pub fn client(timeout: Duration) -> Result<Client> {
    // A second install is refused, and rightly: the first stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .pool_max_idle_per_host(1)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("partywall/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| Error::Defect(format!("no HTTP client: {e}")))
}

/// An answer as it came.
pub struct Raw {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: Vec<(String, String)>,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// Why the body is not whole, when it is not.
    pub cut: Option<String>,
}

/// A request line as it is sent: path and query, captured values filled in.
pub fn url_of(request: &Request, fill: &dyn Fn(&str) -> String) -> String {
    let mut url = encode_path(&fill(&request.path));
    for (index, (name, value)) in request.query.iter().enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        url.push_str(&encode(name));
        url.push('=');
        url.push_str(&encode(&fill(value)));
    }
    url
}

/// The value that the last of several `Set-Cookie` headers gives a cookie (RFC 6265, 4.1).
pub fn cookie<'c>(set: impl Iterator<Item = &'c str>, name: &str) -> Option<&'c str> {
    let pairs = set.filter_map(|cookie| cookie.split(';').next()?.split_once('='));
    pairs.filter(|(known, _)| known.trim() == name).map(|(_, value)| value).last()
}

/// `url` with what of the credential belongs there.
pub(super) fn addressed(url: &str, credential: &Presented) -> String {
    let mut url = url.to_string();
    for (name, value) in &credential.query {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&format!("{}={}", encode(name), encode(value)));
    }
    url
}

/// Sends `request`, whose placeholders are filled in, to `url`, and reads the whole answer, or what came of it when the
/// client goes away after `cut`.
///
/// # Errors
/// The outcome that says why there is no answer.
pub async fn exchange(
    client: &Client,
    base_url: &str,
    request: &Request,
    url: &str,
    credential: &Presented,
    cut: Option<Duration>,
) -> std::result::Result<Raw, Outcome> {
    let failed = |e: reqwest::Error| {
        if e.is_timeout() { Outcome::TimedOut } else { Outcome::Failed { why: without_url(e) } }
    };
    let method = Method::from_bytes(request.method.as_bytes()).unwrap_or(Method::GET);
    let mut builder = client.request(method, format!("{base_url}{}", addressed(url, credential)));
    for (name, value) in request.headers.iter().chain(&credential.headers) {
        builder = builder.header(name, value);
    }
    if let Some((content_type, body)) = &request.body {
        builder = builder.header("content-type", content_type).body(body.clone());
    }
    let mut answer = builder.send().await.map_err(failed)?;
    // From the answer's beginning: a slow service is listened to as long as a quick one.
    let until = cut.map(|cut| Instant::now() + cut);
    let status = answer.status().as_u16();
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let headers = headers.collect();
    let (body, cut) = read(&mut answer, until).await;
    Ok(Raw { status, headers, body, cut })
}

/// The body as far as it comes, or as it comes `until` then, and why it is not whole.
async fn read(answer: &mut Response, until: Option<Instant>) -> (Vec<u8>, Option<String>) {
    let mut body = Vec::new();
    loop {
        let chunk = match until {
            Some(until) => match tokio::time::timeout_at(until.into(), answer.chunk()).await {
                Ok(chunk) => chunk,
                Err(_) => return (body, None),
            },
            None => answer.chunk().await,
        };
        match chunk {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return (body, None),
            Err(e) if e.is_timeout() => return (body, Some("it did not end in time".into())),
            Err(e) => return (body, Some(without_url(e))),
        }
        if body.len() > BODY_MAX {
            return (body, Some(format!("it is longer than {} MiB", BODY_MAX >> 20)));
        }
    }
}

/// The whole body.
///
/// # Errors
/// Why it is not whole.
pub async fn whole(mut answer: Response) -> std::result::Result<Vec<u8>, String> {
    match read(&mut answer, None).await {
        (body, None) => Ok(body),
        (_, Some(why)) => Err(format!("broke off: {why}")),
    }
}

/// How long an answer asks to be left alone (RFC 9110, 10.2.3): 429, a second where it does not say; 503 only where it does.
pub fn retry_after(raw: &Raw) -> Option<Duration> {
    let said = raw.headers.iter().find(|(name, _)| name == "retry-after").and_then(|(_, value)| value.parse().ok());
    let seconds = match raw.status {
        429 => Some(said.unwrap_or(1)),
        503 => said,
        _ => None,
    };
    seconds.map(Duration::from_secs)
}

/// The transport's reason; URLs may hold what does not belong into a log.
fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_told_to_come_again_waits() {
        let wait = |status, said: Option<&str>| {
            let headers = said.map(|said| ("retry-after".to_string(), said.to_string())).into_iter().collect();
            retry_after(&Raw { status, headers, body: Vec::new(), cut: None })
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!([wait(429, Some("3")), wait(429, None)], [seconds(3), seconds(1)]);
        assert_eq!(
            [wait(503, Some("3")), wait(503, None)],
            [seconds(3), None],
            "a 503 that says nothing may be for good"
        );
        assert_eq!([wait(500, Some("3")), wait(200, Some("3"))], [None, None]);
    }
}
