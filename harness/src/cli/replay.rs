//! `partywall replay`.

use std::path::PathBuf;

use partywall::error::Result;
use partywall::exit_code::ExitCode;
use partywall::replay::{Recording, har};

use super::{RunArgs, certify};

/// What replayed traffic is judged for: its own family, and what any list or narrowed role shows by the way.
const JUDGED: [&str; 3] = ["replay/..", "read/total", "role/own-rows"];

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// The capture: HAR 1.2, as browsers and proxies export it.
    capture: PathBuf,
    /// The target file; the bundled reference when absent.
    #[arg(long, env = "PARTYWALL_TARGET")]
    target: Option<PathBuf>,
    /// Who a user of the capture is: NUMBER=ROLE, users counted from 1 in the order of appearance. By default the
    /// application role that may do what the user did, and least besides.
    #[arg(long, value_delimiter = ',', value_parser = identity)]
    identity: Vec<(usize, String)>,
    /// Requirements to judge: IDs, or families as `replay/..`.
    #[arg(long, value_delimiter = ',', default_values = JUDGED)]
    only: Vec<String>,
    #[command(flatten)]
    run: RunArgs,
}

/// Replays.
pub async fn run(args: Args) -> Result<ExitCode> {
    let recording = Recording { entries: har::load(&args.capture)?, identities: args.identity.into_iter().collect() };
    let mut campaign = args.run.campaign(args.target.as_ref(), args.only, false)?;
    campaign.reproduce = campaign.reproduce.replacen("certify", &format!("replay {}", args.capture.display()), 1);
    campaign.recording = Some(recording);
    certify::told(&campaign, &args.run).await
}

fn identity(text: &str) -> Result<(usize, String), String> {
    let parts = text.split_once('=').and_then(|(number, role)| Some((number.parse().ok()?, role.to_string())));
    parts.ok_or_else(|| "give NUMBER=ROLE, such as 1=admin".into())
}
