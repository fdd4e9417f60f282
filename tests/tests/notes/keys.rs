//! Doors that look a token's key up by what its header says.

use axum::extract::Request;
use base64::engine::{Engine, general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, decode_header};
use serde_json::Value;

use crate::credentials::{Door, KEY, MADE_HERE, asked, bearer, believed, caught, opens, token_of};

const MISLED: &str = "role/misleading-header";

/// The key that a tenant signs with, where each has its own.
pub fn key_of(tenant: &str) -> &'static str {
    if tenant == "acme" { "acme's own key, which signs for acme alone" } else { "globex's own key, which signs for it" }
}

fn each_its_own() -> String {
    MADE_HERE.replace("key_env = \"KEY\"\n", "key_id = \"{tenant}\"\n")
}

/// The door behind which each tenant's token is signed by the key that `kid` names.
fn by_key_id(request: &Request) -> Option<(String, String)> {
    let key_id = decode_header(bearer(request)?).ok()?.kid?;
    let key = DecodingKey::from_secret(key_of(&key_id).as_bytes());
    Some((believed(request, &key, &asked(Algorithm::HS256))?, key_id))
}

#[tokio::test]
async fn a_key_that_signs_for_its_own_tenant_alone_opens() -> anyhow::Result<()> {
    let door: Door =
        |request| by_key_id(request).filter(|(token, id)| Some(token) == token_of(id).as_ref()).map(|d| d.0);
    opens(&each_its_own(), door).await
}

#[tokio::test]
async fn a_door_at_which_any_tenants_key_signs_for_all_is_caught() -> anyhow::Result<()> {
    caught(&each_its_own(), KEY, |request| by_key_id(request).map(|(token, _)| token), MISLED).await
}

#[tokio::test]
async fn a_door_that_tries_every_key_it_has_is_caught() -> anyhow::Result<()> {
    let door: Door = |request| {
        ["acme", "globex"].into_iter().find_map(|tenant| {
            let key = DecodingKey::from_secret(key_of(tenant).as_bytes());
            believed(request, &key, &asked(Algorithm::HS256))
        })
    };
    caught(&each_its_own(), KEY, door, MISLED).await
}

/// The door that finds its key by `kid` where there is one, else its own.
fn named(request: &Request, found: fn(&str) -> Option<Vec<u8>>) -> Option<String> {
    let key = decode_header(bearer(request)?).ok()?.kid.as_deref().and_then(found);
    believed(request, &DecodingKey::from_secret(key.as_deref().unwrap_or(KEY.as_bytes())), &asked(Algorithm::HS256))
}

#[tokio::test]
async fn a_door_that_reads_the_file_which_a_key_id_names_is_caught() -> anyhow::Result<()> {
    opens(MADE_HERE, |request| named(request, |_| None)).await?;
    caught(MADE_HERE, KEY, |request| named(request, |id| std::fs::read(format!("/etc/{id}")).ok()), MISLED).await
}

#[tokio::test]
async fn a_door_that_takes_the_key_which_a_token_brings_is_caught() -> anyhow::Result<()> {
    let door: Door = |request| {
        let brought = decode_header(bearer(request)?).ok()?.jwk.and_then(|key| DecodingKey::from_jwk(&key).ok());
        believed(request, &brought.unwrap_or(DecodingKey::from_secret(KEY.as_bytes())), &asked(Algorithm::HS256))
    };
    caught(MADE_HERE, KEY, door, MISLED).await
}

#[tokio::test]
async fn a_door_that_knows_none_in_small_letters_alone_is_caught() -> anyhow::Result<()> {
    let door: Door = |request| {
        let token = bearer(request)?;
        let mut parts = token.split('.').map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok());
        let (head, claims): (Value, Value) = parts.next().flatten().zip(parts.next().flatten())?;
        match head["alg"].as_str()? {
            "none" => None,
            algorithm if algorithm.eq_ignore_ascii_case("none") => token_of(claims["org"]["id"].as_str()?),
            _ => believed(request, &DecodingKey::from_secret(KEY.as_bytes()), &asked(Algorithm::HS256)),
        }
    };
    caught(MADE_HERE, KEY, door, MISLED).await
}
