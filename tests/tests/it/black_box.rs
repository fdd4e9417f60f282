//! The reference as a stranger meets it: running already, its database unseen, three of its tenants given.

use std::path::Path;

use partywall::campaign::{Against, Campaign, Ended};
use partywall::exit_code::ExitCode;
use partywall::mutant;
use partywall::postgres::{Options, Postgres, Source};
use partywall::target::copy::execute;
use partywall::target::database::{connect, role_urls};
use partywall::target::file::TargetFile;
use partywall::target::identity::Secrets;
use partywall::target::launch::{self, Service, Surroundings};
use partywall::target::tenants::Variables;
use partywall::verdict::{CellState, Verdict};
use partywall_reference::token;
use uuid::Uuid;

/// A reference with tenants of its own, and what proves their people.
struct Running {
    postgres: Postgres,
    service: Service,
    variables: Vec<(String, String)>,
    folder: tempfile::TempDir,
}

impl Running {
    /// The sound reference, or a mutant of it.
    async fn start(mutant: Option<&str>) -> anyhow::Result<Self> {
        let target = TargetFile::load(None)?;
        let (launch, database) = (target.launch.as_ref().expect("launched"), target.database.as_ref().expect("given"));
        let variant = mutant.map(|id| Ok::<_, anyhow::Error>(mutant::select(&[id.into()])?.remove(0).variant()));
        let variant = variant.transpose()?.unwrap_or_default();
        let program = launch::find_program(launch, variant.defects_build).await?;
        let postgres = Postgres::start(&Source::Auto, &Options::default()).await?;
        postgres.create_database("audit").await?;
        let admin = postgres.admin_url_for("audit");
        partywall_reference::serve::migrate(&admin).await?;
        let variables = people(&admin).await?;
        if let Some(sql) = &variant.sql {
            execute(&mut connect(&admin).await?, sql).await?;
        }
        let urls = role_urls(&admin, database, &|role, password| postgres.url_for("audit", role, password)).await?;
        let folder = tempfile::tempdir()?;
        let mut surroundings = Surroundings {
            admin_url: Some(admin),
            role_urls: urls,
            objects: Some(folder.path().join("objects")),
            ..Surroundings::default()
        };
        surroundings.make_secrets(&target);
        if !variant.defects.is_empty() {
            surroundings.env.insert("AUDIT_DEFECTS".into(), variant.defects.join(","));
        }
        let service = Service::start(&program, launch, &surroundings, Some(8), &folder.path().join("log")).await?;
        Ok(Self { postgres, service, variables, folder })
    }

    fn campaign(&self) -> anyhow::Result<Against> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/targets/reference-blackbox.toml");
        let campaign = Campaign::against(TargetFile::load(Some(&file))?).variable("AUDIT_URL", &self.service.base_url);
        let campaign = self.variables.iter().fold(campaign, |campaign, (name, value)| campaign.variable(name, value));
        Ok(campaign.seed(41).max_cases(1_200).reports(self.folder.path()))
    }

    async fn stop(self) {
        self.service.stop().await;
        self.postgres.stop().await;
    }
}

