//! A finding as it is handed on: all that is needed to play its fewest steps again, without its run.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::campaign::Campaign;
use crate::error::{Error, Result};
use crate::finding::{Finding, OracleId, Reproduced};
use crate::plan::{Plan, Script};
use crate::requirement::Severity;
use crate::scenario::Bounds;
use crate::seed::Seed;

/// Version of `finding.json`'s shape.
pub const SCHEMA_VERSION: u32 = 1;

/// What `finding.json` holds. It has no secret: symbols stand for planted values, names for credentials.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Version of this file's shape.
    pub schema_version: u32,
    /// Version of the partywall that wrote it.
    pub partywall_version: String,
    /// The run that made the finding.
    pub run_id: String,
    /// The finding's ID in that run.
    pub id: String,
    /// The requirement violated.
    pub requirement: String,
    /// Its severity.
    pub severity: Severity,
    /// The oracle that saw it.
    pub oracle: OracleId,
    /// The operation that showed it.
    pub operation: String,
    /// What happened in the run, in one sentence.
    pub sentence: String,
    /// The service.
    pub target: Target,
    /// The mutant that was run, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// The seed of the plan: it reproduces the plan, never the interleaving.
    pub seed: Seed,
    /// The bounds of the plan.
    pub bounds: Bounds,
    /// The day that the planted period ends before, seconds since the Unix epoch, UTC.
    pub day_unix_s: i64,
    /// The fewest steps that show it.
    pub script: Script,
    /// How often they did.
    pub reproduced: Reproduced,
}

/// Which service a finding is about.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// The target file as it was given; none for the bundled reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Evidence {
    /// The evidence of `finding`, which `campaign` made by `plan`.
    pub fn new(
        campaign: &Campaign,
        run_id: &str,
        plan: &Plan,
        finding: &Finding,
        script: Script,
        reproduced: Reproduced,
    ) -> Self {
        let finding = finding.clone();
        Self {
            schema_version: SCHEMA_VERSION,
            partywall_version: env!("CARGO_PKG_VERSION").into(),
            run_id: run_id.into(),
            id: finding.id,
            requirement: finding.requirement,
            severity: finding.severity,
            oracle: finding.oracle,
            operation: finding.operation,
            sentence: finding.sentence,
            target: Target { name: campaign.target.name.clone(), file: campaign.target_file.clone() },
            mutant: campaign.variant.mutant.clone(),
            seed: plan.seed,
            bounds: plan.bounds.clone(),
            day_unix_s: plan.day_unix_s,
            script,
            reproduced,
        }
    }

    /// Reads `path`.
    ///
    /// # Errors
    /// Unreadable, no `finding.json`, or one of another version.
    pub fn load(path: &Path) -> Result<Self> {
        let wrong = |why: String| {
            Error::Usage(format!(
                "{} is not a finding: {why}. Give the finding.json of a run's findings/ folder",
                path.display()
            ))
        };
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let version = value.get("schema_version").and_then(serde_json::Value::as_u64);
        if version.is_some_and(|version| version != u64::from(SCHEMA_VERSION)) {
            return Err(wrong(format!("its version is {}, this build reads {SCHEMA_VERSION}", version.unwrap_or(0))));
        }
        serde_json::from_value(value).map_err(|e| wrong(e.to_string()))
    }
}
