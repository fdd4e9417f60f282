//! `partywall tap`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use partywall::canary::Scanner;
use partywall::error::{Error, Result};
use partywall::exit_code::ExitCode;
use partywall::history::{self, Entry, Writer};
use partywall::oracle::{Judge, WIRETAP_ALONE};
use partywall::plan::{Plan, sha256};
use partywall::requirement;
use partywall::seed;
use partywall::verdict::Verdict;
use partywall::wiretap::{Binding, Lens, Upstream, Wiretap};

use super::interrupt;

/// How often what was seen is judged.
const EVERY: Duration = Duration::from_secs(1);

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// Where clients connect.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the database, or its pooler, answers: HOST:PORT, or a socket's path.
    #[arg(long)]
    upstream: Upstream,
    /// The plan of the run that planted the canaries (`plan.json` of its folder).
    #[arg(long)]
    plan: PathBuf,
    /// Folder for the runs' reports; the history is written to one below it.
    #[arg(long, env = "PARTYWALL_REPORT_DIR", default_value = "reports")]
    report_dir: PathBuf,
}

/// Listens until it is interrupted.
pub async fn run(args: Args) -> Result<ExitCode> {
    let text = std::fs::read_to_string(&args.plan).map_err(|e| Error::read(&args.plan, e))?;
    let plan: Plan =
        serde_json::from_str(&text).map_err(|e| Error::Usage(format!("{} is not a plan: {e}", args.plan.display())))?;
    let plan = Plan { requirements: WIRETAP_ALONE.map(String::from).into(), ..plan };
    let interrupt = interrupt()?;
    let run_id = seed::run_id(time::OffsetDateTime::now_utc());
    let dir = args.report_dir.join(&run_id);
    std::fs::create_dir_all(&dir).map_err(|e| Error::write(&dir, e))?;
    let saved = serde_json::to_vec_pretty(&plan).map_err(|e| Error::Defect(e.to_string()))?;
    let path = dir.join("plan.json");
    std::fs::write(&path, &saved).map_err(|e| Error::write(&path, e))?;
    let header = history::Header { schema_version: history::SCHEMA_VERSION, run_id, plan_sha256: sha256(&saved) };
    let mut writer = Writer::create(&dir.join("history.ndjson.zst"), &header)?;
    let lens = Lens::new(Scanner::new(plan.canary_key(), plan.window()), Binding::of(&plan.target));
    let mut judge = Judge::new(Arc::new(plan.clone()), requirement::select(&plan.requirements)?);
    let tap = Wiretap::listen(args.listen, args.upstream, lens).await?;
    eprintln!("listening at {}; the history is in {}", tap.address(), dir.display());
    let mut raised = false;
    while !raised {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = interrupt.wait() => raised = true,
        }
        let wire = tap.take();
        if wire.backends.is_empty() && wire.facts.is_empty() {
            continue;
        }
        let entry = Entry::Wire { wire };
        writer.append(&entry)?;
        for sentence in judge.enter(&entry) {
            println!("{sentence}");
        }
    }
    writer.finish()?;
    let judgement = judge.conclude(None);
    let counts = &judgement.counts;
    println!("{} rows judged, {} hand-overs", counts.rows_judged, counts.hand_overs);
    for requirement in &judgement.requirements {
        println!("{:16} {}", requirement.requirement, requirement.verdict.word());
    }
    let any = |test: fn(&Verdict) -> bool| judgement.requirements.iter().any(|r| test(&r.verdict));
    Ok(match () {
        () if any(|verdict| *verdict == Verdict::Violated) => ExitCode::Violated,
        () if any(|verdict| *verdict != Verdict::Upheld) => ExitCode::Inconclusive,
        () => ExitCode::Upheld,
    })
}
