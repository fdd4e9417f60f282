//! `partywall reproduce`.

use std::path::PathBuf;
use std::sync::Arc;

use partywall::error::{Error, Result};
use partywall::evidence::Evidence;
use partywall::exit_code::ExitCode;
use partywall::mutant;

use super::{RunArgs, interrupt};

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// The finding: a `finding.json` of a run's `findings/` folder.
    finding: PathBuf,
    /// Play it against this target file instead of the finding's; no mutant is run then.
    #[arg(long)]
    target: Option<PathBuf>,
    /// Play it against this mutant of the bundled reference, or against `none`, instead of the finding's.
    #[arg(long, conflicts_with = "target")]
    mutant: Option<String>,
    /// How often.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tries: u32,
    /// Where a Postgres comes from: auto, a URL, installed, docker or download.
    #[arg(long, env = "PARTYWALL_POSTGRES", default_value = "auto")]
    postgres: String,
    /// What goes to standard output.
    #[arg(long, env = "PARTYWALL_FORMAT", default_value = "human", value_parser = ["human", "json"])]
    format: String,
}

/// Plays it again.
pub async fn run(args: Args) -> Result<ExitCode> {
    let evidence = Evidence::load(&args.finding)?;
    let file = args.target.clone().or_else(|| evidence.target.file.clone());
    let mut campaign = RunArgs::plain(&args.postgres).campaign(file.as_ref(), Vec::new(), false)?;
    let id = match (&args.target, &args.mutant) {
        (Some(_), _) => None,
        (None, Some(id)) => Some(id.clone()).filter(|id| id != "none"),
        (None, None) => evidence.mutant.clone(),
    };
    if let Some(id) = id {
        campaign.variant = mutant::select(&[id])?.remove(0).variant();
    }
    let reproduced = campaign.reproduce(&evidence, args.tries, Arc::new(|_| {}), interrupt()?).await?;
    if args.format == "json" {
        println!("{}", serde_json::to_string(&reproduced).map_err(|e| Error::Defect(e.to_string()))?);
    } else {
        println!("{reproduced}: {}", evidence.sentence);
    }
    Ok(if reproduced.k > 0 { ExitCode::Violated } else { ExitCode::Upheld })
}
