//! Every kind of credential opens the door that it is for, and each door is guarded by the same run.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::Json;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use axum::routing::post;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use p256::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use partywall::campaign::{Campaign, Ended};
use partywall::exit_code::ExitCode;
use partywall::finding::OracleId;
use partywall::target::file::TargetFile;
use partywall::verdict::Verdict;
use serde_json::{Value, json};

use crate::keys::key_of;
use crate::service::Notes;
use crate::{ACME, GLOBEX};

pub const KEY: &str = "a key of the tests that signs what nobody believes elsewhere";

/// A key pair as PEM, the private half first.
pub static PAIR: LazyLock<(String, String)> = LazyLock::new(|| {
    let key = p256::SecretKey::random(&mut p256::elliptic_curve::rand_core::OsRng);
    let private = key.to_pkcs8_pem(LineEnding::LF).expect("PEM").to_string();
    (private, key.public_key().to_public_key_pem(LineEnding::LF).expect("PEM"))
});

/// Finds a credential where a door looks for it; the token of notes that it stands for.
pub type Door = fn(&Request) -> Option<String>;

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name)?.to_str().ok().map(String::from)
}

pub fn bearer(request: &Request) -> Option<String> {
    Some(header(request, "authorization")?.strip_prefix("Bearer ")?.to_string())
}

/// What a service asks of a token before it believes it.
pub fn asked(algorithm: Algorithm) -> Validation {
    let mut asked = Validation::new(algorithm);
    asked.set_audience(&["notes"]);
    asked.set_issuer(&["tests"]);
    asked
}

pub fn believed(request: &Request, key: &DecodingKey, asked: &Validation) -> Option<String> {
    let claims = jsonwebtoken::decode::<Value>(bearer(request)?, key, asked).ok()?.claims;
    (claims["role"] == "member").then(|| token_of(claims["org"]["id"].as_str()?))?
}

/// A door that asks all it should, but for what `careless` leaves out.
fn signed(request: &Request, careless: fn(&mut Validation)) -> Option<String> {
    let mut asked = asked(Algorithm::HS256);
    careless(&mut asked);
    believed(request, &DecodingKey::from_secret(KEY.as_bytes()), &asked)
}

pub fn token_of(tenant: &str) -> Option<String> {
    [("acme", ACME), ("globex", GLOBEX)].into_iter().find(|(name, _)| *name == tenant).map(|(_, token)| token.into())
}

pub async fn driven(credential: &str, key: &str, door: Door) -> anyhow::Result<Ended> {
    // Beside the door, a sign-in that gives a cookie.
    let sign_in = post(|Json(body): Json<Value>| async move {
        let mut headers = HeaderMap::new();
        if body["password"] == body["token"] {
            let cookie = format!("session={}; HttpOnly", body["token"].as_str().unwrap_or_default());
            headers.insert("set-cookie", cookie.parse().expect("a cookie"));
        }
        (headers, Json(json!({})))
    });
    let translated = from_fn(move |mut request: Request, next: Next| async move {
        let token = door(&request);
        request.headers_mut().remove("authorization");
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
        }
        next.run(request).await
    });
    let notes = Notes::new([(ACME, "acme"), (GLOBEX, "globex")]).router().layer(translated).route("/sign-in", sign_in);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let service = tokio::spawn(axum::serve(listener, notes).into_future());
    let file = include_str!("partywall.toml").replace("kind = \"token\"", credential);
    // Each tenant has a key of its own, for doors that ask for one.
    let file = ["ACME", "GLOBEX"].into_iter().fold(file, |file, name| {
        let token = format!("env.member.token = \"{name}_TOKEN\"");
        file.replace(&token, &format!("{token}\nenv.member.key = \"{name}_KEY\""))
    });
    let campaign = Campaign::against(TargetFile::parse(&file, credential)?).max_cases(50).variable("KEY", key);
    let campaign = campaign.variable("NOTES_URL", &url).variable("ACME_TOKEN", ACME).variable("GLOBEX_TOKEN", GLOBEX);
    let campaign = campaign.variable("ACME_KEY", key_of("acme")).variable("GLOBEX_KEY", key_of("globex"));
    let ended = campaign.run().await?;
    service.abort();
    let kept = std::fs::read(ended.dir.join("history.ndjson.zst"))?;
    let history = String::from_utf8(zstd::decode_all(kept.as_slice())?)?;
    assert!(!history.contains(ACME) && !history.contains(GLOBEX), "a credential is in the history");
    Ok(ended)
}

pub async fn opens(credential: &str, door: Door) -> anyhow::Result<()> {
    driven(credential, KEY, door).await?.assert_upheld();
    Ok(())
}

fn verdict<'a>(ended: &'a Ended, id: &str) -> &'a Verdict {
    let found = ended.report.judgement.requirements.iter().find(|r| r.requirement == id);
    &found.expect("a requirement of the catalogue").verdict
}

/// The carelessness of `door` breaks `id` and lets nothing else in; what was deleted through it is missed elsewhere.
pub async fn caught(credential: &str, key: &str, door: Door, id: &str) -> anyhow::Result<()> {
    let ended = driven(credential, key, door).await?;
    let findings = ended.report.judgement.findings.iter().filter(|f| f.oracle == OracleId::Authentication);
    let broken: BTreeSet<&str> = findings.map(|f| f.requirement.as_str()).collect();
    assert_eq!(broken, BTreeSet::from([id]));
    assert_eq!(ended.exit, ExitCode::Violated);
    Ok(())
}

