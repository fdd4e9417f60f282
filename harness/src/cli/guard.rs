//! `partywall guard`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use partywall::error::{Error, Result};
use partywall::exit_code::ExitCode;
use partywall::guard::Report;
use partywall::guard::catalog::Catalog;
use partywall::guard::config::Config;
use partywall::guard::folder;
use partywall::guard::prove::prove;
use partywall::guard::reach::Matrix;
use partywall::guard::review::review;
use partywall::guard::rule::catalogue;
use partywall::guard::tenancy::Tenancy;
use partywall::migration::Folder;
use partywall::postgres::{Options, Postgres};
use partywall::report::guard::to_text;
use partywall::report::review::{Form, write};
use partywall::requirement::Severity;
use partywall::target::database::{close, connect};

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// The database to review, as a role that may read its catalogs.
    #[arg(env = "DATABASE_URL", hide_env_values = true, required_unless_present = "migrations")]
    database_url: Option<String>,
    /// A folder of migrations to review instead: applied to a throw-away Postgres, each step reviewed.
    #[arg(long, value_name = "DIR")]
    migrations: Option<PathBuf>,
    /// Where that Postgres comes from: auto, installed, docker, download, or a URL.
    #[arg(long, env = "PARTYWALL_POSTGRES", hide_env_values = true, default_value = "auto", requires = "migrations")]
    postgres: String,
    /// Files to write beside what is printed: html, json, junit, sarif.
    #[arg(long = "report", value_name = "FORM", value_delimiter = ',')]
    forms: Vec<Form>,
    /// The folder for them.
    #[arg(long, env = "PARTYWALL_REPORT_DIR", default_value = "reports")]
    report_dir: PathBuf,
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
    let (catalog, tenancy, mut report) = match &args.migrations {
        Some(dir) => migrated(dir, &config, &args).await?,
        None => reviewed(args.database_url.as_deref().unwrap_or_default(), &config, &args).await?,
    };
    report.suppress(&config);
    let matrix = Matrix::of(&catalog, &tenancy, &report);
    for path in write(&report, &matrix, &catalogue()?, &args.forms, &args.report_dir)? {
        eprintln!("wrote {}", path.display());
    }
    let code = report.exit_code();
    report.findings.retain(|finding| finding.severity <= args.min_severity);
    if args.format == "json" {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|e| Error::Defect(e.to_string()))?);
    } else {
        print!("{}", to_text(&report, !args.no_color && std::io::stdout().is_terminal()));
    }
    Ok(code)
}

async fn reviewed(url: &str, config: &Config, args: &Args) -> Result<(Catalog, Tenancy, Report)> {
    let mut connection = connect(url).await?;
    let (catalog, tenancy, mut report) = review(&mut connection, config, &args.roles).await?;
    prove(&mut connection, &catalog, &tenancy, &mut report).await?;
    close(connection).await?;
    Ok((catalog, tenancy, report))
}

/// Reviews what the migrations in `dir` make, and what there is after each of them.
async fn migrated(dir: &Path, config: &Config, args: &Args) -> Result<(Catalog, Tenancy, Report)> {
    let folder = Folder { search_paths: config.migrations.search_path.clone(), ..Folder::read(dir)? };
    let postgres = Postgres::start(&args.postgres.parse().map_err(Error::Usage)?, &Options::default()).await?;
    let database = format!("guard-{}", partywall::seed::run_id(time::OffsetDateTime::now_utc()));
    postgres.create_database(&database).await?;
    let url = postgres.admin_url_for(&database);
    let concluded = folder::review(&folder, &url, config, &args.roles).await;
    let dropped = postgres.drop_database(&database).await;
    postgres.stop().await;
    let concluded = concluded?;
    dropped.map(|()| concluded)
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
