//! The OpenAPI document: complete, consistent, and the routes themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use axum::http::{Method, StatusCode, header};
use partywall_reference::http::web::ROUTES;
use serde_json::Value;

use crate::world::World;

const OPERATIONS: &[&str] = &[
    "POST /v1/sign-in sign_in",
    "POST /v1/token/refresh refresh_token",
    "POST /v1/sign-out sign_out",
    "POST /v1/tenants/switch switch_tenant",
    "GET /v1/me get_me",
    "POST /v1/events create_event",
    "POST /v1/events/bulk create_events_bulk",
    "GET /v1/events list_events",
    "GET /v1/events/{id} get_event",
    "GET /v1/events/search search_events",
    "GET /v1/events/stream stream_events",
    "GET /v1/events/stats get_stats",
    "GET /v1/events/facets get_facets",
    "GET /v1/targets/{type}/{id}/events list_target_events",
    "GET /v1/actors/{id}/events list_actor_events",
    "POST /v1/events/{id}/annotations create_annotation",
    "GET /v1/events/{id}/annotations list_annotations",
    "GET /v1/events/{id}/annotations/{aid} get_annotation",
    "PATCH /v1/events/{id}/annotations/{aid} update_annotation",
    "DELETE /v1/events/{id}/annotations/{aid} delete_annotation",
    "POST /v1/events/{id}/attachments create_attachment",
    "GET /v1/events/{id}/attachments list_attachments",
    "GET /v1/attachments/{id} get_attachment",
    "DELETE /v1/attachments/{id} delete_attachment",
    "GET /v1/objects/{signed} get_object",
    "POST /v1/exports create_export",
    "GET /v1/exports list_exports",
    "GET /v1/exports/{id} get_export",
    "DELETE /v1/exports/{id} delete_export",
    "GET /v1/exports/{id}/download download_export",
    "GET /v1/retention get_retention",
    "PUT /v1/retention put_retention",
    "POST /v1/retention/runs create_retention_run",
    "GET /v1/retention/runs list_retention_runs",
    "GET /v1/retention/runs/{id} get_retention_run",
    "GET /v1/archives list_archives",
    "POST /v1/archives/{id}/restore restore_archive",
    "POST /v1/members create_member",
    "GET /v1/members list_members",
    "GET /v1/members/{id} get_member",
    "PATCH /v1/members/{id} update_member",
    "DELETE /v1/members/{id} delete_member",
    "POST /v1/api-keys create_api_key",
    "GET /v1/api-keys list_api_keys",
    "GET /v1/api-keys/{id} get_api_key",
    "DELETE /v1/api-keys/{id} revoke_api_key",
    "POST /v1/viewer-tokens create_viewer_token",
    "GET /v1/viewer-tokens list_viewer_tokens",
    "GET /v1/viewer-tokens/{id} get_viewer_token",
    "DELETE /v1/viewer-tokens/{id} revoke_viewer_token",
    "POST /v1/webhooks create_webhook",
    "GET /v1/webhooks list_webhooks",
    "GET /v1/webhooks/{id} get_webhook",
    "PATCH /v1/webhooks/{id} update_webhook",
    "DELETE /v1/webhooks/{id} delete_webhook",
    "GET /v1/webhooks/{id}/deliveries list_deliveries",
    "POST /v1/webhooks/{id}/deliveries/{delivery}/redeliver redeliver",
    "GET /v1/event-types/{name} get_event_type",
    "PUT /v1/event-types/{name} put_event_type",
    "POST /v1/saved-searches create_saved_search",
    "GET /v1/saved-searches list_saved_searches",
    "GET /v1/saved-searches/{id} get_saved_search",
    "PATCH /v1/saved-searches/{id} update_saved_search",
    "DELETE /v1/saved-searches/{id} delete_saved_search",
    "GET /v1/proofs/head get_chain_head",
    "GET /v1/proofs/{id} get_proof",
    "GET /v1/tenant get_tenant",
    "PATCH /v1/tenant update_tenant",
    "DELETE /v1/tenant erase_tenant",
    "POST /v1/platform/tenants create_tenant",
    "GET /v1/platform/usage get_usage",
    "GET /healthz healthz",
    "GET /readyz readyz",
    "GET /metrics metrics",
    "GET /openapi.json openapi",
];
const OPEN: [&str; 6] = ["sign_in", "get_object", "healthz", "readyz", "metrics", "openapi"];

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut all = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("an item") {
            all.push((method.to_uppercase(), path.clone(), operation));
        }
    }
    all
}

/// Every `$ref` in the document.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(reference)) => found.push(reference.clone()),
            _ => references(value, found),
        }),
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_names_every_operation_and_every_reference_resolves() -> anyhow::Result<()> {
    let world = World::new().await?;
    let document = world.get("", "/openapi.json").await.expect(200).json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let listed: BTreeSet<String> = operations(&document)
        .iter()
        .map(|(method, path, operation)| {
            format!("{method} {path} {}", operation["operationId"].as_str().unwrap_or("-"))
        })
        .collect();
    assert_eq!(listed, OPERATIONS.iter().map(ToString::to_string).collect());
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    Ok(())
}

