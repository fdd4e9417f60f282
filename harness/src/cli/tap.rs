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
use partywall::scenario::Bounds;
use partywall::seed::{self, Seed};
use partywall::target::file::{Plant, Span, TargetFile};
use partywall::verdict::Overall;
use partywall::wiretap::{Binding, Encryption, Identity, Lens, Trust, Upstream, Wiretap};

use super::interrupt;

/// How often what was seen is judged.
const EVERY: Duration = Duration::from_secs(1);

/// A target of which nothing is known but what the flags say.
const ANY: &str = "name = 'tap'\nopenapi = ''\nbase_url = ''\nrole = []\noperation = []\n";

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
    #[arg(long, conflicts_with_all = ["target", "tenant_column", "context", "bound_by", "unbound", "span"])]
    plan: Option<PathBuf>,
    /// A target file whose [wiretap] names the columns that say whose a row is, and how a tenant is bound.
    #[arg(long)]
    target: Option<PathBuf>,
    /// A column that holds the id of a row's tenant, such as org_id: on any data, nothing need be planted.
    #[arg(long, value_name = "COLUMN")]
    tenant_column: Vec<String>,
    /// A setting that holds the tenant context, such as app.tenant.
    #[arg(long, value_name = "SETTING")]
    context: Vec<String>,
    /// An SQL function that binds, for the transaction, the tenant that its first argument names.
    #[arg(long, value_name = "FUNCTION")]
    bound_by: Vec<String>,
    /// A database role that may read rows while no tenant is bound, as for sign-in.
    #[arg(long, value_name = "ROLE")]
    unbound: Vec<String>,
    /// How long a tenant is bound.
    #[arg(long, value_parser = ["transaction", "session"])]
    span: Option<String>,
    /// What clients are told that ask for encryption: refuse, or terminate, with a certificate made for the occasion.
    #[arg(long, value_name = "HOW", value_parser = ["refuse", "terminate"], default_value = "refuse")]
    tls: String,
    /// The certificate that such clients are shown, with its chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How the database is spoken to, in libpq's words: disable, allow, prefer (none of which encrypts), require,
    /// verify-ca or verify-full.
    #[arg(long, value_name = "SSLMODE", default_value = "prefer")]
    upstream_tls: String,
    /// Who may vouch for the database's certificate, in PEM; everybody's roots when absent.
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,
    /// Folder for the runs' reports; the history is written to one below it.
    #[arg(long, env = "PARTYWALL_REPORT_DIR", default_value = "reports")]
    report_dir: PathBuf,
}

impl Args {
    /// How clients and the database are spoken to.
    fn encryption(&self) -> Result<Encryption> {
        let identity = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Identity::of_files(certificate, key)?),
            _ if self.tls == "terminate" => Some(Identity::throw_away()?),
            _ => None,
        };
        Ok(Encryption { identity, trust: Trust::of_mode(&self.upstream_tls, self.upstream_ca.as_deref())? })
    }

    /// What is judged: what a plan planted, or what rows say of themselves.
    fn plan(&self) -> Result<Plan> {
        let requirements = WIRETAP_ALONE.map(String::from).into();
        if let Some(path) = &self.plan {
            let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
            let plan: Plan = serde_json::from_str(&text)
                .map_err(|e| Error::Usage(format!("{} is not a plan: {e}", path.display())))?;
            return Ok(Plan { requirements, ..plan });
        }
        let mut target = match &self.target {
            Some(path) => TargetFile::load(Some(path))?,
            None => TargetFile::parse(ANY, "of the flags")?,
        };
        target.plant = Plant::default();
        let setting = target.database.as_ref().and_then(|database| database.tenant_context.clone());
        let wiretap = target.wiretap.get_or_insert_default();
        wiretap.tenant_columns.extend(self.tenant_column.iter().cloned());
        wiretap.settings.extend(self.context.iter().cloned());
        wiretap.functions.extend(self.bound_by.iter().cloned());
        wiretap.unbound.extend(self.unbound.iter().map(|role| (role.clone(), Vec::new())));
        match self.span.as_deref() {
            Some("session") => wiretap.span = Span::Session,
            Some(_) => wiretap.span = Span::Transaction,
            None => {}
        }
        let missing = match () {
            () if wiretap.tenant_columns.is_empty() => "whose a row is: give --tenant-column",
            () if wiretap.settings.is_empty() && wiretap.functions.is_empty() && setting.is_none() => {
                "how a tenant is bound: give --context or --bound-by"
            }
            () => {
                let now = time::OffsetDateTime::now_utc().unix_timestamp();
                let bounds = Bounds::of_profile("quick")?;
                return Ok(Plan::new(Seed::fresh(), bounds, requirements, target, Vec::new(), now));
            }
        };
        Err(Error::Usage(format!(
            "nothing says {missing}, a --target whose [wiretap] does, or the --plan of a run that planted canaries"
        )))
    }
}

/// Listens until it is interrupted.
pub async fn run(args: Args) -> Result<ExitCode> {
    let plan = args.plan()?;
    let interrupt = interrupt()?;
    let run_id = seed::run_id(time::OffsetDateTime::now_utc());
    let dir = args.report_dir.join(&run_id);
    std::fs::create_dir_all(&dir).map_err(|e| Error::write(&dir, e))?;
    let saved = serde_json::to_vec_pretty(&plan).map_err(|e| Error::Defect(e.to_string()))?;
    let path = dir.join("plan.json");
    std::fs::write(&path, &saved).map_err(|e| Error::write(&path, e))?;
    let header = history::Header { schema_version: history::SCHEMA_VERSION, run_id, plan_sha256: sha256(&saved) };
    let mut writer = Writer::create(&dir.join("history.ndjson.zst"), &header)?;
    let columns = plan.target.wiretap.as_ref().map_or_else(Vec::new, |wiretap| wiretap.tenant_columns.clone());
    let columns = if args.plan.is_some() { Vec::new() } else { columns };
    let lens = Lens::new(Scanner::new(plan.canary_key(), plan.window()), Binding::of(&plan.target));
    let lens = lens.with_tenant_columns(&columns);
    let mut judge = Judge::new(Arc::new(plan.clone()), requirement::select(&plan.requirements)?);
    let encryption = args.encryption()?;
    let tap = Wiretap::listen_with(args.listen, args.upstream, encryption, lens).await?;
    eprintln!("listening at {}; the history is in {}", tap.address(), dir.display());
    let (mut raised, mut undescribed) = (false, 0);
    while !raised {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = interrupt.wait() => raised = true,
        }
        let wire = tap.take();
        if wire.backends.is_empty() && wire.facts.is_empty() {
            continue;
        }
        undescribed += wire.backends.iter().map(|backend| backend.undescribed).sum::<u64>();
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
    if undescribed > 0 {
        println!(
            "{undescribed} of them said nothing of their tenant: their columns were not asked for, or they were copied"
        );
    }
    for finding in &judgement.findings {
        println!("{} {}, {} times", finding.requirement, finding.sentence, finding.occurrences);
        let shown = finding.witness.iter().filter(|witness| witness.part == "probe").flat_map(|witness| &witness.shows);
        shown.for_each(|line| println!("  {line}"));
    }
    for requirement in &judgement.requirements {
        println!("{:16} {}", requirement.requirement, requirement.verdict.word());
    }
    Ok(match judgement.overall() {
        Overall::Violated => ExitCode::Violated,
        Overall::Upheld => ExitCode::Upheld,
        Overall::Inconclusive => ExitCode::Inconclusive,
    })
}
