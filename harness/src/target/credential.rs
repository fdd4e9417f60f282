//! How a principal proves itself, as the target file says it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a principal proves itself. In `send`, `body` and `claims`: `{tenant}` (its id, as the service knows it),
/// `{role}`; beside planted tenants `{TABLE.COLUMN}` of the principal's planted row, beside given ones `{given:NAME}`, what
/// `env` names.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum Credential {
    /// A request that answers with a token. In `body` also: `{TABLE.COLUMN}` of the principal's planted row, `{password}`.
    Login {
        /// Path of the request, sent by POST; a whole URL where another service signs in.
        path: String,
        /// Its JSON body.
        body: serde_json::Value,
        /// The name in `{given:NAME}` that is its secret: all else that is given says whose account it is.
        #[serde(default = "default_secret")]
        secret: String,
        /// JSON pointer to the token in the answer, or `cookie:NAME`.
        token: String,
        /// Where the token goes.
        #[serde(default)]
        send: Send,
    },
    /// A secret whose hash was planted (`secret_sha256`).
    Secret {
        /// What the secret starts with.
        #[serde(default)]
        prefix: String,
        /// Where the secret goes.
        #[serde(default)]
        send: Send,
    },
    /// A token, an API key or a cookie's value that is there already: `token` among what `env` names.
    Token {
        /// Where the token goes.
        #[serde(default)]
        send: Send,
    },
    /// A JWT that is made here, with `iat` and `exp` where `claims` has none (RFC 7519). Where each tenant has a key of its
    /// own, `key` among what `env` names, as a variable that holds it.
    Jwt {
        /// Its algorithm.
        algorithm: Algorithm,
        /// The variable that holds the key: a secret, or a private key as PEM.
        #[serde(default)]
        key_env: Option<String>,
        /// The file that holds the key, as PEM for other algorithms than HS256.
        #[serde(default)]
        key_file: Option<PathBuf>,
        /// Its `kid`; a template, as `claims`.
        #[serde(default)]
        key_id: Option<String>,
        /// Its claims.
        claims: serde_json::Value,
        /// How long it lives, seconds.
        #[serde(default = "default_lives_s")]
        lives_s: u64,
        /// Where it goes.
        #[serde(default)]
        send: Send,
    },
    /// Nothing but words that the service believes, as behind a gateway that has asked for proof.
    Trusted {
        /// The words.
        send: Send,
    },
}

fn default_secret() -> String {
    "password".into()
}

fn default_lives_s() -> u64 {
    3600
}

/// How a JWT is signed (RFC 7518).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// RSA with SHA-256.
    RS256,
    /// ECDSA on P-256.
    ES256,
}

/// What is wrong with a JWT that is made here to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// Its `exp` has passed (RFC 7519, 4.1.4).
    Expired,
    /// Another key of the same kind signed it.
    ForeignKey,
    /// Signed by HS256, with the public key's PEM as the secret (RFC 8725, 2.1).
    Confused,
    /// The same, with the PEM as it is without its last line break.
    ConfusedTrimmed,
    /// Another `iss` (RFC 7519, 4.1.1).
    ForeignIssuer,
    /// Another `aud` (RFC 7519, 4.1.3).
    ForeignAudience,
    /// The key of another tenant signed it, as its `kid` says.
    AnothersKey,
    /// The key of another tenant signed it, under the `kid` of the own one.
    AnothersKeyAsOwn,
    /// Its `kid` is the path of an empty file, whose content signed it (RFC 8725, 3.10).
    KeyIdPath,
    /// Its `kid` is SQL that answers with what signed it (RFC 8725, 3.10).
    KeyIdSql,
    /// Its header holds the key that it is to be believed by, as `jwk` (RFC 7515, 4.1.3).
    EmbeddedKey,
    /// Its algorithm is `none` in other letters, and it has no signature.
    NoneCased,
}

impl Flaw {
    /// Its word, as variables and messages name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::ForeignKey => "foreign_key",
            Self::Confused => "confused",
            Self::ConfusedTrimmed => "confused_trimmed",
            Self::ForeignIssuer => "foreign_issuer",
            Self::ForeignAudience => "foreign_audience",
            Self::AnothersKey => "anothers_key",
            Self::AnothersKeyAsOwn => "anothers_key_as_own",
            Self::KeyIdPath => "key_id_path",
            Self::KeyIdSql => "key_id_sql",
            Self::EmbeddedKey => "embedded_key",
            Self::NoneCased => "none_cased",
        }
    }
}

/// Where a credential goes: `Name: value` for a header, `?name=value` for the query; one or several, with `{token}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Send {
    /// One place.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Default for Send {
    fn default() -> Self {
        Self::One("Authorization: Bearer {token}".into())
    }
}

impl Send {
    /// The places.
    pub fn places(&self) -> &[String] {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Many(places) => places,
        }
    }
}

impl Credential {
    /// Where it goes.
    pub fn send(&self) -> &Send {
        match self {
            Self::Login { send, .. }
            | Self::Secret { send, .. }
            | Self::Token { send }
            | Self::Jwt { send, .. }
            | Self::Trusted { send } => send,
        }
    }

    /// The flaws that it can be made with: none where it is not made here, and none that its claims have no place for.
    pub fn flaws(&self) -> Vec<Flaw> {
        let Self::Jwt { algorithm, claims, .. } = self else { return Vec::new() };
        let mut flaws = vec![Flaw::Expired, Flaw::ForeignKey];
        if *algorithm != Algorithm::HS256 {
            flaws.extend([Flaw::Confused, Flaw::ConfusedTrimmed]);
        }
        flaws.extend(claims.get("iss").map(|_| Flaw::ForeignIssuer));
        flaws.extend(claims.get("aud").map(|_| Flaw::ForeignAudience));
        flaws
    }

    /// The flaws of its header, by which it is to be believed all the same; of one that is no JWT a stranger's value is sent.
    pub fn misleads(&self) -> Vec<Flaw> {
        let mut flaws = match self {
            Self::Login { .. } | Self::Token { .. } | Self::Jwt { .. } => {
                vec![Flaw::KeyIdPath, Flaw::KeyIdSql, Flaw::EmbeddedKey, Flaw::NoneCased]
            }
            Self::Secret { .. } | Self::Trusted { .. } => Vec::new(),
        };
        if self.has_key_each() {
            flaws.extend([Flaw::AnothersKey, Flaw::AnothersKeyAsOwn]);
        }
        flaws
    }

    /// Whether it is signed here, by a key of each tenant's own.
    pub fn has_key_each(&self) -> bool {
        matches!(self, Self::Jwt { key_env: None, key_file: None, .. })
    }

    /// True when something is proved, which can then be altered.
    pub fn proves(&self) -> bool {
        !matches!(self, Self::Trusted { .. })
    }
}
