//! `partywall certify`.

use std::path::PathBuf;
use std::sync::Arc;

use partywall::error::Result;
use partywall::exit_code::ExitCode;
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
    #[command(flatten)]
    run: RunArgs,
}

/// Runs it.
pub async fn run(args: Args) -> Result<ExitCode> {
    let campaign = args.run.campaign(args.target.as_ref(), args.only, args.dry_run)?;
    let terminal = Arc::new(args.run.terminal());
    let listener = terminal.clone();
    let ended = campaign.run(Arc::new(move |event| listener.handle(event)), interrupt()?).await?;
    if args.dry_run {
        println!("the plan is in {}", ended.dir.join("plan.json").display());
        return Ok(ExitCode::Upheld);
    }
    if args.run.format == "json" {
        print!("{}", report::to_json(&ended.report));
    } else {
        terminal.finish(&ended.report, &ended.dir);
    }
    if let (Some(why), false) = (&ended.report.run.stopped_because, args.run.quiet) {
        eprintln!("error: the run stopped early: {why}");
    }
    Ok(ended.exit)
}
