//! The page as a person uses it, in a headless Chromium, two tenants side by side. `tests/browser/run` has what it needs.

#[allow(dead_code, reason = "shared with the service's tests")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "shared with the service's tests")]
#[path = "../service/world.rs"]
mod world;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use axum::http::Method;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use partywall_reference::config::Serve;
use serde_json::json;

use crate::world::{PASSWORD, Tenant, World, settings};

/// A driver, ended with the test.
struct Driver {
    process: Child,
    port: u16,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // One that has ended by itself is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Driver {
    fn start() -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { process: command.spawn().context("no chromedriver: see tests/browser/run")?, port })
    }

    /// A browser with a profile of its own.
    async fn browser(&self) -> anyhow::Result<Client> {
        let mut args = vec!["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"];
        if nix::unistd::geteuid().is_root() {
            args.push("--no-sandbox");
        }
        let options = json!({"goog:chromeOptions": {"args": args}});
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(options.as_object().cloned().unwrap_or_default());
        let mut tries = 0;
        loop {
            match builder.connect(&format!("http://127.0.0.1:{}", self.port)).await {
                Ok(client) => return Ok(client),
                Err(error) if tries == 100 => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            tries += 1;
        }
    }
}

/// The service on a port, for browsers.
async fn serve(world: &World) -> anyhow::Result<String> {
    let app = partywall_reference::serve::app(&Serve { plain_http: true, ..settings(&world.database, 4) }).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, partywall_reference::http::router(app)).await });
    Ok(address)
}

/// What the page says.
async fn text(browser: &Client) -> anyhow::Result<String> {
    Ok(browser.find(Locator::Css("body")).await?.text().await?)
}

/// What the page says once it says `word`: a click does not wait for the next page.
async fn page_with(browser: &Client, word: &str) -> anyhow::Result<String> {
    let mut last = String::new();
    for _ in 0..100 {
        // Between two pages there is no body to ask.
        last = text(browser).await.unwrap_or(last);
        if last.contains(word) {
            return Ok(last);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the page never says {word}: {last}")
}

async fn fill(browser: &Client, css: &str, value: &str) -> anyhow::Result<()> {
    let field = browser.find(Locator::Css(css)).await?;
    field.clear().await?;
    Ok(field.send_keys(value).await?)
}

async fn click(browser: &Client, css: &str) -> anyhow::Result<()> {
    Ok(browser.find(Locator::Css(css)).await?.click().await?)
}

async fn sign_in(browser: &Client, address: &str, tenant: &Tenant, role: &str) -> anyhow::Result<()> {
    browser.goto(address).await?;
    fill(browser, "#email", &tenant.email(role)).await?;
    fill(browser, "#password", PASSWORD).await?;
    click(browser, "button.primary").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_side_by_side_each_see_their_own_and_nothing_once_out() -> anyhow::Result<()> {
    let world = World::new().await?;
    let address = serve(&world).await?;
    let ours = world.event(&world.a, "member", "our-plan").await;
    world.event(&world.b, "member", "their-plan").await;
    let driver = Driver::start()?;
    let (left, right) = (driver.browser().await?, driver.browser().await?);

    // Side by side.
    sign_in(&left, &address, &world.a, "owner").await?;
    sign_in(&right, &address, &world.b, "owner").await?;
    let (on_left, on_right) = (page_with(&left, "our-plan").await?, page_with(&right, "their-plan").await?);
    assert!(!on_left.contains("their-plan"), "{on_left}");
    assert!(!on_right.contains("our-plan"), "{on_right}");

    // An event, by its address as well: the left one's own, and nothing to the right one.
    click(&left, ".time a").await?;
    page_with(&left, "What happened").await?;
    fill(&left, "#body", "checked by us").await?;
    click(&left, "#annotations button").await?;
    page_with(&left, "checked by us").await?;
    right.goto(&format!("{address}/events/{ours}")).await?;
    assert!(!page_with(&right, "Not Found").await?.contains("our-plan"));

    // Searching and filtering by clicking.
    left.goto(&address).await?;
    fill(&left, "#q", "their").await?;
    click(&left, ".bar button").await?;
    page_with(&left, "No event matches").await?;
    left.goto(&address).await?;
    click(&left, ".actor a").await?;
    assert!(page_with(&left, "Clear all").await?.contains("our-plan"));

    // No script can read the session, and none runs.
    let cookies = left.execute("return document.cookie", Vec::new()).await?;
    assert_eq!(cookies, json!(""));

    // After signing out, Back shows nothing.
    left.goto(&address).await?;
    click(&left, ".top form:last-child button").await?;
    page_with(&left, "Sign in").await?;
    for _ in 0..3 {
        left.back().await?;
        let shown = text(&left).await?;
        assert!(!shown.contains("our-plan") && !shown.contains("acme"), "{shown}");
    }

    // Who is removed is out with the next click.
    let owner = world.token(&world.b, "owner").await;
    sign_in(&left, &address, &world.b, "member").await?;
    page_with(&left, "their-plan").await?;
    let members = world.get(&owner, "/v1/members").await.expect(200).json();
    let member = members["items"].as_array().and_then(|all| all.iter().find(|m| m["role"] == "member").cloned());
    let path = format!("/v1/members/{}", member.context("a member")?["id"].as_str().context("an id")?);
    world.call(&owner, Method::DELETE, &path, None).await.expect(204);
    click(&left, ".time a").await?;
    let shown = page_with(&left, "Sign in").await?;
    assert!(!shown.contains("their-plan"), "{shown}");
    left.close().await?;
    Ok(right.close().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_belongs_to_two_tenants_chooses_and_switches() -> anyhow::Result<()> {
    let world = World::new().await?;
    let address = serve(&world).await?;
    world.event(&world.a, "member", "our-plan").await;
    world.event(&world.b, "member", "their-plan").await;
    let invited = json!({"email": world.a.email("admin"), "display_name": "Guest", "role": "auditor"});
    world.post(&world.token(&world.b, "owner").await, "/v1/members", invited).await.expect(201);
    let driver = Driver::start()?;
    let browser = driver.browser().await?;
    sign_in(&browser, &address, &world.a, "admin").await?;
    page_with(&browser, "Choose a tenant").await?;
    click(&browser, &format!("button[value='{}']", world.a.id)).await?;
    let shown = page_with(&browser, "our-plan").await?;
    assert!(!shown.contains("their-plan"), "{shown}");
    browser.find(Locator::Css("#tenant")).await?.select_by_value(&world.b.id.to_string()).await?;
    click(&browser, ".switch button").await?;
    let shown = page_with(&browser, "their-plan").await?;
    assert!(!shown.contains("our-plan"), "{shown}");
    browser.back().await?;
    let shown = page_with(&browser, "Audit log").await?;
    assert!(!shown.contains("our-plan"), "what was seen before the switch does not come back: {shown}");
    Ok(browser.close().await?)
}
