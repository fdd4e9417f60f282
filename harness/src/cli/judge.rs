//! `partywall judge`.

use std::path::PathBuf;
use std::sync::Arc;

use partywall::error::{Error, Result};
use partywall::exit_code::ExitCode;
use partywall::history;
use partywall::oracle::Judge;
use partywall::plan::Plan;
use partywall::probe;
use partywall::requirement;
use partywall::verdict::Overall;
use serde::Serialize;

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// The history; its plan is looked for beside it.
    history: PathBuf,
    /// The plan, when it lies elsewhere.
    #[arg(long)]
    plan: Option<PathBuf>,
}

/// Judges.
pub fn run(args: Args) -> Result<ExitCode> {
    if let Some(judgement) = probe::judge_again(&args.history)? {
        return told(&judgement, judgement.overall());
    }
    let path = args.plan.unwrap_or_else(|| args.history.with_file_name("plan.json"));
    let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e))?;
    let plan: Plan =
        serde_json::from_str(&text).map_err(|e| Error::Usage(format!("{} is not a plan: {e}", path.display())))?;
    let requirements = requirement::select(&plan.requirements)?;
    let mut judge = Judge::new(Arc::new(plan), requirements);
    let (_, entries) = history::read(&args.history)?;
    for entry in entries {
        judge.enter(&entry?);
    }
    let judgement = judge.conclude(None);
    let overall = judgement.overall();
    told(&judgement, overall)
}

fn told(judgement: &impl Serialize, overall: Overall) -> Result<ExitCode> {
    let text = serde_json::to_string_pretty(judgement).map_err(|e| Error::Defect(e.to_string()))?;
    println!("{text}");
    Ok(match overall {
        Overall::Upheld => ExitCode::Upheld,
        Overall::Violated => ExitCode::Violated,
        Overall::Inconclusive => ExitCode::Inconclusive,
    })
}
