//! Two tenants with a caller of every role, and the service in this process. Their tables are where `AUDIT_TEST_STORAGE`
//! says: `shared` when it says nothing, `schema` or `database`.

use std::collections::HashMap;

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use partywall_reference::config::{Databases, Serve};
use partywall_reference::storage::model::name_of;
use partywall_reference::storage::moving;
use partywall_reference::token;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Mutex;
use tower::ServiceExt;
use uuid::Uuid;

use crate::support::Database;

pub const PASSWORD: &str = "correct horse battery staple";
pub const TOKEN_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
pub const ROLES: [&str; 8] = ["owner", "admin", "auditor", "member", "ingest", "viewer", "platform", "nobody"];
const PEOPLE: [&str; 4] = ["owner", "admin", "auditor", "member"];

pub struct World {
    pub database: Database,
    pub router: axum::Router,
    /// Where attachments and exports are kept.
    pub objects: tempfile::TempDir,
    pub a: Tenant,
    pub b: Tenant,
    tokens: Mutex<HashMap<(Uuid, String), String>>,
}

#[derive(Clone)]
pub struct Tenant {
    pub id: Uuid,
    pub slug: &'static str,
    pub people: HashMap<&'static str, Uuid>,
    pub api_key: String,
    pub viewer_token: String,
}

/// What was answered.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// Checks the status, and that a refusal is a problem.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        if status >= 400 {
            assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(self.json()["status"], status);
        }
        self
    }

    #[track_caller]
    pub fn ids(&self) -> Vec<Uuid> {
        let body = self.json();
        let items = body["items"].as_array().unwrap_or_else(|| panic!("no list: {body}"));
        items.iter().map(|item| item["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")).collect()
    }

    #[track_caller]
    pub fn id(&self) -> Uuid {
        self.json()["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id: {}", self.text))
    }
}

impl Tenant {
    fn new(slug: &'static str) -> Self {
        let people = PEOPLE.into_iter().map(|role| (role, Uuid::new_v4())).collect();
        let (api_key, viewer_token) = (token::secret("ak_"), token::secret("vt_"));
        Self { id: Uuid::new_v4(), slug, people, api_key, viewer_token }
    }

    pub fn email(&self, role: &str) -> String {
        format!("{role}@{}.example", self.slug)
    }
}

impl World {
    pub async fn new() -> anyhow::Result<Self> {
        Self::with(|_| {}).await
    }

    /// As [`World::new`], with other settings.
    pub async fn with(change: impl FnOnce(&mut Serve)) -> anyhow::Result<Self> {
        Self::made(Database::migrated().await?, change).await
    }

    /// As [`World::new`], in a database that is migrated already.
    pub async fn on(database: Database) -> anyhow::Result<Self> {
        Self::made(database, |_| {}).await
    }

    async fn made(database: Database, change: impl FnOnce(&mut Serve)) -> anyhow::Result<Self> {
        let (a, b) = (Tenant::new("acme"), Tenant::new("globex"));
        plant(&database, &[&a, &b]).await?;
        if let Ok(model) = std::env::var("AUDIT_TEST_STORAGE") {
            for tenant in [&a, &b] {
                moving::tenant(&database.url("postgres").parse()?, tenant.id, &model).await?;
            }
        }
        let objects = tempfile::tempdir()?;
        let mut settings = Serve { objects: Some(url_of(&objects)), ..settings(&database, 4) };
        change(&mut settings);
        let app = partywall_reference::serve::app(&settings).await?;
        let router = partywall_reference::http::router(app);
        Ok(Self { database, router, objects, a, b, tokens: Mutex::default() })
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("the router answers");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub async fn call(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.send(request(token, method, path, body)).await
    }

    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, Method::GET, path, None).await
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(token, Method::POST, path, Some(body)).await
    }

    /// A connection as the database role `role` that finds the tables of `tenant` by their bare names, wherever they are.
    pub async fn at_home(&self, tenant: &Tenant, role: &str) -> anyhow::Result<PgConnection> {
        let mut admin = self.database.connect("postgres").await?;
        let place = "SELECT storage, home FROM tenants WHERE id = $1";
        let (storage, home): (String, String) = sqlx::query_as(place).bind(tenant.id).fetch_one(&mut admin).await?;
        admin.close().await?;
        let mut options: PgConnectOptions = self.database.url(role).parse()?;
        if storage == "database" {
            options = options.database(&name_of(tenant.id));
        }
        Ok(PgConnection::connect_with(&options.options([("search_path", home.replace(' ', ""))])).await?)
    }

    /// Runs statements as administrator where the tables of `tenant` are.
    pub async fn sql(&self, tenant: &Tenant, statements: &str) -> anyhow::Result<()> {
        let mut admin = self.at_home(tenant, "postgres").await?;
        sqlx::raw_sql(AssertSqlSafe(statements.to_string())).execute(&mut admin).await?;
        Ok(admin.close().await?)
    }

    /// What `statement` counts where the tables of `tenant` are.
    pub async fn count(&self, tenant: &Tenant, statement: &str) -> anyhow::Result<i64> {
        let mut admin = self.at_home(tenant, "postgres").await?;
        Ok(sqlx::query_scalar(AssertSqlSafe(statement.to_string())).fetch_one(&mut admin).await?)
    }

    /// A bearer of `role` in `tenant`; nobody's is empty.
    pub async fn token(&self, tenant: &Tenant, role: &str) -> String {
        match role {
            "ingest" => return tenant.api_key.clone(),
            "viewer" => return tenant.viewer_token.clone(),
            "nobody" => return String::new(),
            _ => {}
        }
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.get(&(tenant.id, role.to_string())) {
            return token.clone();
        }
        let token = self.sign_in(tenant, role).await["access_token"].as_str().expect("a token").to_string();
        tokens.insert((tenant.id, role.to_string()), token.clone());
        token
    }

    pub async fn sign_in(&self, tenant: &Tenant, role: &str) -> Value {
        let email = if role == "platform" { "platform@operator.example".into() } else { tenant.email(role) };
        let body = json!({"email": email, "password": PASSWORD});
        self.post("", "/v1/sign-in", body).await.expect(200).json()
    }

    /// Writes an event by `actor`.
    pub async fn event(&self, tenant: &Tenant, actor: &str, target: &str) -> Uuid {
        let event = event(tenant.people[actor], target);
        self.post(&tenant.api_key, "/v1/events", event).await.expect(201).id()
    }
}

