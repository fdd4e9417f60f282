//! A mutant of the reference, planted and running, for what is no campaign.

use std::sync::Arc;

use anyhow::Context;
use partywall::campaign::{Campaign, Variant};
use partywall::plan::{Plan, Proof};
use partywall::postgres::{Options, Postgres};
use partywall::principal::Principal;
use partywall::target::database::{connect, role_urls};
use partywall::target::identity::{Identities, Secrets};
use partywall::target::launch::{Service, Surroundings, find_program, run};
use partywall::target::tenants::Variables;
use partywall::target::{copy, http};

/// A service that answers until it is dropped.
pub struct Planted {
    /// The service.
    pub service: Service,
    /// Everyone's credentials.
    pub identities: Identities,
    /// The password of every person.
    pub secrets: Arc<Secrets>,
    postgres: Postgres,
    _folder: tempfile::TempDir,
}

impl Planted {
    /// Starts the reference with `variant`, planted as `plan` says.
    ///
    /// # Errors
    /// Whatever keeps it from running.
    pub async fn start(campaign: &Campaign, variant: &Variant, plan: &Plan) -> anyhow::Result<Self> {
        Self::start_for(campaign, variant, plan, &|_| true).await
    }

    /// As [`Planted::start`], with the credentials of those alone who are `wanted`.
    ///
    /// # Errors
    /// As [`Planted::start`].
    pub async fn start_for(
        campaign: &Campaign,
        variant: &Variant,
        plan: &Plan,
        wanted: &(dyn Fn(&Principal) -> bool + Sync),
    ) -> anyhow::Result<Self> {
        let (target, folder) = (&campaign.target, tempfile::tempdir()?);
        let (launch, database) =
            (target.launch.as_ref().context("launch")?, target.database.as_ref().context("database")?);
        let postgres = Postgres::start(&campaign.postgres, &Options::default()).await?;
        postgres.create_database("planted").await?;
        let admin = postgres.admin_url_for("planted");
        let mut surroundings = Surroundings {
            admin_url: Some(admin.clone()),
            objects: Some(folder.path().join("objects")),
            ..Surroundings::default()
        };
        surroundings.make_secrets(target);
        let defective = !variant.defects.is_empty();
        if defective {
            let defects = launch.defects.as_ref().context("defects")?;
            surroundings.env.insert(defects.variable.clone(), variant.defects.join(","));
        }
        surroundings.instead = variant.instead.iter().cloned().collect();
        let program = find_program(launch, defective).await?;
        for words in &database.setup {
            run(words, &program, &surroundings).await?;
        }
        let url = |role: &str, password: &str| postgres.url_for("planted", role, password);
        surroundings.role_urls = role_urls(&admin, database, &url).await?;
        let secrets = Arc::new(Secrets::fresh(Variables::default()));
        let mut connection = connect(&admin).await?;
        partywall::plant::plant(plan, &plan.holdings(), &secrets, &mut connection).await?;
        if let Some(sql) = &variant.sql {
            copy::execute(&mut connection, sql).await?;
        }
        let service = Service::start(&program, launch, &surroundings, Some(2), &folder.path().join("log")).await?;
        let client = http::client(plan.target.timeout())?;
        let base_url = service.base_url.clone();
        let identities =
            Identities::establish_some(plan, &plan.holdings(), &secrets, &client, &base_url, wanted).await?;
        Ok(Self { service, identities, secrets, postgres, _folder: folder })
    }

    /// The token of `principal`, without the header around it.
    pub fn token(&self, principal: &Principal) -> String {
        let presented = self.identities.presented(principal, &Proof::AsIssued);
        let value = presented.headers.first().map_or("", |(_, value)| value);
        value.rsplit(' ').next().unwrap_or_default().into()
    }

    /// Takes it down.
    pub async fn stop(self) {
        self.service.stop().await;
        self.postgres.stop().await;
    }
}
