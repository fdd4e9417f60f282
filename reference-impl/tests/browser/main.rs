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

async fn text(browser: &Client) -> anyhow::Result<String> {
    Ok(browser.find(Locator::Css("body")).await?.text().await?)
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
    let (on_left, on_right) = (text(&left).await?, text(&right).await?);
    assert!(on_left.contains("our-plan") && !on_left.contains("their-plan"), "{on_left}");
    assert!(on_right.contains("their-plan") && !on_right.contains("our-plan"), "{on_right}");

    // An event, by its address as well: the left one's own, and nothing to the right one.
    click(&left, ".time a").await?;
    assert!(text(&left).await?.contains("192.0.2.7"));
    fill(&left, "#body", "checked by us").await?;
    click(&left, "#annotations button").await?;
    assert!(text(&left).await?.contains("checked by us"));
    right.goto(&format!("{address}/events/{ours}")).await?;
    assert!(text(&right).await?.contains("Not Found"));
    assert!(!text(&right).await?.contains("our-plan"));

    // Searching and filtering by clicking.
    left.goto(&address).await?;
    fill(&left, "#q", "their").await?;
    click(&left, ".bar button").await?;
    assert!(text(&left).await?.contains("No event matches"));
    left.goto(&address).await?;
    click(&left, ".actor a").await?;
    assert!(text(&left).await?.contains("our-plan"));

    // No script can read the session, and none runs.
    let cookies = left.execute("return document.cookie", Vec::new()).await?;
    assert_eq!(cookies, json!(""));

    // After signing out, Back shows nothing.
    left.goto(&address).await?;
    click(&left, ".top form:last-child button").await?;
    assert!(text(&left).await?.contains("Sign in"));
    for _ in 0..3 {
        left.back().await?;
        let shown = text(&left).await?;
        assert!(!shown.contains("our-plan") && !shown.contains("acme"), "{shown}");
    }

    // Who is removed is out with the next click.
    let owner = world.token(&world.b, "owner").await;
    sign_in(&left, &address, &world.b, "member").await?;
    assert!(text(&left).await?.contains("their-plan"));
    let members = world.get(&owner, "/v1/members").await.expect(200).json();
    let member = members["items"].as_array().and_then(|all| all.iter().find(|m| m["role"] == "member").cloned());
    let path = format!("/v1/members/{}", member.context("a member")?["id"].as_str().context("an id")?);
    world.call(&owner, Method::DELETE, &path, None).await.expect(204);
    click(&left, ".time a").await?;
    let shown = text(&left).await?;
    assert!(shown.contains("Sign in") && !shown.contains("their-plan"), "{shown}");
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
    assert!(text(&browser).await?.contains("Choose a tenant"));
    click(&browser, &format!("button[value='{}']", world.a.id)).await?;
    let shown = text(&browser).await?;
    assert!(shown.contains("our-plan") && !shown.contains("their-plan"), "{shown}");
    browser.find(Locator::Css("#tenant")).await?.select_by_value(&world.b.id.to_string()).await?;
    click(&browser, ".switch button").await?;
    let shown = text(&browser).await?;
    assert!(shown.contains("their-plan") && !shown.contains("our-plan"), "{shown}");
    browser.back().await?;
    let shown = text(&browser).await?;
    assert!(!shown.contains("our-plan"), "what was seen before the switch does not come back: {shown}");
    Ok(browser.close().await?)
}
