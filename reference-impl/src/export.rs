//! Writes an export: page by page out of the store, piece by piece into the object store.

use object_store::WriteMultipart;
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::careless;
use crate::defects::{Defect, on};
use crate::http::event::Event;
use crate::http::events::position;
use crate::http::exports::Format;
use crate::objects::{Kind, Object, Objects, failed};
use crate::problem::Problem;
use crate::scope::TenantScope;
use crate::store::Sight;
use crate::store::events::Filter;
use crate::store::exports::Written;

/// Events a page.
const PAGE: i64 = 500;
/// Pieces under way to the object store at a time.
const PIECES: usize = 4;
const HEADER: [&str; 15] = [
    "id",
    "occurred_at",
    "recorded_at",
    "actor_id",
    "actor_email",
    "actor_name",
    "action",
    "target_type",
    "target_id",
    "target_name",
    "outcome",
    "source_ip",
    "user_agent",
    "external_id",
    "details",
];

/// Writes the export `id` of `tenant`, unless it has ended before. Each try has an object of its own: one that another
/// try has overtaken removes what it wrote.
///
/// # Errors
/// [`Problem::NotFound`] when the tenant has no such export; what else the database or the object store fails with.
pub(crate) async fn write(scope: &TenantScope, objects: &Objects, tenant: Uuid, id: Uuid) -> Result<(), Problem> {
    let object = Object { tenant, kind: Kind::Export, id: Uuid::now_v7() };
    let Some(taken) = scope.run(move |store| Box::pin(store.take_export(id, object.id))).await? else {
        return Ok(());
    };
    if let Some(before) = taken.before {
        objects.remove(Object { id: before, ..object }).await?;
    }
    let written = match written(scope, objects, object, taken.format, taken.filter.filter()?).await {
        Ok(written) => written,
        Err(problem) => {
            objects.remove(object).await?;
            return Err(problem);
        }
    };
    let ended =
        scope.run(move |store| Box::pin(async move { store.finish_export(id, object.id, &written).await })).await?;
    if ended { Ok(()) } else { objects.remove(object).await }
}

async fn written(
    scope: &TenantScope,
    objects: &Objects,
    object: Object,
    format: Format,
    filter: Filter,
) -> Result<Written, Problem> {
    let mut upload = objects.begin(object).await?;
    match pages(scope, &mut upload, format, filter).await {
        Ok(written) => upload.finish().await.map(|_| written).map_err(failed),
        Err(problem) => {
            // What the store keeps of it is the store's to clear.
            let _ = upload.abort().await;
            Err(problem)
        }
    }
}

async fn pages(
    scope: &TenantScope,
    upload: &mut WriteMultipart,
    format: Format,
    filter: Filter,
) -> Result<Written, Problem> {
    let kept = on(Defect::ExportScopeKept).then(|| careless::exports(scope));
    let scope = kept.as_ref().unwrap_or(scope);
    let (mut written, mut hash, mut after) = (Written { rows: 0, size: 0, sha256: Vec::new() }, Sha256::new(), None);
    loop {
        let asked = filter.clone();
        let page = scope
            .run(move |store| Box::pin(async move { store.events(&asked, &Sight::All, after, PAGE).await }))
            .await?;
        let fits = &page[..page.len().min(PAGE as usize)];
        let text = match format {
            Format::Csv => csv(fits, after.is_none())?,
            Format::Ndjson => ndjson(fits)?,
        };
        hash.update(&text);
        written.rows += fits.len() as i64;
        written.size += text.len() as i64;
        upload.wait_for_capacity(PIECES).await.map_err(failed)?;
        upload.write(&text);
        after = fits.last().map(position);
        if fits.len() == page.len() {
            written.sha256 = hash.finalize().to_vec();
            return Ok(written);
        }
    }
}

fn ndjson(events: &[Event]) -> Result<Vec<u8>, Problem> {
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event).map_err(|_| Problem::Internal)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn csv(events: &[Event], header: bool) -> Result<Vec<u8>, Problem> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    let internal = |_: csv::Error| Problem::Internal;
    if header {
        rows.write_record(HEADER).map_err(internal)?;
    }
    for event in events {
        let instant = |at: time::OffsetDateTime| at.format(&Rfc3339).map_err(|_| Problem::Internal);
        let fields = [
            event.id.to_string(),
            instant(event.occurred_at)?,
            instant(event.recorded_at)?,
            event.actor.id.to_string(),
            event.actor.email.clone(),
            event.actor.name.clone(),
            event.action.clone(),
            event.target.kind.clone(),
            event.target.id.clone(),
            event.target.name.clone(),
            event.outcome.word().to_string(),
            event.source_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            event.user_agent.clone().unwrap_or_default(),
            event.external_id.clone().unwrap_or_default(),
            serde_json::to_string(&event.details).map_err(|_| Problem::Internal)?,
        ];
        rows.write_record(fields.map(inert)).map_err(internal)?;
    }
    rows.into_inner().map_err(|_| Problem::Internal)
}

/// A spreadsheet takes what begins like a formula for one; a quote in front makes it text (OWASP, CSV injection).
fn inert(field: String) -> String {
    let begins = field
        .trim_start_matches([' ', '\u{feff}', '\u{a0}'])
        .starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    if begins { format!("'{field}") } else { field }
}

#[cfg(test)]
mod tests {
    use super::inert;

    #[test]
    fn what_a_spreadsheet_would_run_becomes_text_and_the_rest_stays() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u{feff}=1", "\u{ff1d}1"] {
            assert_eq!(inert(formula.into()), format!("'{formula}"));
        }
        for text in ["", "a=b", "1-2", "someone@acme.example", "{}", "'=1"] {
            assert_eq!(inert(text.into()), text);
        }
    }
}
