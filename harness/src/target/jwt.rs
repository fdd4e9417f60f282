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

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use p256::elliptic_curve::rand_core::OsRng;
    use p256::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};

    use super::*;

    #[test]
    fn every_algorithm_signs_what_its_public_key_verifies() {
        let ec = p256::SecretKey::random(&mut OsRng);
        let rsa = rsa::RsaPrivateKey::new(&mut OsRng, 2048).expect("a key");
        let ec_private = ec.to_pkcs8_pem(LineEnding::LF).expect("PEM");
        let rsa_private = rsa.to_pkcs8_pem(LineEnding::LF).expect("PEM");
        let ec_public = ec.public_key().to_public_key_pem(LineEnding::LF).expect("PEM");
        let rsa_public = rsa.to_public_key().to_public_key_pem(LineEnding::LF).expect("PEM");
        for (algorithm, named, private, public) in [
            (Algorithm::HS256, jsonwebtoken::Algorithm::HS256, "secret\n", Ok(DecodingKey::from_secret(b"secret"))),
            (
                Algorithm::ES256,
                jsonwebtoken::Algorithm::ES256,
                &ec_private,
                DecodingKey::from_ec_pem(ec_public.as_bytes()),
            ),
            (
                Algorithm::RS256,
                jsonwebtoken::Algorithm::RS256,
                &rsa_private,
                DecodingKey::from_rsa_pem(rsa_public.as_bytes()),
            ),
        ] {
            let token = signed(algorithm, private, Some("k1"), json!({ "tenant": "t" }), 60).expect("signed");
            let told = decode::<Value>(&token, &public.expect("a key"), &Validation::new(named)).expect("verified");
            assert_eq!(
                (told.header.kid.as_deref(), &told.claims["tenant"]),
                (Some("k1"), &json!("t")),
                "{algorithm:?}"
            );
        }
        let error = signed(Algorithm::RS256, "nothing that signs", None, json!({}), 60).expect_err("no key");
        assert!(error.contains("RS256") && !error.contains("nothing that signs"), "{error}");
    }
}
