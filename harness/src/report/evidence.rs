//! A finding's folder: `finding.json`, `witness.md`, `reproduce.sh`, and the plan and history of the try that showed it
//! last, for `partywall judge`.

use std::path::Path;

use super::markdown::{fenced, inert, witnessed};
use super::{replace, reproduce};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::finding::Finding;
use crate::history::{self, Observation};
use crate::plan::Plan;

/// The last try that showed a finding.
pub struct Shown<'a> {
    /// The finding as its own judge told it.
    pub finding: &'a Finding,
    /// The plan of the try.
    pub plan: &'a Plan,
    /// Its history.
    pub observations: &'a [Observation],
}

/// Writes the folder of one finding; `plan` is the run's.
///
/// # Errors
/// The folder is not writable, or the disk is full.
pub fn write_evidence(dir: &Path, evidence: &Evidence, plan: &Plan, shown: &Shown<'_>) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::write(dir, e))?;
    let json = |value: serde_json::Result<String>| value.map_err(|e| Error::Defect(e.to_string()));
    let saved = json(serde_json::to_string_pretty(shown.plan))?;
    let script = reproduce::to_sh(evidence, plan, shown)?;
    let files = [
        ("finding.json", json(serde_json::to_string_pretty(evidence))? + "\n"),
        ("witness.md", to_witness(evidence, shown)),
        ("reproduce.sh", script),
        ("plan.json", saved.clone()),
    ];
    for (name, text) in &files {
        let path = dir.join(name);
        replace(&path, dir, text).map_err(|e| Error::write(&path, e))?;
    }
    let header = history::Header {
        schema_version: history::SCHEMA_VERSION,
        run_id: evidence.run_id.clone(),
        plan_sha256: crate::plan::sha256(saved.as_bytes()),
    };
    let mut writer = history::Writer::create(&dir.join("history.ndjson.zst"), &header)?;
    for observation in shown.observations {
        writer.append(&history::Entry::Observation(Box::new(observation.clone())))?;
    }
    writer.finish()
}

fn to_witness(evidence: &Evidence, shown: &Shown<'_>) -> String {
    let mut out = format!(
        "# {}\n\n{}\n\n<code>{}</code>, seen by <code>{}</code> in run {}. {} tries of the steps below showed it again, \
         each by other tenants on a fresh start of the target.\n\n",
        inert(&evidence.id),
        inert(&evidence.sentence),
        inert(&evidence.requirement),
        evidence.oracle.word(),
        inert(&evidence.run_id),
        evidence.reproduced
    );
    out += "## The fewest steps\n\n";
    for (number, step) in evidence.script.steps().enumerate() {
        let mut text = format!("{} {}", step.request.method, step.request.path);
        for (place, (name, value)) in step.request.query.iter().enumerate() {
            text += &format!("{}{name}={value}", if place == 0 { '?' } else { '&' });
        }
        for (name, value) in &step.request.headers {
            text += &format!("\n{name}: {value}");
        }
        if let Some((_, body)) = &step.request.body {
            text += &format!("\n\n{body}");
        }
        out += &format!("{}. {}\n\n{}", number + 1, inert(&step.actor.to_string()), fenced("http", &text));
    }
    out += "A name between `⟦` and `⟧` is tenant, planted table, row and column; or what an earlier step was answered.\n\n";
    out += &format!("## What the last try showed\n\n{}\n\n", inert(&shown.finding.sentence));
    for witness in &shown.finding.witness {
        out += &witnessed(witness);
    }
    out + &format!(
        "## How to reproduce\n\n{}`reproduce.sh` needs only curl and credentials.\n",
        fenced("sh", "partywall reproduce finding.json")
    )
}
