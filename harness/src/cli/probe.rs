//! `partywall probe`.

use std::path::PathBuf;
use std::sync::Arc;

use partywall::error::{Error, Result};
use partywall::exit_code::ExitCode;
use partywall::guard::config::Config;
use partywall::probe::{Asked, Mode, Probe};
use partywall::report::probe as report;
use partywall::report::terminal::{Terminal, TerminalOptions};
use partywall::seed::Seed;

use super::interrupt;

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// The database, as a role that bypasses row security: it plants rows and looks at them.
    #[arg(env = "PARTYWALL_DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// The application's database role: all that is tried is tried as this one.
    #[arg(long = "as", env = "PARTYWALL_AS")]
    role: String,
    /// The database as that role, to sign in as it.
    #[arg(long, env = "PARTYWALL_AS_URL", hide_env_values = true)]
    as_url: Option<String>,
    /// The statement that binds a tenant, $1 where the tenant stands; may be given more than once.
    #[arg(long)]
    context: Vec<String>,
    /// The column that names the tenant, where its name does not say so.
    #[arg(long)]
    tenant_column: Vec<String>,
    /// The configuration; partywall.toml where it is, when absent.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Write nothing: only rows that are there are read.
    #[arg(long, conflicts_with = "rollback")]
    read_only: bool,
    /// Make no copy: everything happens in one transaction that is rolled back.
    #[arg(long)]
    rollback: bool,
    /// The name of the database, where it is yours to write to.
    #[arg(long)]
    i_own_this_database: Option<String>,
    /// The number that everything drawn derives from.
    #[arg(long, env = "PARTYWALL_SEED")]
    seed: Option<u64>,
    /// Sequences of statements drawn at random.
    #[arg(long, env = "PARTYWALL_MAX_CASES", default_value_t = 100)]
    max_cases: u64,
    /// Folder for the runs' reports.
    #[arg(long, env = "PARTYWALL_REPORT_DIR", default_value = "reports")]
    report_dir: PathBuf,
    /// What goes to standard output.
    #[arg(long, env = "PARTYWALL_FORMAT", default_value = "human", value_parser = ["human", "json"])]
    format: String,
    /// Say nothing but the verdict.
    #[arg(long)]
    quiet: bool,
}

/// The password that the application's role signs in with, where no URL says it.
const PASSWORD: &str = "PARTYWALL_AS_PASSWORD";

/// Runs it.
pub async fn run(args: Args) -> Result<ExitCode> {
    let seed = args.seed.map_or_else(Seed::fresh, Seed);
    let mode = match (args.read_only, args.rollback) {
        (true, _) => Mode::ReadOnly,
        (_, true) => Mode::Rollback,
        _ => Mode::Auto,
    };
    let as_url = match (args.as_url, std::env::var(PASSWORD)) {
        (Some(url), _) => Some(url),
        (None, Ok(password)) => Some(signing_in(&args.database_url, &args.role, &password)?),
        (None, Err(_)) => None,
    };
    let mut reproduce = format!("partywall probe $DATABASE_URL --as {} --seed {}", args.role, seed.0);
    for context in &args.context {
        reproduce.push_str(&format!(" --context \"{context}\""));
    }
    let mut config = Config::load(args.config.as_deref())?;
    config.tenant_columns.extend(args.tenant_column);
    let probe = Probe {
        asked: Asked { url: args.database_url, role: args.role, as_url, mode, owned: args.i_own_this_database },
        contexts: args.context,
        config,
        seed,
        cases: args.max_cases,
        reports: args.report_dir,
        reproduce,
    };
    let quiet = args.quiet || args.format == "json";
    let terminal = Arc::new(Terminal::new(TerminalOptions { quiet, color: false }));
    let listener = terminal.clone();
    let ended = probe.run(Arc::new(move |event| listener.handle(event)), interrupt()?).await?;
    report::write(&ended)?;
    match args.format.as_str() {
        "json" => println!("{}", report::to_json(&ended)?),
        _ => print!("{}", report::summary(&ended, args.quiet)),
    }
    Ok(ended.exit)
}

/// `url` for another role.
fn signing_in(url: &str, role: &str, password: &str) -> Result<String> {
    let unread = || Error::Usage("the database URL cannot be read".into());
    let (scheme, rest) = url.split_once("://").ok_or_else(unread)?;
    let (head, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = head.rsplit_once('@').map_or(head, |(_, host)| host);
    let encoded = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect::<String>()
    };
    Ok(format!("{scheme}://{}:{}@{host}{tail}", encoded(role), encoded(password)))
}