/// Three tenants with people, a key and a viewer's token each, and an operator; the variables that hold their secrets.
async fn people(admin: &str) -> anyhow::Result<Vec<(String, String)>> {
    let secrets = Secrets::fresh(Variables::default());
    let hash = secrets.password_hash()?;
    let mut admin = connect(admin).await?;
    let mut held = vec![("OPERATOR_EMAIL".to_string(), "operator@platform.example".to_string())];
    held.push(("OPERATOR_PASSWORD".into(), secrets.password.clone()));
    let person = |id: Uuid, email: &str, is_platform: bool| {
        format!(
            "INSERT INTO people (id, email, name, password_hash, is_platform) VALUES ('{id}', '{email}', 'P', '{hash}', {is_platform});"
        )
    };
    let mut sql = person(Uuid::new_v4(), "operator@platform.example", true);
    for name in ["A", "B", "C"] {
        let (tenant, slug) = (Uuid::new_v4(), Uuid::new_v4());
        sql += &format!("INSERT INTO tenants (id, slug, name) VALUES ('{tenant}', 't-{slug}', 'Tenant');");
        let mut last = Uuid::nil();
        for role in ["owner", "admin", "auditor", "member"] {
            let (id, email) = (Uuid::new_v4(), format!("{role}@{slug}.example"));
            sql += &person(id, &email, false);
            sql += &format!(
                "INSERT INTO memberships (tenant_id, person_id, role, email) VALUES ('{tenant}', '{id}', '{role}', '{email}');"
            );
            held.push((format!("{name}_{}_EMAIL", role.to_uppercase()), email));
            last = id;
        }
        held.push((format!("{name}_PASSWORD"), secrets.password.clone()));
        let mut secret = |variable: &str, prefix: &str| {
            let secret = token::secret(prefix);
            let hash: String = token::hash(&secret).iter().map(|byte| format!("{byte:02x}")).collect();
            held.push((format!("{name}_{variable}"), secret));
            format!("'{tenant}', gen_random_uuid(), 'made by hand', '\\x{hash}'")
        };
        let key = secret("API_KEY", "ak_");
        sql += &format!("INSERT INTO api_keys (tenant_id, id, name, secret_hash) VALUES ({key});");
        let viewer = secret("VIEWER_TOKEN", "vt_");
        let columns = "tenant_id, id, name, secret_hash, actor_id";
        sql += &format!("INSERT INTO viewer_tokens ({columns}) VALUES ({viewer}, '{last}');");
    }
    execute(&mut admin, &sql).await?;
    Ok(held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sound_reference_is_certified_over_http_alone() -> anyhow::Result<()> {
    let running = Running::start(None).await?;
    let ended = running.campaign()?.run().await?;
    let secrets: Vec<&String> = running.variables.iter().map(|(_, value)| value).collect();
    let report = serde_json::to_string(&ended.report)?;
    ended.assert_upheld();
    assert!(!secrets.iter().any(|secret| report.contains(*secret)), "a secret is in the report");
    let judgement = &ended.report.judgement;
    let upheld = judgement.cells.iter().filter(|cell| cell.state == CellState::Upheld).count();
    assert!(upheld > 2_000, "{upheld} cells");
    let told: Vec<&str> = judgement
        .requirements
        .iter()
        .filter(|r| r.verdict == Verdict::Upheld)
        .map(|r| r.requirement.as_str())
        .collect();
    for requirement in [
        "read/by-id",
        "read/list",
        "read/cursor",
        "read/total",
        "write/by-id",
        "write/create",
        "role/own-rows",
        "existence/account",
    ] {
        assert!(told.contains(&requirement), "{requirement} is not among {told:?}");
    }
    assert!(judgement.counts.sightings > 10_000, "{:?}", judgement.counts);
    assert_eq!(ended.report.run.postgres, "none: judged over HTTP alone");
    running.stop().await;
    Ok(())
}

async fn seen(mutant: &str) -> anyhow::Result<Ended> {
    let running = Running::start(Some(mutant)).await?;
    let ended = running.campaign()?.run().await?;
    running.stop().await;
    assert_eq!(ended.exit, ExitCode::Violated, "{mutant}: {:?}", ended.report.run.stopped_because);
    Ok(ended)
}

fn violated(ended: &Ended) -> Vec<&str> {
    let requirements = ended.report.judgement.requirements.iter();
    requirements.filter(|r| r.verdict == Verdict::Violated).map(|r| r.requirement.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_fetched_by_id_alone_is_seen_over_http_alone() -> anyhow::Result<()> {
    let ended = seen("idor-by-id").await?;
    assert!(violated(&ended).contains(&"read/by-id"), "{:?}", violated(&ended));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_taken_from_the_query_is_seen_over_http_alone() -> anyhow::Result<()> {
    let ended = seen("tenant-from-query").await?;
    assert!(violated(&ended).contains(&"context/forged-query"), "{:?}", violated(&ended));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_known_is_seen_over_http_alone() -> anyhow::Result<()> {
    let ended = seen("account-known").await?;
    assert_eq!(violated(&ended), ["existence/account"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_total_over_all_tenants_is_seen_over_http_alone() -> anyhow::Result<()> {
    let ended = seen("count-unscoped").await?;
    assert!(violated(&ended).contains(&"read/total"), "{:?}", violated(&ended));
    Ok(())
}
