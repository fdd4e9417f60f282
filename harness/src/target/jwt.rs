//! Signs a JWT as an identity provider would, or as nobody should (RFC 7519).

use std::sync::OnceLock;

use jsonwebtoken::{EncodingKey, Header};
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::pkcs1::DecodeRsaPrivateKey;
use serde_json::{Map, Value, json};

use crate::seed;
use crate::target::credential::{Algorithm, Flaw};

/// What ended ended so long ago, seconds: more than any clock is allowed to be off.
const OVER_S: u64 = 3_600;
/// An issuer and an audience that no service has.
const STRANGER: &str = "https://stranger.partywall.invalid";
const RSA_BITS: usize = 2_048;

/// What signs the tokens of one credential.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) key: String,
    pub(super) key_id: Option<String>,
    pub(super) lives_s: u64,
}

/// Keys that nobody trusts, each made when it is first needed: one takes long.
#[derive(Default)]
pub(super) struct Strangers {
    hs256: OnceLock<String>,
    rs256: OnceLock<String>,
    es256: OnceLock<String>,
}

impl Signer {
    /// A token of `claims`; `iat` and `exp` of its own stay. The text of an error holds no key.
    ///
    /// # Errors
    /// A key that is none for this algorithm, claims that are no object.
    pub(super) fn signed(&self, claims: Value) -> Result<String, String> {
        self.encoded(self.algorithm, self.own_key(), self.dated(claims)?)
    }

    /// The same token with `flaw`, which must have it refused.
    ///
    /// # Errors
    /// As [`Signer::signed`].
    pub(super) fn flawed(&self, claims: Value, flaw: Flaw, strangers: &Strangers) -> Result<String, String> {
        let mut claims = self.dated(claims)?;
        let (mut algorithm, mut key) = (self.algorithm, self.own_key().to_string());
        match flaw {
            Flaw::Expired => {
                let end = jsonwebtoken::get_current_timestamp() - OVER_S;
                claims.insert("exp".into(), json!(end));
                // What begins after its end may be refused for that alone.
                for begin in ["iat", "nbf"].into_iter().filter(|name| claims.contains_key(*name)).collect::<Vec<_>>() {
                    claims.insert(begin.into(), json!(end - OVER_S));
                }
            }
            Flaw::ForeignKey => key = strangers.key(algorithm)?,
            Flaw::Confused => (algorithm, key) = (Algorithm::HS256, self.public()?),
            Flaw::ConfusedTrimmed => (algorithm, key) = (Algorithm::HS256, self.public()?.trim_end().into()),
            Flaw::ForeignIssuer => drop(claims.insert("iss".into(), json!(STRANGER))),
            Flaw::ForeignAudience => drop(claims.insert("aud".into(), json!(STRANGER))),
            // Made of the token itself, or by who has another's key.
            Flaw::AnothersKey
            | Flaw::AnothersKeyAsOwn
            | Flaw::KeyIdPath
            | Flaw::KeyIdSql
            | Flaw::EmbeddedKey
            | Flaw::NoneCased => {}
        }
        self.encoded(algorithm, &key, claims)
    }

    /// A secret has no line break at its end, a file has.
    fn own_key(&self) -> &str {
        if self.algorithm == Algorithm::HS256 { self.key.trim_end() } else { &self.key }
    }

    fn dated(&self, claims: Value) -> Result<Map<String, Value>, String> {
        let Value::Object(mut claims) = claims else { return Err("claims is no table".into()) };
        let now = jsonwebtoken::get_current_timestamp();
        claims.entry("iat").or_insert_with(|| json!(now));
        claims.entry("exp").or_insert_with(|| json!(now + self.lives_s));
        Ok(claims)
    }

    fn encoded(&self, algorithm: Algorithm, key: &str, claims: Map<String, Value>) -> Result<String, String> {
        let (named, key) = keyed(algorithm, key)?;
        let header = Header { kid: self.key_id.clone(), ..Header::new(named) };
        encoded(&header, &claims, &key)
    }

    /// The public half of the key, as PEM (SPKI).
    fn public(&self) -> Result<String, String> {
        let key = self.key.as_str();
        let public = match self.algorithm {
            Algorithm::HS256 => None,
            Algorithm::RS256 => {
                let read = rsa::RsaPrivateKey::from_pkcs8_pem(key).ok();
                let read = read.or_else(|| rsa::RsaPrivateKey::from_pkcs1_pem(key).ok());
                read.and_then(|key| key.to_public_key().to_public_key_pem(LineEnding::LF).ok())
            }
            Algorithm::ES256 => {
                let read = p256::SecretKey::from_pkcs8_pem(key).ok();
                read.and_then(|key| key.public_key().to_public_key_pem(LineEnding::LF).ok())
            }
        };
        public.ok_or_else(|| no_key(self.algorithm))
    }
}

