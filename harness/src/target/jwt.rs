//! Signs a JWT as an identity provider would (RFC 7519).

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::target::credential::Algorithm;

/// A token of `claims` that lives `lives_s` seconds; `iat` and `exp` of its own stay. The text of an error holds no key.
///
/// # Errors
/// A key that is none for this algorithm, claims that are no object.
pub(super) fn signed(
    algorithm: Algorithm,
    key: &str,
    key_id: Option<&str>,
    claims: Value,
    lives_s: u64,
) -> Result<String, String> {
    let Value::Object(mut claims) = claims else { return Err("claims is no table".into()) };
    let now = jsonwebtoken::get_current_timestamp();
    claims.entry("iat").or_insert_with(|| json!(now));
    claims.entry("exp").or_insert_with(|| json!(now + lives_s));
    let (named, key) = match algorithm {
        Algorithm::HS256 => (jsonwebtoken::Algorithm::HS256, Ok(EncodingKey::from_secret(key.trim_end().as_bytes()))),
        Algorithm::RS256 => (jsonwebtoken::Algorithm::RS256, EncodingKey::from_rsa_pem(key.as_bytes())),
        Algorithm::ES256 => (jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_pem(key.as_bytes())),
    };
    let key = key.map_err(|_| format!("the key is no private key for {algorithm:?} as PEM (PKCS #8)"))?;
    let header = Header { kid: key_id.map(String::from), ..Header::new(named) };
    jsonwebtoken::encode(&header, &claims, &key).map_err(|_| format!("the key does not sign {algorithm:?}"))
}
