//! `reproduce.sh`: a finding's fewest steps with curl alone, against a target that is planted as the run planted it.

use std::collections::BTreeSet;

use super::Shown;
use super::curl::{self, Variables};
use super::text::line;
use crate::canary::{Owner, Sighting};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::finding::{OracleId, quoted};
use crate::oracle::Ground;
use crate::plan::{Answer, Plan, Step};
use crate::principal::Principal;
use crate::tenant::{Holdings, WRITTEN};

/// Values looked for at most; the first ones of a tenant are as good as the last.
const MARKS_MAX: usize = 2_000;
/// Number of the casting: its writes are others than the run's.
const TAKE: u32 = 30_000;
/// What the script is made of besides its steps.
pub(super) const PRELUDE: &str = include_str!("prelude.sh");

/// What in the answer is the leak.
enum Sign {
    /// Any of these values.
    Shown(Vec<String>),
    /// One of these values is not there.
    Missing(Vec<String>),
    /// It succeeds.
    Success,
    /// A number in a field that lies outside these bounds.
    Number(String, u64, u64),
    /// A reader has to tell.
    Unknown,
    /// No answer tells.
    Elsewhere(&'static str),
}

/// The script. Credentials are taken from variables, which it names and refuses to run without.
///
/// # Errors
/// Steps that the plan has no values for.
pub(super) fn to_sh(evidence: &Evidence, plan: &Plan, shown: &Shown<'_>) -> Result<String> {
    let ground = Ground::new(plan.clone().into());
    let cast: Vec<Owner> = (0..evidence.script.tenants).map(Owner::new).collect();
    let lanes = evidence.script.cast(&cast, TAKE, &ground.holdings).map_err(Error::Usage)?;
    let probe = shown.finding.witness.first().and_then(|w| usize::try_from(w.observation).ok());
    let probe = probe.and_then(|number| shown.observations.get(number));
    let place = probe.map_or(0, |probe| {
        let before: usize = lanes.iter().take(probe.sequence as usize).map(Vec::len).sum();
        before + probe.position as usize
    });
    let steps: Vec<&Step> = lanes.iter().flatten().collect();
    let sign = match (probe, steps.get(place)) {
        (Some(probe), Some(step)) => sign(evidence, &ground, &steps, step, &foreign(&ground, probe)),
        _ => Sign::Unknown,
    };
    let mut variables = Variables::new();
    variables.insert("BASE_URL".into(), "where the target answers, without a slash at its end".into());
    let captured: BTreeSet<&str> = steps.iter().flat_map(|step| step.captures.keys().map(String::as_str)).collect();
    let mut told = String::new();
    for (number, step) in steps.iter().enumerate() {
        told += &format!("\n# {}. {}: {} {}\n", number + 1, step.actor, step.request.method, step.cell.operation);
        told += &curl::sent(plan, step, &captured, &mut variables);
        if number == place {
            told += "shown=$answer\n";
        }
        told += &curl::taken(step);
    }
    let needs: String = variables.iter().map(|(name, what)| format!("#   {name}: {what}\n")).collect();
    let names: Vec<&str> = variables.keys().map(String::as_str).collect();
    Ok(format!(
        "#!/bin/sh\n# {}\n# {}, seen by {}. Against a target planted as by: {}\n# It needs:\n{needs}# {}\n\
         # Exit status: 0 the leak shows, 1 it does not, 2 something is not set, 4 no answer.\n\
         missing=\nfor name in {}; do\n  eval \"value=\\${{$name:-}}\"\n  [ -n \"$value\" ] || missing=\"$missing $name\"\n\
         done\nif [ -n \"$missing\" ]; then\n  echo \"set these first:$missing\" >&2\n  exit 2\nfi\n\
         {PRELUDE}{told}\n{}",
        line(&evidence.sentence),
        line(&evidence.requirement),
        evidence.oracle.word(),
        planted_by(evidence),
        looked_for(&sign),
        names.join(" "),
        judged(&sign),
    ))
}

fn planted_by(evidence: &Evidence) -> String {
    let bounds = &evidence.bounds;
    let day = crate::tenant::rfc3339(evidence.day_unix_s * 1_000_000);
    format!(
        "partywall certify --profile {} --seed {} --tenants {} --rows {} on {}",
        bounds.profile,
        evidence.seed.0,
        bounds.tenants,
        bounds.rows,
        &day[..10.min(day.len())]
    )
}

/// What the probe showed of rows that its sender may not see.
fn foreign(ground: &Ground, probe: &crate::history::Observation) -> Vec<Sighting> {
    let actor = &probe.step.actor;
    let hidden = |s: &Sighting| {
        let column = s.column.and_then(|code| ground.holdings.column(code));
        column.zip(s.row).is_some_and(|(column, row)| !visible(ground, actor, column.table, row))
    };
    let seen = probe.answered().map_or(&[][..], |answer| &answer.sightings);
    seen.iter().filter(|s| !ground.has_right(actor, s) || hidden(s)).copied().collect()
}

fn visible(ground: &Ground, actor: &Principal, table: &str, row: u32) -> bool {
    let narrowed = ground.plan.target.role(&actor.role).and_then(|role| role.narrowed.get(table));
    ground.holdings.table(table).is_none_or(|t| ground.holdings.visible(narrowed.map(String::as_str), t, row))
}

fn sign(evidence: &Evidence, ground: &Ground, steps: &[&Step], step: &Step, foreign: &[Sighting]) -> Sign {
    let elsewhere = match (evidence.oracle, evidence.requirement.as_str()) {
        _ if steps.iter().any(|step| step.fault.is_some()) => Some(
            "what is answered while the target's connections to its database are struck, as `partywall reproduce` does",
        ),
        (OracleId::Noninterference, _) => {
            Some("how the answer differs from that of a copy in which the other tenants have and do other things")
        }
        (OracleId::WriteContainment, _) => Some("what the database holds of other tenants before and after"),
        (_, "store/logs") => Some("what the target writes to its log"),
        (_, "store/objects") => Some("what the target keeps among its objects"),
        (_, "work/webhook") => Some("what arrives at the address that each tenant gave: put one of yours in its place"),
        _ => None,
    };
    if let Some(place) = elsewhere {
        return Sign::Elsewhere(place);
    }
    let denied = matches!(step.expect.answer, Answer::Denied | Answer::Refused);
    match (evidence.oracle, evidence.requirement.as_str()) {
        (OracleId::CanarySighting, _) => Sign::Shown(marks(ground, steps, step, foreign)),
        (OracleId::ShadowModel, _) if !foreign.is_empty() => Sign::Shown(marks(ground, steps, step, foreign)),
        (OracleId::ShadowModel | OracleId::Authentication, _) if denied => Sign::Success,
        (OracleId::ShadowModel, _) => own(ground, steps, step),
        _ => Sign::Unknown,
    }
}

/// The values of the columns that were seen, in all rows that the step's actor may not see.
fn marks(ground: &Ground, steps: &[&Step], step: &Step, foreign: &[Sighting]) -> Vec<String> {
    let holdings = &ground.holdings;
    let columns: BTreeSet<u16> = foreign.iter().filter_map(|s| s.column).collect();
    let mut marks = BTreeSet::new();
    for column in columns.iter().filter_map(|code| holdings.column(*code)) {
        let Some(table) = holdings.table(column.table) else { continue };
        let hidden =
            |owner: Owner, row| step.actor.tenant != Some(owner) || !visible(ground, &step.actor, &table.name, row);
        for owner in holdings.owners().chain([Owner::PLATFORM]) {
            let rows = (0..holdings.rows_of(table)).filter(|row| hidden(owner, *row));
            let values = rows.filter_map(|row| holdings.value(owner, row, &table.name, column.column).ok()?.text());
            marks.extend(values.take(MARKS_MAX.saturating_sub(marks.len())));
        }
    }
    if columns.contains(&WRITTEN) {
        marks.extend(written(holdings, steps, step));
    }
    // What the request itself says is no news in the answer.
    let said = step.clone().request.texts().map(|text| text.to_lowercase()).collect::<Vec<_>>();
    marks.into_iter().filter(|mark| !said.iter().any(|text| text.contains(&mark.to_lowercase()))).collect()
}

/// What other tenants write in these steps.
fn written(holdings: &Holdings, steps: &[&Step], step: &Step) -> Vec<String> {
    let owners: BTreeSet<Owner> =
        steps.iter().filter_map(|s| s.actor.tenant).filter(|owner| Some(*owner) != step.actor.tenant).collect();
    let mut found = Vec::new();
    for other in steps.iter().filter(|s| s.actor.tenant.is_some_and(|owner| owners.contains(&owner))) {
        let (Some(owner), Some((_, body))) = (other.actor.tenant, &other.request.body) else { continue };
        for row in (0..64).map(|n| (TAKE << 10 | n) & 0x1ff_ffff) {
            let forms = holdings.mint().forms(crate::canary::Canary { owner, row, column: WRITTEN });
            found.extend(forms.into_iter().filter(|form| body.contains(form)));
        }
    }
    found
}

/// Rows or a total of the actor's own that the answer has to show.
fn own(ground: &Ground, steps: &[&Step], step: &Step) -> Sign {
    let (holdings, expect) = (&ground.holdings, &step.expect);
    let Some(owner) = step.actor.tenant else { return Sign::Unknown };
    let listing = expect.lists.as_ref().and_then(|listing| Some((listing, holdings.table(&listing.table)?)));
    let access = ground.plan.target.access(&step.cell.operation);
    if let (Some((listing, table)), Some(pointer)) = (listing, access.and_then(|a| a.list.as_ref()?.total.as_ref())) {
        let due = (0..holdings.rows_of(table)).filter(|row| visible(ground, &step.actor, &table.name, *row)).count();
        let written: u32 = steps.iter().filter_map(|s| s.expect.adds_to.as_ref()).map(|(_, rows)| rows).sum();
        let least = if listing.complete { due as u64 } else { 0 };
        let field = pointer.rsplit('/').next().unwrap_or(pointer).to_string();
        return Sign::Number(field, least, due as u64 + u64::from(written));
    }
    let rows: Vec<(String, u32)> = match (listing, expect.shows.is_empty()) {
        (Some((listing, table)), true) if listing.complete => {
            let rows = (0..holdings.rows_of(table)).filter(|row| visible(ground, &step.actor, &table.name, *row));
            rows.map(|row| (table.name.clone(), row)).collect()
        }
        _ => expect.shows.clone(),
    };
    let id = |(table, row): &(String, u32)| {
        let (column, _) =
            holdings.table(table)?.columns.iter().find(|(_, g)| matches!(g.as_str(), "uuid" | "principal"))?;
        holdings.value(owner, *row, table, column).ok()?.text()
    };
    let marks: Vec<String> = rows.iter().filter_map(id).take(MARKS_MAX).collect();
    if marks.is_empty() { Sign::Unknown } else { Sign::Missing(marks) }
}

fn looked_for(sign: &Sign) -> String {
    match sign {
        Sign::Shown(_) => "Look for: values of rows that the last sender may not see.".into(),
        Sign::Missing(_) => "Look for: rows of the sender's own that are not there.".into(),
        Sign::Success => "Look for: a status of 200 to 299, where a refusal was due.".into(),
        Sign::Number(field, least, most) => format!("Look for: `{field}` below {least} or above {most}."),
        Sign::Elsewhere(place) => format!("Look at {place}; curl alone cannot show it."),
        Sign::Unknown => "Look for: what the sentence above says; this script cannot tell.".into(),
    }
}

fn judged(sign: &Sign) -> String {
    let show = "printf '%s\\n' \"$shown\"\n";
    let told = |test: &str, says: &str| {
        format!(
            "{show}if {test}; then\n  echo {} >&2\n  exit 0\nfi\necho 'The leak does not show.' >&2\nexit 1\n",
            quoted(says)
        )
    };
    match sign {
        Sign::Shown(marks) => {
            let test = "seen=$(printf '%s' \"$shown\" | grep -i -o -F \"$marks\" | sort -u) && [ -n \"$seen\" ]";
            let says = "The leak shows: the answer has values of rows that its sender may not see.";
            format!("marks={}\n{}", quoted(&marks.join("\n")), told(test, says))
        }
        Sign::Missing(marks) => {
            let lines = marks.join("\n");
            format!(
                "{show}for mark in {}; do\n  case $shown in *\"$mark\"*) ;; *)\n    \
                 echo \"The leak shows: the sender's own row $mark is not in the answer.\" >&2\n    exit 0 ;;\n  esac\ndone\n\
                 echo 'The leak does not show.' >&2\nexit 1\n",
                lines.replace('\n', " ")
            )
        }
        Sign::Success => {
            let test = "printf '%s' \"$shown\" | head -n 1 | grep -q '^HTTP/[0-9.]* 2'";
            told(test, "The leak shows: the request succeeded, where a refusal was due.")
        }
        Sign::Number(field, least, most) => {
            let answer = format!("answer=$shown\nnumber=$(field {})\n", quoted(field));
            let test =
                format!("[ -n \"$number\" ] && {{ [ \"$number\" -lt {least} ] || [ \"$number\" -gt {most} ]; }}");
            answer + &told(&test, "The leak shows: the number is not a count of the sender's own rows.")
        }
        Sign::Elsewhere(place) => {
            format!("{show}echo {} >&2\nexit 1\n", quoted(&format!("Sent. No answer shows it: look at {place}.")))
        }
        Sign::Unknown => format!("{show}echo 'Compare the answer with what the sentence says.' >&2\nexit 1\n"),
    }
}
