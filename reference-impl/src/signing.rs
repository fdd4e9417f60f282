//! What webhooks sign with, as Standard Webhooks has it. No secret is kept anywhere: each is derived from a key of the
//! service, so that what the database loses signs nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::token::derived;

/// The secret before a rotation signs besides the new one for so long.
const OVERLAP: Duration = Duration::hours(24);

/// Makes the secrets of webhooks.
#[derive(Clone)]
pub struct WebhookKeys(Vec<u8>);

/// Which secret: rotation makes the next version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretOf {
    /// Whose.
    pub tenant: Uuid,
    /// The webhook.
    pub webhook: Uuid,
    /// From 1.
    pub version: i32,
    /// When this version took the place of another.
    pub rotated_at: Option<OffsetDateTime>,
}

impl WebhookKeys {
    /// Keys that are derived from `key`.
    pub fn new(key: &[u8]) -> Self {
        Self(key.to_vec())
    }

    /// The secret as its receiver keeps it.
    pub fn shown(&self, of: SecretOf) -> String {
        format!("whsec_{}", BASE64.encode(self.secret(of)))
    }

    /// The header `webhook-signature` of a message that is sent at `now`.
    pub fn signature(&self, of: SecretOf, message: Uuid, now: OffsetDateTime, body: &str) -> String {
        let content = format!("{message}.{}.{body}", now.unix_timestamp());
        let sign = |of| format!("v1,{}", BASE64.encode(derived(&self.secret(of), &content)));
        match of.rotated_at {
            Some(at) if of.version > 1 && now < at + OVERLAP => {
                format!("{} {}", sign(of), sign(SecretOf { version: of.version - 1, ..of }))
            }
            _ => sign(of),
        }
    }

    fn secret(&self, of: SecretOf) -> Vec<u8> {
        derived(&self.0, &format!("{} {} {}", of.tenant, of.webhook, of.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "{\"test\": 2432232314}";

    fn verified(secret: &str, now: OffsetDateTime, message: Uuid, signature: &str) -> bool {
        let mut headers = axum::http::HeaderMap::new();
        let stated = [("id", message.to_string()), ("timestamp", now.unix_timestamp().to_string())];
        for (name, value) in stated.into_iter().chain([("signature", signature.to_string())]) {
            let name: axum::http::HeaderName = format!("webhook-{name}").parse().expect("a name");
            headers.insert(name, value.parse().expect("a value"));
        }
        standardwebhooks::Webhook::new(secret).expect("a secret").verify(BODY.as_bytes(), &headers).is_ok()
    }

    #[test]
    fn a_signature_is_what_the_specification_verifies_and_belongs_to_one_tenant_webhook_and_version() {
        let (keys, now, message) = (WebhookKeys::new(&[1; 32]), OffsetDateTime::now_utc(), Uuid::now_v7());
        let of = SecretOf { tenant: Uuid::new_v4(), webhook: Uuid::now_v7(), version: 1, rotated_at: None };
        let signature = keys.signature(of, message, now, BODY);
        assert!(verified(&keys.shown(of), now, message, &signature));
        for other in [
            SecretOf { tenant: Uuid::new_v4(), ..of },
            SecretOf { webhook: Uuid::now_v7(), ..of },
            SecretOf { version: 2, ..of },
        ] {
            assert!(!verified(&keys.shown(other), now, message, &signature), "{other:?}");
        }
        assert!(!verified(&WebhookKeys::new(&[2; 32]).shown(of), now, message, &signature), "another key");
        assert!(!verified(&keys.shown(of), now, Uuid::now_v7(), &signature), "another message");
        assert!(!verified(&keys.shown(of), now + Duration::seconds(1), message, &signature), "another time");
    }

    #[test]
    fn for_a_day_after_a_rotation_the_former_secret_signs_too() {
        let (keys, now, message) = (WebhookKeys::new(&[1; 32]), OffsetDateTime::now_utc(), Uuid::now_v7());
        let first = SecretOf { tenant: Uuid::new_v4(), webhook: Uuid::now_v7(), version: 1, rotated_at: None };
        for (ago, still) in [(Duration::hours(23), true), (Duration::hours(25), false)] {
            let second = SecretOf { version: 2, rotated_at: Some(now - ago), ..first };
            let signature = keys.signature(second, message, now, BODY);
            assert!(verified(&keys.shown(second), now, message, &signature));
            assert_eq!(verified(&keys.shown(first), now, message, &signature), still, "{ago}");
        }
    }
}
