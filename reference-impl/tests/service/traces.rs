//! Traces: continued or begun, sent to a collector and told to the database, with nothing of a tenant in them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;

use crate::program::{Program, command, exchange, free_port, post_text};
use crate::world::{World, event};

const PROGRAM: &str = env!("CARGO_BIN_EXE_audit-api");
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector that keeps what it is sent: its URL, and the bodies.
async fn collector() -> anyhow::Result<(String, Arc<Mutex<Vec<Bytes>>>)> {
    let kept: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let keep = kept.clone();
    let routes = Router::new().route(
        "/v1/traces",
        post(async move |body: Bytes| {
            keep.lock().expect("not poisoned").push(body);
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok((url, kept))
}

fn spans(bodies: &[Bytes]) -> anyhow::Result<Vec<Span>> {
    let mut all = Vec::new();
    for body in bodies {
        let sent = ExportTraceServiceRequest::decode(body.clone())?;
        all.extend(sent.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans));
    }
    Ok(all)
}

/// The comments on the statements that began a transaction since the database logs them, by way of `pg_stat_activity`.
async fn comments(world: &World) -> anyhow::Result<Vec<String>> {
    let mut admin = world.database.connect("postgres").await?;
    let queries = sqlx::query_scalar("SELECT comment FROM begun").fetch_all(&mut admin).await?;
    Ok(queries)
}

/// From now on each event that is written keeps what `pg_stat_activity` shows of the statement that binds its tenant.
async fn keep_comments(world: &World) -> anyhow::Result<()> {
    // current_query() is the text of the batch only while that runs, so what runs in it keeps it: the binding itself.
    world
        .database
        .sql(
            "CREATE TABLE begun (comment text); GRANT INSERT ON begun TO audit_app; \
             CREATE FUNCTION public.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
               INSERT INTO public.begun SELECT query FROM pg_stat_activity \
                WHERE $1 = 'app.tenant_id' AND pid = pg_backend_pid(); \
               RETURN pg_catalog.set_config($1, $2, $3); END $$; \
             GRANT EXECUTE ON FUNCTION public.set_config(text, text, boolean) TO audit_app; \
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$",
        )
        .await
}

#[tokio::test]
async fn a_trace_is_continued_to_the_collector_the_log_and_the_database() -> anyhow::Result<()> {
    let world = World::new().await?;
    keep_comments(&world).await?;
    let (url, kept) = collector().await?;
    let port = free_port()?;
    let mut command = command(PROGRAM, &world.database, port);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", url).env("RUST_LOG", "info");
    let program = Program::start(command, port).await?;
    let body = event(world.a.people["member"], "secret-target").to_string();
    let sent = post_text("/v1/events?q=secret-query", &world.a.api_key, &body);
    let traced = |parent: &str| sent.replacen("Host: x", &format!("Host: x\r\ntraceparent: {parent}"), 1);
    let (status, answer) = exchange(port, traced(&format!("00-{TRACE}-00f067aa0ba902b7-01"))).await?;
    assert_eq!(status, 201, "{answer}");
    exchange(port, sent.clone()).await?;
    program.terminate()?;
    let (_, log) = program.ended().await?;
    let bodies = kept.lock().expect("not poisoned").clone();
    let spans = spans(&bodies)?;
    let of_trace: Vec<&Span> = spans.iter().filter(|span| hex::encode(&span.trace_id) == TRACE).collect();
    let named = |name: &str| of_trace.iter().find(|span| span.name == name).copied();
    let request = named("POST /v1/events").unwrap_or_else(|| panic!("no span of the request: {spans:?}"));
    let scope = named("scope").expect("a span of the database work");
    assert_eq!(hex::encode(&request.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(scope.parent_span_id, request.span_id);
    let fresh = spans.iter().filter(|span| span.name == "POST /v1/events" && span.parent_span_id.is_empty()).count();
    assert_eq!(fresh, 1, "the other request began a trace of its own");
    let comments = comments(&world).await?;
    let told = format!("/*traceparent='00-{TRACE}-{}-01'*/", hex::encode(&scope.span_id));
    assert_eq!(comments.iter().filter(|comment| comment.ends_with(&told)).count(), 1, "{comments:#?}");
    assert!(log.contains(TRACE), "{log}");
    let everything = format!("{log} {}", String::from_utf8_lossy(&bodies.concat()));
    for word in ["secret", "acme", &world.a.api_key[3..], &world.a.id.to_string(), "document.shared", "someone"] {
        assert!(!everything.contains(word), "{word} is told");
    }
    Ok(())
}

#[tokio::test]
async fn a_hostile_traceparent_begins_a_fresh_trace_and_says_nothing_to_the_database() -> anyhow::Result<()> {
    let world = World::new().await?;
    keep_comments(&world).await?;
    let port = free_port()?;
    let _program = Program::start(command(PROGRAM, &world.database, port), port).await?;
    let long = "0".repeat(6_000);
    let hostile = [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/; DROP TABLE events; --",
        "'; SELECT pg_sleep(10); --",
        "00-*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473'-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-0000000000000000-00",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        &long,
        "\u{e9}",
    ];
    for parent in hostile {
        let sent = format!(
            "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\ntraceparent: {parent}\r\nConnection: close\r\n\r\n",
            world.a.viewer_token
        );
        assert_eq!(exchange(port, sent).await?.0, 200, "{parent}");
    }
    let comments = comments(&world).await?;
    assert_eq!(comments.len(), hostile.len(), "{comments:#?}");
    for comment in comments {
        let (_, told) = comment.split_once("/*traceparent='").unwrap_or_else(|| panic!("no trace: {comment}"));
        let told = told.strip_suffix("'*/").unwrap_or_else(|| panic!("a broken comment: {comment}"));
        assert_eq!(told.len(), 55, "{comment}");
        assert!(told.chars().all(|c| c == '-' || c.is_ascii_hexdigit()) && !told.contains("4bf92f"), "{comment}");
    }
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_keeps_nobody_waiting() -> anyhow::Result<()> {
    let world = World::new().await?;
    let port = free_port()?;
    let mut command = command(PROGRAM, &world.database, port);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", free_port()?));
    let program = Program::start(command, port).await?;
    assert_eq!(crate::program::get(port, "/v1/events", &world.a.viewer_token).await?.0, 200);
    program.terminate()?;
    assert_eq!(program.ended().await?.0, Some(0));
    Ok(())
}
