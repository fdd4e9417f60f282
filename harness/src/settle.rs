//! Settles given tenants in: has their objects made by the service's own operations, learns the ids that the service
//! makes from the owners' own answers, and sees that each owner is shown its own. Without that, the run stops.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::canary::{Owner, Scanner, layers};
use crate::error::{Error, Result};
use crate::history::Outcome;
use crate::ledger::{self, Ledger};
use crate::patience::RETRY_AFTER_MAX;
use crate::placeholder;
use crate::plan::{Plan, Planner, Planting, Proof, Request, Showing};
use crate::principal::Principal;
use crate::target::file::PlantTable;
use crate::target::http::{self, Raw};
use crate::target::identity::{Identities, Secrets};
use crate::tenant::Holdings;

/// How long an owner is given to see what was made: some services show it a moment later.
const SHOWN_WITHIN: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_millis(250);
/// How long one object is tried to be made while the service says "not now" or "later".
const MADE_WITHIN: Duration = Duration::from_secs(60);
/// Pages of a list that are followed at most.
const PAGES_MAX: u32 = 400;
/// Values imagined of each column, for objects that nobody has.
const IMAGINED: u32 = 64;

/// Who settles in, and where.
pub struct Settling<'a> {
    /// The plan's planner.
    pub planner: &'a Planner,
    /// The plan.
    pub plan: &'a Plan,
    /// Everyone's credentials.
    pub identities: &'a Identities,
    /// The run's secrets.
    pub secrets: &'a Secrets,
    /// Where the target answers.
    pub base_url: &'a str,
}

impl Settling<'_> {
    /// Makes every tenant's objects, table by table; several tenants at once.
    ///
    /// # Errors
    /// An owner that is not shown what it made; a target file that does not fit the document.
    pub async fn settle(&self) -> Result<Ledger> {
        let mut ledger = Ledger::default();
        for (index, tenant) in self.plan.target.tenant.iter().enumerate() {
            if let Some(id) = self.secrets.tenant_id(tenant)? {
                ledger.learn_tenant(Owner::new(index as u32), &id);
            }
        }
        for table in self.planner.plant_tables() {
            let known = &ledger;
            let owners = self.planner.holdings().owners();
            let made = stream::iter(owners.map(|owner| self.table(table, owner, known)));
            let made: Vec<Ledger> = made.buffer_unordered(self.plan.bounds.workers as usize).try_collect().await?;
            made.into_iter().for_each(|learnt| ledger.merge(learnt));
        }
        if let Some((table, column)) = self.planner.tenant_column() {
            for owner in self.planner.holdings().owners() {
                let id = ledger.value(&ledger::name(&table.name, column, owner, 0)).map(|(id, _)| id.to_string());
                let why = ledger.unmade(&table.name).unwrap_or("its answer has none");
                let id = id.ok_or_else(|| {
                    Error::Unreachable(format!("the id of {owner} could not be learnt from {}: {why}", table.name))
                })?;
                ledger.learn_tenant(owner, &id);
            }
        }
        ledger.imagine(self.plan.bounds.rows.max(IMAGINED));
        Ok(ledger)
    }

    /// Makes `owner`'s rows of `table` and has them shown.
    async fn table(&self, table: &PlantTable, owner: Owner, known: &Ledger) -> Result<Ledger> {
        let mut ledger = Ledger::default();
        let plantings = self.planner.plantings(table, owner).map_err(Error::Usage)?;
        let client = http::client(self.plan.target.timeout())?;
        let door = Door { settling: self, client, known };
        for planting in &plantings {
            let by = table.by.as_deref().unwrap_or_default();
            let made = door.make(planting).await;
            let learnt =
                made.and_then(|raw| learn(&mut ledger, self.planner.holdings(), table, owner, planting.row, &raw));
            if let Err(why) = learnt {
                ledger.fail(&table.name, format!("{by} {why} ({})", planting.actor));
                return Ok(ledger);
            }
        }
        if !self.planner.only_reads(table) {
            door.shown(table, owner, &mut ledger).await?;
        }
        Ok(ledger)
    }
}

/// One owner's way in.
struct Door<'a> {
    settling: &'a Settling<'a>,
    client: http::Client,
    known: &'a Ledger,
}

