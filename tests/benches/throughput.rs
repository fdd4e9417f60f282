//! Judged throughput beside a load generator that judges nothing: requests that a plan holds are driven, written down and judged as
//! `partywall certify` does it, and are sent by wrk over as many connections, in turns. Then the cost of a judged request with many
//! tenants. Needs `wrk` (Debian: apt-get install wrk) and PostgreSQL binaries. The credentials that wrk is given are in a file of the
//! run's own folder, which only its owner may read and which is removed.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use partywall::campaign::Variant;
use partywall::canary::Scanner;
use partywall::cell::{Lanes, PoolState};
use partywall::drive::{self, Door, Sequences};
use partywall::history::{self, Entry, Header};
use partywall::ledger::Ledger;
use partywall::oracle::Judge;
use partywall::patience::Patience;
use partywall::plan::{Coverage, Plan, Planner, Proof, Sequence};
use partywall::target::http;
use partywall::{placeholder, requirement};
use partywall_tests::planted::Planted;
use partywall_tests::{campaign, run};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

/// Connections at once, judged and not.
const CONNECTIONS: u32 = 8;
/// Different requests; they are sent again and again.
const REQUESTS: usize = 2_000;
const ROUNDS: usize = 5;
const SECONDS: u64 = 6;
/// Tenants of the second table, the first of which is what the others are compared with.
const TENANTS: [u32; 4] = [10, 100, 1_000, 10_000];
const STATE: PoolState = PoolState { pool_size: Some(8), lanes: Lanes::Many };

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    anyhow::ensure!(
        Command::new("wrk").arg("--version").output().is_ok(),
        "wrk is not on PATH; on Debian: apt-get install wrk"
    );
    let subject = Subject::start(20, 24).await?;
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let unjudged = subject.unjudged()?;
        let judged = subject.judged(Duration::from_secs(SECONDS)).await?;
        println!("round {round}: {judged:.0}/s judged, {unjudged:.0}/s by wrk: {:.2}", judged / unjudged);
        ratios.push(judged / unjudged);
    }
    subject.planted.stop().await;
    println!("judged throughput at {:.2} of wrk's, median of {ROUNDS} rounds (limit 0.70)", median(ratios));

    let mut few = None;
    for tenants in TENANTS {
        let subject = Subject::start(tenants, 8).await?;
        subject.judged(Duration::from_secs(2)).await?;
        let judged = subject.judged(Duration::from_secs(SECONDS)).await?;
        subject.planted.stop().await;
        let few = *few.get_or_insert(judged);
        println!(
            "{tenants} tenants: {judged:.0}/s judged, a request costs {:.2} of one with {}",
            few / judged,
            TENANTS[0]
        );
    }
    Ok(())
}

/// A service that is planted, and what it is asked.
struct Subject {
    plan: Arc<Plan>,
    sequences: Arc<Vec<Sequence>>,
    planted: Planted,
    door: Arc<Door>,
}

impl Subject {
    async fn start(tenants: u32, rows: u32) -> anyhow::Result<Self> {
        let (mut campaign, _reports) = campaign(7)?;
        (campaign.bounds.tenants, campaign.bounds.rows) = (tenants, rows);
        // What is driven dry leaves its plan.
        campaign.dry_run = true;
        let dry = run(&campaign).await?;
        let plan: Plan = serde_json::from_str(&std::fs::read_to_string(dry.dir.join("plan.json"))?)?;
        let plan = Arc::new(plan);
        let sequences = asked(&plan)?;
        let actors: std::collections::BTreeSet<_> = sequences.iter().map(|one| one.steps[0].actor.clone()).collect();
        let variant = Variant::default();
        let mut planted =
            Planted::start_for(&campaign, &variant, &plan, &|principal| actors.contains(principal)).await?;
        let door = Door {
            plan: plan.clone(),
            base_url: planted.service.base_url.clone(),
            identities: std::mem::take(&mut planted.identities),
            secrets: planted.secrets.clone(),
            scanner: Arc::new(Scanner::new(plan.canary_key(), plan.window())),
            ledger: Arc::new(Ledger::default()),
            sinks: None,
            faults: None,
            restart: None,
            patience: Patience::default(),
            began: Instant::now(),
            keeps_bodies: false,
            asks_again: false,
        };
        Ok(Self { plan, sequences: Arc::new(sequences), planted, door: Arc::new(door) })
    }

