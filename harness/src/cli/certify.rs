//! `partywall certify`.

use std::path::PathBuf;
use std::sync::Arc;

use partywall::campaign::Campaign;
use partywall::error::{Error, Result};
use partywall::exit_code::ExitCode;
use partywall::postgres::pgbouncer::Through;
use partywall::report;

use super::{RunArgs, interrupt};

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// The target file; the bundled reference when absent.
    #[arg(long, env = "PARTYWALL_TARGET")]
    target: Option<PathBuf>,
    /// Requirements to judge: IDs, or families as `read/..`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Print and save the plan, and stop.
    #[arg(long)]
    dry_run: bool,
    /// Write what the run's users legitimately did as a HAR, once for each operation and application role.
    #[arg(long)]
    har: Option<PathBuf>,
    /// Put a pooler between the target and its database: pgbouncer, in transaction mode, or pgbouncer=session.
    #[arg(long, env = "PARTYWALL_THROUGH")]
    through: Option<String>,
    /// PgBouncer's program, when it is neither on PATH nor in /usr/sbin.
    #[arg(long, env = "PARTYWALL_PGBOUNCER")]
    pgbouncer: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs it.
pub async fn run(args: Args) -> Result<ExitCode> {
    let mut campaign = args.run.campaign(args.target.as_ref(), args.only, args.dry_run)?;
    campaign.har = args.har;
    if let Some(word) = &args.through {
        let through: Through = word.parse().map_err(Error::Usage)?;
        campaign.through = Some(Through { program: args.pgbouncer, ..through });
        campaign.reproduce.push_str(&format!(" --through {word}"));
    }
    told(&campaign, &args.run).await
}

/// Runs a campaign, and tells its end as the flags ask.
pub async fn told(campaign: &Campaign, run: &RunArgs) -> Result<ExitCode> {
    let terminal = Arc::new(run.terminal());
    let listener = terminal.clone();
    let ended = campaign.run(Arc::new(move |event| listener.handle(event)), interrupt()?).await?;
    if campaign.dry_run {
        println!("the plan is in {}", ended.dir.join("plan.json").display());
        return Ok(ExitCode::Upheld);
    }
    if run.format == "json" {
        print!("{}", report::to_json(&ended.report));
    } else {
        terminal.finish(&ended.report, &ended.dir);
    }
    if let (Some(why), false) = (&ended.report.run.stopped_because, run.quiet) {
        eprintln!("error: the run stopped early: {why}");
    }
    Ok(ended.exit)
}
