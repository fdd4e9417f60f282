//! `partywall mutants`: the judge on trial.

use std::sync::Arc;

use partywall::error::{Error, Result};
use partywall::exit_code::ExitCode;
use partywall::mutant::{self, MutantFile};
use partywall::verdict::Report;
use serde::Serialize;

use super::{RunArgs, interrupt};

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// Mutants to run: IDs.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// List them and run none.
    #[arg(long)]
    list: bool,
    /// Make each mutant's finding smaller, and keep its evidence.
    #[arg(long)]
    evidence: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// What became of one mutant.
#[derive(Serialize)]
struct Fate {
    id: String,
    fate: &'static str,
    oracle: Option<&'static str>,
    requirement: Option<String>,
    requests: Option<u64>,
    seconds: Option<f64>,
    layers_removed: Vec<String>,
    why: Option<String>,
}

/// Runs them, the sound reference first: nothing can be said of a mutant while the baseline does not pass.
pub async fn run(args: Args) -> Result<ExitCode> {
    let mutants = mutant::select(&args.only)?;
    let json = args.run.format == "json";
    if args.list {
        return list(&mutants, json);
    }
    let interrupt = interrupt()?;
    let quiet: partywall::event::Events = Arc::new(|_| {});
    let mut campaign = args.run.campaign(None, Vec::new(), false)?;
    campaign.variant.defects_build = true;
    campaign.shrink = campaign.shrink.filter(|_| args.evidence);
    let say = |text: String| {
        if !args.run.quiet {
            eprintln!("{text}")
        }
    };
    say(format!("baseline: the sound reference, seed {}", campaign.seed.0));
    let baseline = campaign.run(quiet.clone(), interrupt.clone()).await?;
    if baseline.exit != ExitCode::Upheld {
        eprintln!("error: the sound reference does not pass; see {}", baseline.dir.display());
        return Ok(baseline.exit);
    }
    campaign.first_finding_only = true;
    let mut fates = Vec::new();
    for mutant in &mutants {
        campaign.variant = mutant.variant();
        let ended = campaign.run(quiet.clone(), interrupt.clone()).await?;
        if interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        let fate = fate(mutant, &ended.report, ended.exit);
        if !json {
            println!("{}", row(&fate));
        }
        fates.push(fate);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&fates).map_err(|e| Error::Defect(e.to_string()))?);
    } else {
        let count = |word: &str| fates.iter().filter(|f| f.fate == word).count();
        println!(
            "{} killed, {} survived, {} equivalent, {} not run",
            count("killed"),
            count("survived"),
            count("equivalent"),
            count("not run")
        );
    }
    let all_well = fates.iter().all(|f| matches!(f.fate, "killed" | "equivalent"));
    Ok(if all_well { ExitCode::Upheld } else { ExitCode::Inconclusive })
}

fn fate(mutant: &MutantFile, report: &Report, exit: ExitCode) -> Fate {
    let first = report.judgement.findings.iter().min_by_key(|f| f.found_after_requests);
    let word = match (exit, &mutant.equivalent) {
        (ExitCode::Violated, _) => "killed",
        (ExitCode::Upheld, Some(_)) => "equivalent",
        (ExitCode::Upheld | ExitCode::Inconclusive, None) if report.run.stopped_because.is_none() => "survived",
        _ => "not run",
    };
    Fate {
        id: mutant.id.clone(),
        fate: word,
        oracle: first.map(|f| f.oracle.word()),
        requirement: first.map(|f| f.requirement.clone()),
        requests: first.map(|f| f.found_after_requests),
        seconds: first.map(|f| f.found_after_ms as f64 / 1_000.0),
        layers_removed: mutant.layers_removed.clone(),
        why: report.run.stopped_because.clone().or_else(|| mutant.equivalent.clone()),
    }
}

fn row(fate: &Fate) -> String {
    let mut text = format!("{:24} {:10}", fate.id, fate.fate);
    if let (Some(oracle), Some(requirement), Some(requests), Some(seconds)) =
        (fate.oracle, &fate.requirement, fate.requests, fate.seconds)
    {
        text.push_str(&format!(" by {oracle} ({requirement}) after {requests} requests, {seconds:.2} s"));
    }
    if !fate.layers_removed.is_empty() {
        text.push_str(&format!("; without {}", fate.layers_removed.join(" and ")));
    }
    if let Some(why) = &fate.why {
        text.push_str(&format!("; {why}"));
    }
    text
}

fn list(mutants: &[MutantFile], json: bool) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string_pretty(mutants).map_err(|e| Error::Defect(e.to_string()))?);
    } else {
        for mutant in mutants {
            println!("{:24} {}", mutant.id, mutant.sentence);
        }
    }
    Ok(ExitCode::Upheld)
}
