//! Identities: the secrets planted for principals, and the credentials had with them. None of this is ever written.

use std::collections::BTreeMap;

use reqwest::Client;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::canary::Owner;
use crate::error::{Error, Result};
use crate::plan::{Plan, Proof};
use crate::principal::{NOBODY, Principal};
use crate::target::file::Credential;
use crate::tenant::Holdings;

/// The secrets of one run, from the operating system and not from the seed.
pub struct Secrets {
    /// The password of every planted person.
    pub password: String,
    key: String,
}

impl Secrets {
    /// Fresh secrets.
    pub fn fresh() -> Self {
        Self { password: crate::seed::secret(16), key: crate::seed::secret(32) }
    }

    /// The password's argon2id hash, at the lowest cost that the format allows: only speed is lost with more.
    ///
    /// # Errors
    /// A defect of this build.
    pub fn password_hash(&self) -> Result<String> {
        use argon2::password_hash::PasswordHasher;
        let wrong = |e: &dyn std::fmt::Display| Error::Defect(format!("password hash: {e}"));
        let params = argon2::Params::new(argon2::Params::MIN_M_COST, 1, 1, None).map_err(|e| wrong(&e))?;
        let hasher = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hash = hasher.hash_password(self.password.as_bytes()).map_err(|e| wrong(&e))?;
        Ok(hash.to_string())
    }

    /// A principal's own secret.
    pub fn of(&self, principal: &Principal) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.key);
        hash.update(principal.to_string());
        hex::encode(hash.finalize())
    }
}

/// The credentials of all principals: header name and value.
#[derive(Default)]
pub struct Identities {
    headers: BTreeMap<Principal, (String, String)>,
}

impl Identities {
    /// Proves every principal of `plan` to the target at `base_url`.
    ///
    /// # Errors
    /// A sign-in that fails: nothing could be shown without it.
    pub async fn establish(
        plan: &Plan,
        holdings: &Holdings,
        secrets: &Secrets,
        client: &Client,
        base_url: &str,
    ) -> Result<Self> {
        let mut headers = BTreeMap::new();
        for role in &plan.target.role {
            let owners: Vec<Owner> = if role.platform { vec![Owner::PLATFORM] } else { holdings.owners().collect() };
            let credential = &plan.target.credential[&role.credential];
            for owner in owners {
                let principal = holdings.principal(owner, &role.name);
                let header = match credential {
                    Credential::Secret { prefix, send } => {
                        header(send, &format!("{prefix}{}", secrets.of(&principal)))?
                    }
                    Credential::Login { path, body, token, send } => {
                        let body = fill(body, holdings, secrets, owner, &role.name)?;
                        let got = sign_in(client, &format!("{base_url}{path}"), &body, token).await.map_err(|why| {
                            Error::Unreachable(format!(
                                "sign-in of {principal} failed: POST {path} {why}. \
                                 Nothing can be shown without it; check [credential.{}] and [plant] in the target file",
                                role.credential
                            ))
                        })?;
                        header(send, &got)?
                    }
                };
                headers.insert(principal, header);
            }
        }
        Ok(Self { headers })
    }

    /// The header that `principal` sends.
    pub fn header(&self, principal: &Principal, proof: Proof) -> Option<(String, String)> {
        if principal.role == NOBODY || proof == Proof::Issued {
            return None;
        }
        let (name, value) = self.headers.get(principal)?;
        Some((name.clone(), altered(value, proof)))
    }
}

/// `value` as `proof` wants it sent.
fn altered(value: &str, proof: Proof) -> String {
    let (scheme, token) = value.rsplit_once(' ').unwrap_or(("", value));
    let with = |token: String| if scheme.is_empty() { token } else { format!("{scheme} {token}") };
    match proof {
        Proof::AsIssued | Proof::Issued => value.into(),
        Proof::Altered => {
            // In the middle of the last part: a signature's final bits may be padding that decoders ignore.
            let part = token.rfind('.').map_or(0, |dot| dot + 1);
            let middle = part + (token.len() - part) / 2;
            let mut bytes = token.as_bytes().to_vec();
            if let Some(byte) = bytes.get_mut(middle) {
                *byte = if *byte == b'A' { b'B' } else { b'A' };
            }
            with(String::from_utf8(bytes).unwrap_or_default())
        }
        Proof::Truncated => with(token.chars().take(token.len() * 2 / 3).collect()),
        Proof::Malformed => with("not.a.credential".into()),
        Proof::Unsigned => with(unsigned(token)),
        Proof::Reclaimed(own, other) => with(reclaimed(token, own, other)),
    }
}

fn reclaimed(token: &str, own: Uuid, other: Uuid) -> String {
    use base64::engine::{Engine, general_purpose::URL_SAFE_NO_PAD};
    let parts: Vec<&str> = token.split('.').collect();
    let claims = parts.get(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    match (parts.as_slice(), claims) {
        ([head, _, signature], Some(claims)) => {
            let claims = String::from_utf8_lossy(&claims).replace(&own.to_string(), &other.to_string());
            format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims))
        }
        _ => hex::encode(Sha256::digest(token.as_bytes())),
    }
}

fn unsigned(token: &str) -> String {
    use base64::Engine;
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(payload), Some(_)) => {
            let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
            format!("{header}.{payload}.")
        }
        _ => hex::encode(Sha256::digest(token.as_bytes())),
    }
}

fn header(send: &str, token: &str) -> Result<(String, String)> {
    let wrong = || Error::Usage(format!("credential: send `{send}` is not `Name: value with {{token}}`"));
    let (name, value) = send.split_once(": ").filter(|(_, v)| v.contains("{token}")).ok_or_else(wrong)?;
    Ok((name.into(), value.replace("{token}", token)))
}

fn fill(template: &Value, holdings: &Holdings, secrets: &Secrets, owner: Owner, role: &str) -> Result<Value> {
    Ok(match template {
        Value::String(text) => match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            Some("password") => Value::String(secrets.password.clone()),
            Some(reference) => {
                let (table, column) = reference.split_once('.').unwrap_or((reference, ""));
                let value = crate::plan::principal_value(holdings, owner, role, table, column);
                Value::String(value.map_err(Error::Usage)?)
            }
            None => Value::String(text.clone()),
        },
        Value::Object(fields) => {
            let filled = fields.iter().map(|(k, v)| Ok((k.clone(), fill(v, holdings, secrets, owner, role)?)));
            Value::Object(filled.collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

async fn sign_in(client: &Client, url: &str, body: &Value, token: &str) -> std::result::Result<String, String> {
    let answer = client.post(url).json(body).send().await.map_err(|e| format!("got no answer: {}", e.without_url()))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("answered {status}"));
    }
    let answer: Value = answer.json().await.map_err(|_| format!("answered {status} without JSON"))?;
    let found = answer.pointer(token).and_then(Value::as_str);
    found.map(String::from).ok_or_else(|| format!("answered {status} without a token at {token}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_rewritten_and_the_signature_stays() {
        use base64::engine::{Engine, general_purpose::URL_SAFE_NO_PAD};
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"tenant":"{own}"}}"#));
        let sent = altered(&format!("Bearer h.{claims}.s"), Proof::Reclaimed(own, other));
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"tenant":"{other}"}}"#));
        assert_eq!(sent, format!("Bearer h.{claims}.s"));
        assert_ne!(altered("Bearer secret", Proof::Reclaimed(own, other)), "Bearer secret");
    }
}