#[tokio::test]
async fn every_operation_says_who_may_call_it_what_it_takes_and_how_it_refuses() -> anyhow::Result<()> {
    let world = World::new().await?;
    let document = world.get("", "/openapi.json").await.expect(200).json();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or("-");
        assert_eq!(operation["security"].is_array(), !OPEN.contains(&id), "{id} says who may call it");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["schema"].is_object(), "{id}: {parameter}");
            let name = parameter["name"].as_str().unwrap_or_default();
            let schema = parameter["schema"].to_string();
            let bounded =
                ["format", "enum", "maxLength", "maximum", "boolean"].iter().any(|word| schema.contains(word));
            assert!(bounded, "{id}: {name} has no bounds: {schema}");
        }
        let named = path.matches('{').count();
        let in_path = operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "path").count();
        assert_eq!(in_path, named, "{id} describes its path");
        if !OPEN.contains(&id) {
            for status in ["400", "401", "403", "404", "422", "429", "500", "503"] {
                let content = &operation["responses"][status]["content"];
                assert!(content["application/problem+json"].is_object(), "{id} refuses with {status}");
            }
        }
        // No document of a route that is not there: without a credential the route refuses, and the router would say 404.
        let path = path.replace("{id}", "0190a5d4-0000-7000-8000-000000000001").replace("{aid}", "x");
        let answer = world.call("", Method::from_bytes(method.as_bytes())?, &path, None).await.status;
        let expected = match id {
            "sign_in" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "get_object" => StatusCode::NOT_FOUND,
            id if OPEN.contains(&id) => StatusCode::OK,
            _ => StatusCode::UNAUTHORIZED,
        };
        assert_eq!(answer, expected, "{id}");
    }
    Ok(())
}

/// Every file below `folder`.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let read = |path: PathBuf| std::fs::read_to_string(&path).map(|text| (path, text)).expect("UTF-8");
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![read(path)] }).collect()
}

#[tokio::test]
async fn the_routes_that_speak_html_are_the_only_ones_that_the_document_leaves_out() -> anyhow::Result<()> {
    let world = World::new().await?;
    let document = world.get("", "/openapi.json").await.expect(200).json();
    let documented: BTreeSet<String> =
        operations(&document).into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    for route in ROUTES {
        assert!(!documented.contains(route), "{route}");
        let (method, path) = route.split_once(' ').expect("a method and a path");
        let path = path.replace("{id}", "0190a5d4-0000-7000-8000-000000000001");
        let answer = world.call("", Method::from_bytes(method.as_bytes())?, &path, None).await;
        let html = answer.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/html; charset=utf-8");
        assert!(html || answer.status == StatusCode::SEE_OTHER, "{route}: {}", answer.status);
    }
    // Past `routes!`, which documents what it routes, a route is made in one place, and that place lists them.
    for (path, text) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let made: Vec<&str> = text.lines().filter(|line| line.contains(".route(")).collect();
        assert!(made.is_empty() || path.ends_with("http/web/mod.rs"), "{}: {made:?}", path.display());
        let handlers: usize =
            made.iter().map(|line| line.matches("get(").count() + line.matches("post(").count()).sum();
        assert!(made.is_empty() || handlers == ROUTES.len(), "{made:?}");
        for line in made {
            let path = line.split('"').nth(1).expect("a path");
            assert!(ROUTES.iter().any(|route| route.ends_with(&format!(" {path}"))), "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_reference_page_shows_every_operation_and_schema_of_the_document() -> anyhow::Result<()> {
    let world = World::new().await?;
    let document = world.get("", "/openapi.json").await.expect(200).json();
    let text = world.get("", "/docs").await.expect(200).text;
    for (_, _, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or("-");
        assert!(text.contains(&format!("id=\"{id}\"")), "{id}");
    }
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        assert!(text.contains(&format!("id=\"schema-{name}\"")), "{name}");
    }
    let links = text.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next());
    for link in links {
        assert!(text.contains(&format!("id=\"{link}\"")), "{link} leads nowhere");
    }
    Ok(())
}

#[tokio::test]
async fn metrics_count_requests_and_name_no_tenant() -> anyhow::Result<()> {
    let world = World::new().await?;
    let owner = world.token(&world.a, "owner").await;
    world.get(&owner, "/v1/events").await.expect(200);
    let text = world.get("", "/metrics").await.expect(200).text;
    assert!(text.contains("audit_requests_total{class=\"2xx\"}"), "{text}");
    assert!(!text.contains(&world.a.id.to_string()) && !text.contains("acme"), "{text}");
    Ok(())
}
