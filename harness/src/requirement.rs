//! A promise with a stable ID. The catalogue is data in `scenarios/requirements`, embedded in the binary.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, unknown};
use crate::finding::OracleId;

/// How bad a violation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Another tenant's data was read or changed.
    Critical,
    /// The wall is weaker than promised.
    High,
    /// A hint about others can be had.
    Medium,
    /// Worth knowing, and no violation.
    Info,
}

/// What has to be driven to judge a requirement, beside the controls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Breadth {
    /// The steps that speak for it.
    #[default]
    Steps,
    /// Also all that writes.
    Writes,
    /// Everything.
    All,
}

/// One promise.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// `family/name`.
    pub id: String,
    /// The promise.
    pub sentence: String,
    /// How bad a violation is.
    pub severity: Severity,
    /// What must be open to judge it: `http`, `sql`, `wiretap`, `spec`, `capture`, `log`, `objects`, `mint`,
    /// `webhook`, `retention`, `plain`, `probe`.
    pub channels: Vec<String>,
    /// What has to be driven to judge it.
    #[serde(default)]
    pub breadth: Breadth,
    /// Who judges it.
    pub oracles: Vec<OracleId>,
    /// The step that must succeed beside it.
    pub control: String,
    /// Mutants that break it.
    pub mutants: Vec<String>,
    /// Where the promise comes from.
    pub source: String,
}

#[derive(Deserialize)]
struct Family {
    requirement: Vec<Requirement>,
}

const FAMILIES: &[&str] = &[
    include_str!("../../scenarios/requirements/read.toml"),
    include_str!("../../scenarios/requirements/write.toml"),
    include_str!("../../scenarios/requirements/existence.toml"),
    include_str!("../../scenarios/requirements/context.toml"),
    include_str!("../../scenarios/requirements/pool.toml"),
    include_str!("../../scenarios/requirements/work.toml"),
    include_str!("../../scenarios/requirements/store.toml"),
    include_str!("../../scenarios/requirements/live.toml"),
    include_str!("../../scenarios/requirements/role.toml"),
    include_str!("../../scenarios/requirements/inference.toml"),
    include_str!("../../scenarios/requirements/replay.toml"),
    include_str!("../../scenarios/requirements/sql.toml"),
];

/// All requirements, family by family.
///
/// # Errors
/// A catalogue that does not parse is a defect of this build.
pub fn catalogue() -> Result<Vec<Requirement>> {
    let mut all = Vec::new();
    for text in FAMILIES {
        let family: Family = toml::from_str(text).map_err(|e| Error::Defect(e.to_string()))?;
        all.extend(family.requirement);
    }
    Ok(all)
}

/// The requirements that `only` selects: whole IDs, or families written `family/..`; nothing given selects all.
///
/// # Errors
/// An unknown ID or family names the nearest right word.
pub fn select(only: &[String]) -> Result<Vec<Requirement>> {
    let all = catalogue()?;
    for word in only {
        if word.trim().is_empty() {
            return Err(Error::Usage(
                "an empty selection judges nothing: name a requirement, or leave --only out".into(),
            ));
        }
        let family = word.strip_suffix("/..").or_else(|| word.strip_suffix('/'));
        let known = match family {
            Some(family) => all.iter().any(|r| r.family() == family),
            None => all.iter().any(|r| r.id == *word),
        };
        if !known {
            let families: Vec<String> = all.iter().map(|r| format!("{}/..", r.family())).collect();
            let mut words: Vec<&str> = all.iter().map(|r| r.id.as_str()).collect();
            words.extend(families.iter().map(String::as_str));
            words.dedup();
            return Err(unknown("requirement", word, words));
        }
    }
    let wanted = |r: &Requirement| {
        only.is_empty()
            || only.iter().any(|w| *w == r.id || w.trim_end_matches("..").trim_end_matches('/') == r.family())
    };
    Ok(all.into_iter().filter(wanted).collect())
}

impl Requirement {
    /// True when it can be judged only where recorded traffic is played.
    pub fn needs_capture(&self) -> bool {
        self.channels.iter().any(|channel| channel == "capture")
    }

    /// True when it can be judged only by a connection as the application's database role.
    pub fn needs_probe(&self) -> bool {
        self.channels.iter().any(|channel| channel == "probe")
    }

    /// The part of the ID before the slash.
    pub fn family(&self) -> &str {
        self.id.split('/').next().unwrap_or(&self.id)
    }
}