/// A folder as `AUDIT_OBJECTS` names it.
pub fn url_of(folder: &tempfile::TempDir) -> String {
    format!("file://{}", folder.path().display())
}

pub fn request(token: &str, method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    match body {
        Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    }
    .expect("a request")
}

pub fn event(actor: Uuid, target: &str) -> Value {
    json!({
        "occurred_at": "2026-03-01T10:00:00.123456Z",
        "actor": {"id": actor, "email": "someone@acme.example", "name": "Someone"},
        "action": "document.shared",
        "target": {"type": "document", "id": target, "name": format!("The document {target}")},
        "source_ip": "192.0.2.7", "user_agent": "curl/8", "outcome": "success", "external_id": "x-1", "details": {"k": ["v"]}
    })
}

pub fn settings(database: &Database, pool_size: u32) -> Serve {
    Serve {
        listen: "127.0.0.1:0".parse().expect("an address"),
        databases: Databases {
            database_url: database.url("audit_app"),
            login_database_url: database.url("audit_login"),
            platform_database_url: database.url("audit_platform"),
        },
        pool_size,
        objects: None,
        rate_tenant: 100_000,
        rate_principal: 100_000,
        streams: 3,
        webhooks: 1_000,
        plain_http: false,
        token_key: TOKEN_KEY.into(),
        webhook_private: false,
        with_worker: false,
        worker_database_url: None,
        seal_every_s: 86_400,
    }
}

/// Plants people, keys and tokens the way a harness does: past the service, as administrator.
pub async fn plant(database: &Database, tenants: &[&Tenant]) -> anyhow::Result<()> {
    // The cheapest parameters there are: the tests sign in often.
    let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).expect("parameters"));
    let hash = cheap.hash_password(PASSWORD.as_bytes()).expect("a hash").to_string();
    let mut admin = database.connect("postgres").await?;
    let person = "INSERT INTO people (id, email, name, password_hash, is_platform) VALUES ($1, $2, 'P', $3, $4)";
    let operator = sqlx::query(person).bind(Uuid::new_v4()).bind("platform@operator.example").bind(&hash).bind(true);
    operator.execute(&mut admin).await?;
    for tenant in tenants {
        let insert = "INSERT INTO tenants (id, slug, name) VALUES ($1, $2, $2)";
        sqlx::query(insert).bind(tenant.id).bind(tenant.slug).execute(&mut admin).await?;
        for (role, id) in &tenant.people {
            let email = tenant.email(role);
            sqlx::query(person).bind(id).bind(&email).bind(&hash).bind(false).execute(&mut admin).await?;
            let member =
                "INSERT INTO memberships (tenant_id, person_id, role, display_name, email) VALUES ($1, $2, $3, $3, $4)";
            sqlx::query(member).bind(tenant.id).bind(id).bind(role).bind(email).execute(&mut admin).await?;
        }
        let key = "INSERT INTO api_keys (tenant_id, id, name, secret_hash) VALUES ($1, gen_random_uuid(), 'k', $2)";
        sqlx::query(key).bind(tenant.id).bind(token::hash(&tenant.api_key)).execute(&mut admin).await?;
        let viewer = "INSERT INTO viewer_tokens (tenant_id, id, name, secret_hash, actor_id) \
                      VALUES ($1, gen_random_uuid(), 'v', $2, $3)";
        let viewer = sqlx::query(viewer).bind(tenant.id).bind(token::hash(&tenant.viewer_token));
        viewer.bind(tenant.people["member"]).execute(&mut admin).await?;
    }
    Ok(admin.close().await?)
}
