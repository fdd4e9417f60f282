//! A service that looks like the reference from outside, has its database, and answers everything alike. It leaks
//! nothing, and so shows whether silence is taken for a wall.

use anyhow::Context;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    match words.first().map(String::as_str) {
        Some("migrate") => runtime.block_on(partywall_reference::serve::migrate(words.last().context("a URL")?)),
        _ => runtime.block_on(serve()),
    }
}

async fn serve() -> anyhow::Result<()> {
    // `STATUS BODY`
    let said = std::env::var("FACADE").context("FACADE says what to answer")?;
    let (status, body) = said.split_once(' ').context("FACADE is a status and a body")?;
    let (status, body) = (status.parse::<StatusCode>()?, body.to_string());
    let router = axum::Router::new().fallback(move |uri: Uri| async move { answer(&uri, status, body) });
    let listener = tokio::net::TcpListener::bind(std::env::var("AUDIT_LISTEN")?).await?;
    Ok(axum::serve(listener, router).await?)
}

fn answer(uri: &Uri, status: StatusCode, body: String) -> Response {
    let json = |status: StatusCode, body: String| (status, [(header::CONTENT_TYPE, "application/json")], body);
    match uri.path() {
        "/readyz" => StatusCode::OK.into_response(),
        "/openapi.json" => match partywall_reference::http::routes().1.to_json() {
            Ok(document) => json(StatusCode::OK, document).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
        "/v1/sign-in" => json(StatusCode::OK, r#"{"access_token": "a", "refresh_token": "r"}"#.into()).into_response(),
        _ => json(status, body).into_response(),
    }
}
