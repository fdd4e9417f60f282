//! The command line: one file a command; what was typed becomes what is meant, then one call.

mod certify;
mod guard;
mod init;
mod judge;
mod list;
mod mutants;
mod probe;
mod replay;
mod reproduce;
mod schema;
mod tap;

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use partywall::campaign::{Campaign, Interrupt, Shrink, Variant};
use partywall::error::{Error, Result};
use partywall::exit_code::ExitCode;
use partywall::postgres::Source;
use partywall::report::Format;
use partywall::report::terminal::{Terminal, TerminalOptions};
use partywall::scenario::Bounds;
use partywall::seed::Seed;
use partywall::target::file::TargetFile;
use partywall::target::tenants::Variables;

/// Proves tenant isolation: plants tenants in a real Postgres, drives a service, and judges every answer.
#[derive(Parser)]
#[command(name = "partywall", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Certify a target: the bundled reference, or the one a target file describes.
    Certify(certify::Args),
    /// Run the reference's mutants: each is to be killed.
    Mutants(mutants::Args),
    /// Judge a recorded history again, offline.
    Judge(judge::Args),
    /// Play recorded traffic as other tenants, and judge what it shows.
    Replay(replay::Args),
    /// Play the fewest steps of a finding again: does it still show?
    Reproduce(reproduce::Args),
    /// Try every table, view and function as the application's database role, in every relation to the rows.
    Probe(probe::Args),
    /// Listen between a service and its database, and tell what crosses the wall.
    Tap(tap::Args),
    /// Write a target file and a configuration to begin with, or mark a database as one to write to.
    Init(init::Args),
    /// Review a database: its tables, policies, roles, views and functions.
    Guard(guard::Args),
    /// List the requirements.
    List(list::ListArgs),
    /// Explain one requirement.
    Explain(list::ExplainArgs),
    /// Print the JSON Schema of a file that partywall reads or writes.
    Schema(schema::Args),
}

/// Parses, runs, and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; nothing can be done when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::Usage } else { ExitCode::Upheld };
        }
    };
    let result = match cli.command {
        Command::Certify(args) => block_on(certify::run(args)),
        Command::Mutants(args) => block_on(mutants::run(args)),
        Command::Judge(args) => judge::run(args),
        Command::Replay(args) => block_on(replay::run(args)),
        Command::Reproduce(args) => block_on(reproduce::run(args)),
        Command::Probe(args) => block_on(probe::run(args)),
        Command::Tap(args) => block_on(tap::run(args)),
        Command::Guard(args) => block_on(guard::run(args)),
        Command::Init(args) => block_on(init::run(args)),
        Command::List(args) => list::list(args),
        Command::Explain(args) => list::explain(args),
        Command::Schema(args) => schema::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        error.exit_code()
    })
}

fn block_on(run: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Error::Defect(format!("no runtime: {e}")))?;
    let result = runtime.block_on(run);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

/// Flags that certify and mutants share. A flag beats the environment, which beats the profile.
#[derive(clap::Args, Clone)]
struct RunArgs {
    /// The number the plan derives from; drawn and printed when absent.
    #[arg(long, env = "PARTYWALL_SEED")]
    seed: Option<u64>,
    /// How much is done: quick, standard or deep.
    #[arg(long, env = "PARTYWALL_PROFILE", default_value = "quick")]
    profile: String,
    /// Stop driving after so long, such as 90s, 10m or 1h.
    #[arg(long, env = "PARTYWALL_MAX_TIME", value_parser = seconds)]
    max_time: Option<u64>,
    /// Generated cases beyond the sweep of all cells.
    #[arg(long, env = "PARTYWALL_MAX_CASES")]
    max_cases: Option<u64>,
    /// Tenants to plant.
    #[arg(long, env = "PARTYWALL_TENANTS")]
    tenants: Option<u32>,
    /// Rows to plant a tenant and table.
    #[arg(long, env = "PARTYWALL_ROWS")]
    rows: Option<u32>,
    /// Connections at once.
    #[arg(long, env = "PARTYWALL_WORKERS")]
    workers: Option<u32>,
    /// Requests a second at most.
    #[arg(long, env = "PARTYWALL_RATE_LIMIT")]
    rate_limit: Option<u32>,
    /// Where a Postgres comes from: auto, a URL, installed, docker or download.
    #[arg(long, env = "PARTYWALL_POSTGRES", default_value = "auto")]
    postgres: String,
    /// Folder for the runs' reports.
    #[arg(long, env = "PARTYWALL_REPORT_DIR", default_value = "reports")]
    report_dir: PathBuf,
    /// Folder of a corpus: cases of earlier runs that taught something are driven first, and kept up to date.
    #[arg(long, env = "PARTYWALL_CORPUS")]
    corpus: Option<PathBuf>,
    /// Report formats to write.
    #[arg(long, env = "PARTYWALL_REPORT", value_delimiter = ',', default_value = "html,json,junit,md")]
    report: Vec<String>,
    /// What goes to standard output.
    #[arg(long, env = "PARTYWALL_FORMAT", default_value = "human", value_parser = ["human", "json"])]
    format: String,
    /// Say nothing but the verdict.
    #[arg(long)]
    quiet: bool,
    /// Leave findings as they were found.
    #[arg(long, env = "PARTYWALL_NO_SHRINK")]
    no_shrink: bool,
    /// Seconds to look for the fewest steps that show a finding, for each of the worst ones.
    #[arg(long, env = "PARTYWALL_SHRINK_TIME", default_value = "30s", value_parser = seconds)]
    shrink_time: u64,
    /// No colours.
    #[arg(long, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new(), num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    no_color: bool,
}

