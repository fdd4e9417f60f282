//! Every kind of credential opens the door that it is for, and each door is guarded by the same run.

use axum::Json;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use axum::routing::post;
use partywall::campaign::Campaign;
use partywall::target::file::TargetFile;
use serde_json::{Value, json};

use crate::service::Notes;
use crate::{ACME, GLOBEX};

const KEY: &str = "a key of the tests that signs what nobody believes elsewhere";

/// Finds a credential where a door looks for it; the token of notes that it stands for.
type Door = fn(&Request) -> Option<String>;

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name)?.to_str().ok().map(String::from)
}

fn signed(request: &Request) -> Option<String> {
    let token = header(request, "authorization")?.strip_prefix("Bearer ")?.to_string();
    let mut wanted = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    wanted.set_audience(&["notes"]);
    let key = jsonwebtoken::DecodingKey::from_secret(KEY.as_bytes());
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &wanted).ok()?.claims;
    (claims["role"] == "member").then(|| token_of(claims["org"]["id"].as_str()?))?
}

fn token_of(tenant: &str) -> Option<String> {
    [("acme", ACME), ("globex", GLOBEX)].into_iter().find(|(name, _)| *name == tenant).map(|(_, token)| token.into())
}

async fn opens(credential: &str, door: Door) -> anyhow::Result<()> {
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
    let campaign = Campaign::against(TargetFile::parse(&file, credential)?).max_cases(50).variable("KEY", KEY);
    let campaign = campaign.variable("NOTES_URL", &url).variable("ACME_TOKEN", ACME).variable("GLOBEX_TOKEN", GLOBEX);
    let ended = campaign.run().await?;
    service.abort();
    ended.assert_upheld();
    let kept = std::fs::read(ended.dir.join("history.ndjson.zst"))?;
    let history = String::from_utf8(zstd::decode_all(kept.as_slice())?)?;
    assert!(!history.contains(ACME) && !history.contains(GLOBEX), "a credential is in the history");
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

#[tokio::test]
async fn a_token_that_is_signed_here_opens() -> anyhow::Result<()> {
    let credential = "kind = \"jwt\"\nalgorithm = \"HS256\"\nkey_env = \"KEY\"\n\
                      claims = { aud = \"notes\", role = \"{role}\", org = { id = \"{tenant}\" } }";
    opens(credential, signed).await
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
