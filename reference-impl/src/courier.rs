//! Sends messages to receivers that tenants chose, and trusts none of them: no redirect is followed, no answer is read
//! beyond its status, none is waited for long, and no proxy of ours is asked in between.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::reach::{Reach, Refused};
use crate::signing::{SecretOf, WebhookKeys};

/// Longer than this no receiver is waited for, nor for its connection.
pub const ANSWER_MAX: Duration = Duration::from_secs(8);
const CONNECT_MAX: Duration = Duration::from_secs(4);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver answered with this status.
    Answered(u16),
    /// Nothing answered: why, in words of ours.
    Failed(&'static str),
    /// It was not asked, and will not be: what is wrong with its URL.
    Refused(&'static str),
}

impl Attempt {
    /// Whether the receiver took the message.
    pub fn taken(&self) -> bool {
        matches!(self, Self::Answered(200..=299))
    }
}

/// Sends.
#[derive(Clone)]
pub struct Courier {
    client: reqwest::Client,
    reach: Reach,
    keys: WebhookKeys,
}

impl Courier {
    /// A courier that goes no further than `reach`.
    ///
    /// # Errors
    /// No TLS.
    pub fn new(reach: Reach, keys: WebhookKeys) -> anyhow::Result<Self> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(reach)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .user_agent(concat!("audit-api/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, reach, keys })
    }

    /// Sends `body` to `url` as the message `id`, signed.
    pub async fn send(&self, url: &str, of: SecretOf, id: Uuid, body: String) -> Attempt {
        // An address that stands in the URL is never looked up, so it is judged here again.
        let url = match self.reach.url(url) {
            Ok(url) => url,
            Err(what) => return Attempt::Refused(what),
        };
        let now = OffsetDateTime::now_utc();
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id.to_string())
            .header("webhook-timestamp", now.unix_timestamp())
            .header("webhook-signature", self.keys.signature(of, id, now, &body))
            .body(body);
        match request.send().await {
            Ok(answer) => Attempt::Answered(answer.status().as_u16()),
            Err(error) => failed(&error),
        }
    }
}

/// Our own words: the client's would quote the URL, which may hold a secret of the receiver's.
fn failed(error: &reqwest::Error) -> Attempt {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    if causes.into_iter().any(|cause| cause.is::<Refused>()) {
        Attempt::Refused("its address is not public")
    } else if error.is_timeout() {
        Attempt::Failed("it did not answer in time")
    } else if error.is_connect() {
        Attempt::Failed("it could not be connected to")
    } else {
        Attempt::Failed("its answer could not be read")
    }
}
