//! Access tokens (JWT, HS256, short), bearer secrets and passwords.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use hmac::{Hmac, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::defects::{Defect, on};

/// An access token is good for so long, seconds.
pub const ACCESS_S: i64 = 15 * 60;
/// A session can be renewed for so long, seconds.
pub const SESSION_S: i64 = 14 * 24 * 3600;

/// What an access token says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The person.
    pub sub: Uuid,
    /// The tenant; none for the platform's operators.
    pub tenant: Option<Uuid>,
    /// The application role at sign-in; the membership decides at each request.
    pub role: String,
    /// The session.
    pub sid: Uuid,
    /// End, seconds since the Unix epoch.
    pub exp: i64,
}

/// Whether an access token may have run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It must not.
    Running,
    /// It may: only for renewing a session, whose own secret is asked for besides.
    Any,
}

/// Signs and verifies access tokens.
#[derive(Clone)]
pub struct Signer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    running: Validation,
    any: Validation,
}

impl Signer {
    /// A signer with `key`.
    pub fn new(key: &[u8]) -> Self {
        let mut running = Validation::new(Algorithm::HS256);
        running.leeway = 0;
        let any = Validation { validate_exp: false, ..running.clone() };
        Self { encoding: EncodingKey::from_secret(key), decoding: DecodingKey::from_secret(key), running, any }
    }

    /// A token.
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding).ok()
    }

    /// The claims of a token that this signer made.
    pub fn verify(&self, token: &str, lifetime: Lifetime) -> Option<Claims> {
        if on(Defect::SignatureUnverified) {
            return jsonwebtoken::dangerous::insecure_decode::<Claims>(token).ok().map(|data| data.claims);
        }
        let validation = if lifetime == Lifetime::Running { &self.running } else { &self.any };
        jsonwebtoken::decode::<Claims>(token, &self.decoding, validation).ok().map(|data| data.claims)
    }
}

/// A key for one purpose, so that what is signed for one proves nothing for another.
pub fn derived(key: &[u8], purpose: &str) -> Vec<u8> {
    // HMAC takes a key of any length.
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| unreachable!());
    mac.update(purpose.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A tenant's id as logs and dead letters have it.
pub fn log_hash(log_key: &[u8], tenant: Uuid) -> String {
    hex::encode(&derived(log_key, &tenant.to_string())[..8])
}

/// A fresh bearer secret.
pub fn secret(prefix: &str) -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("{prefix}{}", hex::encode(bytes))
}

/// What is stored of a bearer secret.
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// Whether `password` is the one of `stored`. Without a stored hash the same work is done in vain, so that the time
/// taken does not tell whether an address is known.
pub fn password_is(password: &str, stored: Option<&str>) -> bool {
    let parsed = stored.and_then(|text| PasswordHash::new(text).ok());
    match parsed {
        Some(parsed) => Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok(),
        None => {
            // The result is thrown away: only the work counts.
            let _ = Argon2::default().hash_password(password.as_bytes());
            false
        }
    }
}