impl RunArgs {
    /// As if no flag but the Postgres were typed.
    fn plain(postgres: &str) -> Self {
        #[derive(Parser)]
        struct Typed {
            #[command(flatten)]
            run: RunArgs,
        }
        Typed::parse_from(["partywall", "--postgres", postgres]).run
    }

    fn shrink(&self) -> Option<Shrink> {
        (!self.no_shrink).then(|| Shrink { time_s: self.shrink_time, ..Shrink::default() })
    }

    fn bounds(&self) -> Result<Bounds> {
        let mut bounds = Bounds::of_profile(&self.profile)?;
        bounds.tenants = self.tenants.unwrap_or(bounds.tenants);
        bounds.rows = self.rows.unwrap_or(bounds.rows);
        bounds.workers = self.workers.unwrap_or(bounds.workers);
        bounds.cases_max = self.max_cases.unwrap_or(bounds.cases_max);
        bounds.time_s_max = self.max_time.or(bounds.time_s_max);
        bounds.rate_limit = self.rate_limit.or(bounds.rate_limit);
        bounds.check()?;
        Ok(bounds)
    }

    fn campaign(&self, target: Option<&PathBuf>, only: Vec<String>, dry_run: bool) -> Result<Campaign> {
        let seed = self.seed.map_or_else(Seed::fresh, Seed);
        let bounds = self.bounds()?;
        let formats = self.report.iter().map(|word| word.parse()).collect::<Result<Vec<Format>>>()?;
        let postgres: Source = self.postgres.parse().map_err(Error::Usage)?;
        let mut command = format!("partywall certify --profile {} --seed {}", bounds.profile, seed.0);
        if let Some(target) = target {
            command.push_str(&format!(" --target {}", target.display()));
        }
        for (flag, value) in [
            ("tenants", self.tenants.map(u64::from)),
            ("rows", self.rows.map(u64::from)),
            ("workers", self.workers.map(u64::from)),
            ("max-cases", self.max_cases),
        ] {
            if let Some(value) = value {
                command.push_str(&format!(" --{flag} {value}"));
            }
        }
        for id in &only {
            command.push_str(&format!(" --only {id}"));
        }
        Ok(Campaign {
            target: TargetFile::load(target.map(PathBuf::as_path))?,
            target_file: target.cloned(),
            target_dir: target.and_then(|t| t.parent()).map(PathBuf::from).unwrap_or_default(),
            bounds,
            only,
            seed,
            postgres,
            through: None,
            reports: self.report_dir.clone(),
            formats,
            reproduce: command,
            dry_run,
            first_finding_only: false,
            variant: Variant::default(),
            variables: Variables::default(),
            recording: None,
            har: None,
            shrink: self.shrink(),
            corpus: self.corpus.clone(),
        })
    }

    fn terminal(&self) -> Terminal {
        Terminal::new(TerminalOptions { quiet: self.quiet || self.format == "json", color: self.color() })
    }

    fn color(&self) -> bool {
        !self.no_color && std::io::stdout().is_terminal()
    }
}

/// An interrupt raised by SIGINT and SIGTERM; a second signal ends at once.
fn interrupt() -> Result<Interrupt> {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = Interrupt::default();
    let listen = |kind| signal(kind).map_err(|e| Error::Defect(format!("no signal handler: {e}")));
    let (mut int, mut term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let raised = interrupt.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            if raised.is_raised() {
                std::process::exit(i32::from(ExitCode::Interrupted as u8));
            }
            raised.raise();
        }
    });
    Ok(interrupt)
}

fn seconds(text: &str) -> std::result::Result<u64, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    number.parse::<u64>().map(|n| n * unit).map_err(|_| "give a duration such as 90s, 10m or 1h".into())
}
