//! Exports: asked for from the list, with its filters, and fetched here once they are written.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::WithRejection;
use serde::Deserialize;

use super::answer::{Page, Refused, STYLE, Told, see};
use super::events::Top;
use super::session::SignedIn;
use super::text::{grouped, stamp};
use super::wanted::Wanted;
use crate::caller::{Allowed, Oversees};
use crate::http::App;
use crate::http::exports::{Export, ExportFilter, Format, NewExport, create_export, download_export, list_exports};
use crate::http::extract::{Body, Fields, Ids, Params};
use crate::http::job_state::JobState;
use crate::http::page;
use crate::problem::Problem;

/// Exports shown at a time.
const SHOWN: i64 = 100;

/// The form: the list's filters, and how the file is written.
#[derive(Deserialize)]
pub(super) struct Asked {
    format: Format,
    #[serde(flatten)]
    wanted: Wanted,
}

#[derive(Template)]
#[template(path = "exports.html")]
struct ExportsPage {
    style: &'static str,
    top: Top,
    exports: Vec<Row>,
    under_way: bool,
    later: Option<String>,
}

/// An export, and what it is narrowed to.
struct Row {
    export: Export,
    filters: String,
}

/// Where the list of exports goes on.
#[derive(Deserialize)]
pub(super) struct After {
    cursor: Option<String>,
}

/// Lists exports.
pub(super) async fn list(
    State(app): State<App>,
    SignedIn(Allowed(caller, _)): SignedIn<Oversees>,
    WithRejection(Params(after), _): Told<Params<After>>,
) -> Result<Response, Refused> {
    let page = page::Page { limit: Some(SHOWN), cursor: after.cursor, count: None };
    let list = list_exports(State(app.clone()), Allowed::of(caller.clone())?, Params(page)).await?.0;
    let under_way = |export: &Export| !export.state.has_ended();
    let page = ExportsPage {
        style: STYLE,
        top: Top::of(&app, &caller).await?,
        under_way: list.items.iter().any(under_way),
        // The latest stand first.
        exports: list.items.into_iter().rev().map(Row::of).collect(),
        later: list.next_cursor.map(|cursor| {
            format!("/exports?{}", serde_urlencoded::to_string([("cursor", cursor)]).unwrap_or_default())
        }),
    };
    Ok(Page(page).into_response())
}

/// Asks for an export of what the list shows.
pub(super) async fn ask(
    SignedIn(allowed): SignedIn<Oversees>,
    WithRejection(Fields(asked), _): Told<Fields<Asked>>,
) -> Result<Response, Refused> {
    if !asked.wanted.q.trim().is_empty() {
        return Err(Problem::BadRequest("what a search finds cannot be exported: filter instead".into()).into());
    }
    let new = NewExport { format: asked.format, filter: asked.wanted.narrowed()?.into() };
    let _added = create_export(allowed, Body(new)).await?;
    Ok(see("/exports"))
}

/// Fetches the file.
pub(super) async fn download(
    State(app): State<App>,
    SignedIn(allowed): SignedIn<Oversees>,
    WithRejection(ids, _): Told<Ids<1>>,
) -> Result<Response, Refused> {
    Ok(download_export(State(app), allowed, ids).await?)
}

impl Row {
    fn of(export: Export) -> Self {
        let ExportFilter { actor, action, target_type, target_id, from, to, sort: _ } = &export.filter;
        let actor = actor.map(|id| id.to_string());
        let named = [("Actor", &actor), ("Action", action), ("Target type", target_type), ("Target", target_id)];
        let ranges = [("From", from), ("Before", to)];
        let set = named.into_iter().chain(ranges);
        let set: Vec<String> = set.filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?))).collect();
        Self { filters: set.join(" · "), export }
    }
}