impl Door<'_> {
    /// Has one object made; the answer, or why there is none in words.
    async fn make(&self, planting: &Planting) -> std::result::Result<Raw, String> {
        let until = Instant::now() + MADE_WITHIN;
        loop {
            let raw = self.exchange(&planting.actor, &planting.request, self.known).await?;
            let wait = match (raw.status, http::retry_after(&raw)) {
                (200..300, _) => return Ok(raw),
                (_, Some(later)) => later,
                (status, None) if planting.busy.contains(&status) => AGAIN,
                (status, None) => return Err(format!("answered {status}")),
            };
            if wait > RETRY_AFTER_MAX || Instant::now() + wait > until {
                return Err(format!("answered {} to the end", raw.status));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits until `owner` is shown all rows of `table`, and learns what only lists say.
    async fn shown(&self, table: &PlantTable, owner: Owner, ledger: &mut Ledger) -> Result<()> {
        let settling = self.settling;
        let mut all = self.known.clone();
        all.merge(ledger.clone());
        let plan = settling.plan;
        let scanner = Scanner::new(plan.canary_key(), plan.window()).with_learnt(ledger.telling());
        for showing in settling.planner.showings(table, owner).map_err(Error::Usage)? {
            let until = Instant::now() + SHOWN_WITHIN;
            loop {
                match self.missing(&showing, table, owner, &scanner, &all, ledger).await {
                    Ok(None) => break,
                    Ok(Some(_)) | Err(_) if Instant::now() < until => tokio::time::sleep(AGAIN).await,
                    told => {
                        let told = told.map(|row| row.map_or_else(String::new, |row| format!("showed no row {row}")));
                        return Err(Error::Unreachable(format!(
                            "planting failed: {} made rows of {}, but {} {} to the {}. Nothing can be shown by who sees \
                             what nobody sees; check [[plant.table]] {} and [[operation]] {}",
                            table.by.as_deref().unwrap_or_default(),
                            table.name,
                            showing.operation,
                            told.unwrap_or_else(|why| why),
                            showing.actor,
                            table.name,
                            showing.operation
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// The first of the rows that `showing` does not show.
    async fn missing(
        &self,
        showing: &Showing,
        table: &PlantTable,
        owner: Owner,
        scanner: &Scanner,
        known: &Ledger,
        ledger: &mut Ledger,
    ) -> std::result::Result<Option<u32>, String> {
        let holdings = self.settling.planner.holdings();
        let mut missing = showing.rows.clone();
        let mut request = showing.request.clone();
        let mut read = 0;
        for page in 1..=PAGES_MAX {
            let raw = self.exchange(&showing.actor, &request, known).await?;
            if !(200..300).contains(&raw.status) {
                return Err(format!("answered {}", raw.status));
            }
            let encoding = raw.headers.iter().find(|(name, _)| name == "content-encoding").map(|(_, v)| v.as_str());
            let (body, _) = layers(&raw.body, encoding);
            let rows = |bytes: &[u8]| {
                let mut rows = Vec::new();
                scanner.scan(bytes, &mut |s| {
                    let column = s.column.and_then(|code| holdings.column(code));
                    rows.extend(s.row.filter(|_| s.owner == owner && column.is_some_and(|c| c.table == table.name)));
                });
                rows
            };
            let seen = rows(&body);
            missing.retain(|row| !seen.contains(row));
            let Some(list) = &showing.list else { break };
            let parsed: Value = serde_json::from_slice(&body).map_err(|_| "answered without JSON".to_string())?;
            for item in parsed.pointer(&list.items).and_then(Value::as_array).into_iter().flatten() {
                let Some(row) = rows(item.to_string().as_bytes()).first().copied() else { continue };
                for (column, generator) in &table.columns {
                    let value = generator.strip_prefix("listed:").and_then(|pointer| item.pointer(pointer));
                    if let Some(value) = value {
                        ledger.learn(&table.name, column, holdings.canary(owner, row, &table.name, column), value);
                    }
                }
            }
            read += list.rows(&parsed).unwrap_or(0);
            let Some(on) = list.goes_on(&parsed, page, read) else { break };
            request = showing.request.clone();
            request.query.retain(|(name, _)| *name != on.0);
            request.query.push(on);
        }
        Ok(missing.first().copied())
    }

    async fn exchange(&self, actor: &Principal, request: &Request, known: &Ledger) -> std::result::Result<Raw, String> {
        let settling = self.settling;
        let value = |name: &str| match name {
            "password" => Some(settling.secrets.password.clone()),
            name => known.value(name).map(|(text, _)| text.into()),
        };
        let url = http::url_of(request, &|text| placeholder::filled(text, &value));
        let mut request = request.clone();
        if let Some((_, body)) = &mut request.body {
            *body = placeholder::filled(&known.filled_body(body), &value);
        }
        let body = request.body.iter().flat_map(|(_, body)| placeholder::names(body));
        let lost = placeholder::names(&url).chain(body).next();
        if let Some(name) = lost.or_else(|| url.contains("%E2%9F%A6").then_some("an id in its path")) {
            return Err(format!("needs {name}, which is not known"));
        }
        let credential = settling.identities.presented(actor, &Proof::AsIssued);
        let raw = http::exchange(&self.client, settling.base_url, &request, &url, &credential, None).await;
        let raw = raw.map_err(|outcome| match outcome {
            Outcome::TimedOut => "got no answer in time".to_string(),
            Outcome::Failed { why } => format!("got no answer: {why}"),
            _ => "got no answer".to_string(),
        })?;
        match raw.cut {
            Some(why) => Err(format!("got an answer that is not whole: {why}")),
            None => Ok(raw),
        }
    }
}

/// Learns what the answer that made a row says of it.
fn learn(
    ledger: &mut Ledger,
    holdings: &Holdings,
    table: &PlantTable,
    owner: Owner,
    row: u32,
    raw: &Raw,
) -> std::result::Result<(), String> {
    let parsed = serde_json::from_slice::<Value>(&raw.body).unwrap_or_default();
    let location = raw.headers.iter().find(|(name, _)| name == "location").map(|(_, value)| value.as_str());
    let last = location.and_then(|value| value.split('?').next()?.trim_end_matches('/').rsplit('/').next());
    for (column, generator) in &table.columns {
        let Some(place) = generator.strip_prefix("learnt:") else { continue };
        let value = match place {
            "location" => last.map(Value::from),
            pointer => parsed.pointer(pointer).cloned(),
        };
        let value = value.filter(|v| v.is_string() || v.is_number());
        let value = value.ok_or_else(|| format!("answered {} without {place}", raw.status))?;
        ledger.learn(&table.name, column, holdings.canary(owner, row, &table.name, column), &value);
    }
    Ok(())
}