    /// Judged requests a second.
    async fn judged(&self, time: Duration) -> anyhow::Result<f64> {
        let folder = tempfile::tempdir()?;
        let header =
            Header { schema_version: history::SCHEMA_VERSION, run_id: "throughput".into(), plan_sha256: String::new() };
        let mut writer = history::Writer::create(&folder.path().join("history.ndjson.zst"), &header)?;
        let mut judge = Judge::new(self.plan.clone(), requirement::select(&[])?);
        let mut coverage = Coverage::default();
        let all = self.sequences.clone();
        let endless = (0..).map(move |number| Ok(all[number % all.len()].clone()));
        let sequences: Sequences = Arc::new(Mutex::new(Box::new(endless)));
        let (sender, mut receiver) = mpsc::channel(256);
        let (begun, mut lanes) = (Instant::now(), JoinSet::new());
        for connection in 0..CONNECTIONS {
            let (door, sequences) = (self.door.clone(), sequences.clone());
            lanes.spawn(drive::lane(door, connection, sequences, sender.clone(), Some(begun + time), None));
        }
        drop(sender);
        while let Some(observation) = receiver.recv().await {
            coverage.observe(&observation);
            let entry = Entry::Observation(Box::new(observation));
            writer.append(&entry)?;
            judge.enter(&entry);
        }
        while let Some(lane) = lanes.join_next().await {
            lane??;
        }
        writer.finish()?;
        let took = begun.elapsed();
        let judgement = judge.conclude(None);
        anyhow::ensure!(judgement.findings.is_empty(), "the reference is sound: {:?}", judgement.findings);
        Ok(judgement.counts.judged as f64 / took.as_secs_f64())
    }

    /// Requests a second that wrk sends and reads.
    fn unjudged(&self) -> anyhow::Result<f64> {
        let folder = tempfile::tempdir()?;
        let script = folder.path().join("requests.lua");
        self.write_script(&script)?;
        let output = Command::new("wrk")
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{SECONDS}s"), "-s"])
            .arg(&script)
            .arg(&self.door.base_url)
            .output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        let rate = told.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
        rate.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk told no rate: {told}"))
    }

    fn write_script(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        writeln!(file, "local all = {{}}\ninit = function()")?;
        for sequence in self.sequences.iter() {
            let step = &sequence.steps[0];
            let presented = self.door.identities.presented(&step.actor, &Proof::AsIssued);
            let headers = step.request.headers.iter().chain(&presented.headers);
            let headers: Vec<String> = headers.map(|(name, value)| format!("[{name:?}]={value:?}")).collect();
            let url = http::url_of(&step.request, &|text| text.into());
            writeln!(file, "all[#all+1] = wrk.format('GET', {url:?}, {{{}}})", headers.join(","))?;
        }
        writeln!(file, "end\nlocal at = 0\nrequest = function() at = at % #all + 1 return all[at] end")?;
        Ok(())
    }
}

/// Reads of a plan that need nothing but a credential, evenly over all that there are.
fn asked(plan: &Arc<Plan>) -> anyhow::Result<Vec<Sequence>> {
    let mut all = Vec::new();
    for sequence in Planner::new(plan.clone()).into_sequences(STATE) {
        let sequence = sequence?;
        for mut step in sequence.steps {
            let request = &step.request;
            let texts = request.query.iter().chain(&request.headers).map(|(_, value)| value).chain([&request.path]);
            let whole = !texts.into_iter().any(|text| placeholder::names(text).next().is_some());
            let plain = request.method == "GET" && request.proof == Proof::AsIssued && request.body.is_none();
            if whole && plain && step.cut_after_ms.is_none() && step.abandon_after.is_none() {
                (step.walk, step.beside_ms, step.case) = (false, None, None);
                step.captures.clear();
                all.push(Sequence { number: all.len() as u64, steps: vec![step] });
            }
        }
    }
    let every = all.len().div_ceil(REQUESTS).max(1);
    Ok(all.into_iter().step_by(every).collect())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