#[tokio::test]
async fn an_api_key_in_a_header_opens() -> anyhow::Result<()> {
    opens("kind = \"token\"\nsend = \"X-Api-Key: {token}\"", |request| header(request, "x-api-key")).await
}

#[tokio::test]
async fn an_api_key_in_the_query_opens() -> anyhow::Result<()> {
    let door: Door = |request| {
        let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == "key").map(|(_, value)| value.into()).next_back()
    };
    opens("kind = \"token\"\nsend = \"?key={token}\"", door).await
}

#[tokio::test]
async fn a_cookie_that_a_sign_in_sets_opens() -> anyhow::Result<()> {
    let credential = "kind = \"login\"\npath = \"/sign-in\"\ntoken = \"cookie:session\"\nsend = \"Cookie: session={token}\"\n\
                      body = { token = \"{given:token}\", password = \"{given:token}\" }";
    opens(credential, |request| header(request, "cookie")?.strip_prefix("session=").map(String::from)).await
}

pub const MADE_HERE: &str = "kind = \"jwt\"\nalgorithm = \"HS256\"\nkey_env = \"KEY\"\n\
    claims = { iss = \"tests\", aud = \"notes\", role = \"{role}\", org = { id = \"{tenant}\" } }";

#[tokio::test]
async fn a_token_that_is_signed_here_opens_and_one_with_a_flaw_does_not() -> anyhow::Result<()> {
    let ended = driven(MADE_HERE, KEY, |request| signed(request, |_| ())).await?;
    ended.assert_upheld();
    for id in ["role/expired", "role/foreign-issuer"] {
        assert_eq!(*verdict(&ended, id), Verdict::Upheld, "{id}");
    }
    Ok(())
}

#[tokio::test]
async fn a_target_whose_credentials_are_made_elsewhere_is_told_so() -> anyhow::Result<()> {
    let ended = driven("kind = \"token\"", KEY, bearer).await?;
    ended.assert_upheld();
    for id in ["role/expired", "role/foreign-issuer"] {
        let why = "the channel mint is not open: the target file has no credential that is made here";
        assert_eq!(*verdict(&ended, id), Verdict::NotApplicable(why.into()), "{id}");
    }
    Ok(())
}

#[tokio::test]
async fn a_door_that_never_looks_at_the_time_is_caught() -> anyhow::Result<()> {
    caught(MADE_HERE, KEY, |request| signed(request, |asked| asked.validate_exp = false), "role/expired").await
}

#[tokio::test]
async fn a_door_that_takes_any_issuer_is_caught() -> anyhow::Result<()> {
    caught(MADE_HERE, KEY, |request| signed(request, |asked| asked.iss = None), "role/foreign-issuer").await
}

#[tokio::test]
async fn a_door_that_takes_any_audience_is_caught() -> anyhow::Result<()> {
    caught(MADE_HERE, KEY, |request| signed(request, |asked| asked.validate_aud = false), "role/foreign-issuer").await
}

#[tokio::test]
async fn a_door_that_takes_any_key_is_caught() -> anyhow::Result<()> {
    let door: Door = |request| {
        let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(bearer(request)?).ok()?.claims;
        let lives = claims["exp"].as_u64()? > jsonwebtoken::get_current_timestamp();
        (lives && claims["role"] == "member").then(|| token_of(claims["org"]["id"].as_str()?))?
    };
    let ended = driven(MADE_HERE, KEY, door).await?;
    // What is altered is believed as well.
    assert_eq!(*verdict(&ended, "role/foreign-issuer"), Verdict::Violated);
    assert_eq!(*verdict(&ended, "role/expired"), Verdict::Upheld);
    Ok(())
}

#[tokio::test]
async fn a_door_that_lets_the_token_choose_the_algorithm_is_caught() -> anyhow::Result<()> {
    let credential = MADE_HERE.replace("HS256", "ES256");
    let sound: Door =
        |request| believed(request, &DecodingKey::from_ec_pem(PAIR.1.as_bytes()).ok()?, &asked(Algorithm::ES256));
    driven(&credential, &PAIR.0, sound).await?.assert_upheld();
    let confused: Door = |request| {
        let chosen = jsonwebtoken::decode_header(bearer(request)?).ok()?.alg;
        let key = match chosen {
            Algorithm::HS256 => DecodingKey::from_secret(PAIR.1.as_bytes()),
            _ => DecodingKey::from_ec_pem(PAIR.1.as_bytes()).ok()?,
        };
        believed(request, &key, &asked(chosen))
    };
    caught(&credential, &PAIR.0, confused, "role/foreign-issuer").await
}

#[tokio::test]
async fn words_that_a_gateway_would_send_open() -> anyhow::Result<()> {
    let credential = "kind = \"trusted\"\nsend = [\"X-Gateway-Tenant: {tenant}\", \"X-Gateway-Role: {role}\"]";
    opens(credential, |request| {
        header(request, "x-gateway-role").filter(|role| role == "member")?;
        token_of(&header(request, "x-gateway-tenant")?)
    })
    .await
}