/// How the library names an algorithm, and `key` for it.
pub(super) fn keyed(algorithm: Algorithm, key: &str) -> Result<(jsonwebtoken::Algorithm, EncodingKey), String> {
    let (named, key) = match algorithm {
        Algorithm::HS256 => (jsonwebtoken::Algorithm::HS256, Ok(EncodingKey::from_secret(key.as_bytes()))),
        Algorithm::RS256 => (jsonwebtoken::Algorithm::RS256, EncodingKey::from_rsa_pem(key.as_bytes())),
        Algorithm::ES256 => (jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_pem(key.as_bytes())),
    };
    Ok((named, key.map_err(|_| no_key(algorithm))?))
}

/// A token of that header and those claims.
pub(super) fn encoded(header: &Header, claims: &Map<String, Value>, key: &EncodingKey) -> Result<String, String> {
    jsonwebtoken::encode(header, claims, key).map_err(|_| format!("the key does not sign {:?}", header.alg))
}

fn no_key(algorithm: Algorithm) -> String {
    format!("the key is no private key for {algorithm:?} as PEM (PKCS #8)")
}

impl Strangers {
    /// A key for `algorithm` that nobody trusts.
    pub(super) fn key(&self, algorithm: Algorithm) -> Result<String, String> {
        let place = match algorithm {
            Algorithm::HS256 => &self.hs256,
            Algorithm::RS256 => &self.rs256,
            Algorithm::ES256 => &self.es256,
        };
        if let Some(key) = place.get() {
            return Ok(key.clone());
        }
        let made = match algorithm {
            Algorithm::HS256 => Some(seed::secret(32)),
            Algorithm::RS256 => {
                let key = rsa::RsaPrivateKey::new(&mut seed::of_keys(), RSA_BITS).ok();
                key.and_then(|key| Some(key.to_pkcs8_pem(LineEnding::LF).ok()?.to_string()))
            }
            Algorithm::ES256 => {
                let key = p256::SecretKey::random(&mut seed::of_keys());
                key.to_pkcs8_pem(LineEnding::LF).ok().map(|pem| pem.to_string())
            }
        };
        let made = made.ok_or_else(|| format!("a stranger's key for {algorithm:?} could not be made"))?;
        Ok(place.get_or_init(|| made).clone())
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::errors::ErrorKind;
    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn every_algorithm_signs_what_its_public_key_verifies_and_what_it_refuses() {
        let strangers = Strangers::default();
        let ec = p256::SecretKey::random(&mut seed::of_keys());
        let rsa = rsa::RsaPrivateKey::new(&mut seed::of_keys(), 2048).expect("a key");
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
            let signer = signer(algorithm, private);
            let claims = json!({ "tenant": "t", "aud": "a", "iss": "i" });
            let mut wanted = Validation::new(named);
            wanted.set_audience(&["a"]);
            wanted.set_issuer(&["i"]);
            let public = public.expect("a key");
            let told = decode::<Value>(signer.signed(claims.clone()).expect("signed"), &public, &wanted);
            let told = told.expect("verified");
            assert_eq!(
                (told.header.kid.as_deref(), &told.claims["tenant"]),
                (Some("k1"), &json!("t")),
                "{algorithm:?}"
            );
            for (flaw, refused) in [
                (Flaw::Expired, ErrorKind::ExpiredSignature),
                (Flaw::ForeignKey, ErrorKind::InvalidSignature),
                (Flaw::ForeignIssuer, ErrorKind::InvalidIssuer),
                (Flaw::ForeignAudience, ErrorKind::InvalidAudience),
            ] {
                let token = signer.flawed(claims.clone(), flaw, &strangers).expect("signed");
                let error = decode::<Value>(token, &public, &wanted).expect_err("refused");
                assert_eq!(*error.kind(), refused, "{algorithm:?} {flaw:?}");
            }
        }
        for (algorithm, private, public) in
            [(Algorithm::ES256, &ec_private, &ec_public), (Algorithm::RS256, &rsa_private, &rsa_public)]
        {
            for (flaw, secret) in [(Flaw::Confused, public.as_str()), (Flaw::ConfusedTrimmed, public.trim_end())] {
                let token = signer(algorithm, private).flawed(json!({}), flaw, &strangers).expect("signed");
                let deceived = DecodingKey::from_secret(secret.as_bytes());
                let told = decode::<Value>(token, &deceived, &Validation::new(jsonwebtoken::Algorithm::HS256));
                told.expect("believed by who keys HS256 with the public key");
            }
        }
        let error = signer(Algorithm::RS256, "nothing that signs").signed(json!({})).expect_err("no key");
        assert!(error.contains("RS256") && !error.contains("nothing that signs"), "{error}");
    }

    fn signer(algorithm: Algorithm, key: &str) -> Signer {
        Signer { algorithm, key: key.into(), key_id: Some("k1".into()), lives_s: 60 }
    }
}
