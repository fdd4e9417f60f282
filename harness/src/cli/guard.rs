//! `partywall guard`.

use std::io::IsTerminal;
use std::path::PathBuf;

use partywall::error::{Error, Result};
use partywall::exit_code::ExitCode;
use partywall::guard::config::Config;
use partywall::guard::prove::prove;
use partywall::guard::review::review;
use partywall::report::guard::to_text;
use partywall::requirement::Severity;
use partywall::target::database::{close, connect};

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// The database to review, as a role that may read its catalogs.
    #[arg(env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// A database role that the application connects as; found out when absent.
    #[arg(long = "as", value_name = "ROLE")]
    roles: Vec<String>,
    /// What there is to know about the database; `partywall.toml` where it is.
    #[arg(long, env = "PARTYWALL_CONFIG")]
    config: Option<PathBuf>,
    /// What goes to standard output.
    #[arg(long, env = "PARTYWALL_FORMAT", default_value = "human", value_parser = ["human", "json"])]
    format: String,
    /// Leave out what is less: critical, high, medium or info.
    #[arg(long, default_value = "medium", value_parser = severity)]
    min_severity: Severity,
    /// No colours.
    #[arg(long, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new(), num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    no_color: bool,
}

/// Reviews.
pub async fn run(args: Args) -> Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let mut connection = connect(&args.database_url).await?;
    let (catalog, tenancy, mut report) = review(&mut connection, &config, &args.roles).await?;
    prove(&mut connection, &catalog, &tenancy, &mut report).await?;
    close(connection).await?;
    report.suppress(&config);
    let code = report.exit_code();
    report.findings.retain(|finding| finding.severity <= args.min_severity);
    if args.format == "json" {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|e| Error::Defect(e.to_string()))?);
    } else {
        print!("{}", to_text(&report, !args.no_color && std::io::stdout().is_terminal()));
    }
    Ok(code)
}

fn severity(word: &str) -> std::result::Result<Severity, String> {
    match word {
        "critical" => Ok(Severity::Critical),
        "high" => Ok(Severity::High),
        "medium" => Ok(Severity::Medium),
        "info" => Ok(Severity::Info),
        other => Err(partywall::error::unknown("severity", other, ["critical", "high", "medium", "info"]).to_string()),
    }
}
