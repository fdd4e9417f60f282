//! Identities: the secrets planted for principals or given for them, and the credentials had with them. None of this is
//! ever written.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::Client;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::canary::Owner;
use crate::error::{Error, Result};
use crate::ledger::given_name;
use crate::plan::{Plan, Proof};
use crate::principal::{NOBODY, Principal};
use crate::redaction::Hidden;
use crate::target::altered::altered;
use crate::target::credential::{Credential, Flaw};
use crate::target::file::Role;
use crate::target::tenants::{GivenTenant, KEY, Variables};
use crate::target::{http, jwt};
use crate::tenant::Holdings;
use futures_util::{StreamExt, TryStreamExt};

/// The secrets of one run, from the operating system and not from the seed.
pub struct Secrets {
    /// The password of every planted person.
    pub password: String,
    /// What the variables hold that the target file names.
    pub variables: Variables,
    key: String,
    strangers: Arc<jwt::Strangers>,
}

impl Secrets {
    /// Fresh secrets, beside those that variables hold.
    pub fn fresh(variables: Variables) -> Self {
        let (password, key) = (crate::seed::secret(16), crate::seed::secret(32));
        Self { password, variables, key, strangers: Arc::default() }
    }

    /// The id of a given tenant, where the target file says it.
    ///
    /// # Errors
    /// A variable that is not set.
    pub fn tenant_id(&self, tenant: &GivenTenant) -> Result<Option<String>> {
        match &tenant.id_env {
            Some(name) => self.variables.get(name, &format!("[[tenant]] {} id_env", tenant.name)).map(Some),
            None => Ok(tenant.id.clone()),
        }
    }

    /// The password's argon2id hash, at the lowest cost that the format allows: only speed is lost with more.
    ///
    /// # Errors
    /// A defect of this build.
    pub fn password_hash(&self) -> Result<String> {
        use argon2::password_hash::PasswordHasher;
        let wrong = |e: &dyn std::fmt::Display| Error::Defect(format!("password hash: {e}"));
        let params = argon2::Params::new(argon2::Params::MIN_M_COST, 1, 1, None).map_err(|e| wrong(&e))?;
        let hasher = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hash = hasher.hash_password(self.password.as_bytes()).map_err(|e| wrong(&e))?;
        Ok(hash.to_string())
    }

    /// A principal's own secret.
    pub fn of(&self, principal: &Principal) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.key);
        hash.update(principal.to_string());
        hex::encode(hash.finalize())
    }
}

/// What a principal sends to prove itself.
#[derive(Clone, Default)]
pub struct Presented {
    /// Headers, name and value.
    pub headers: Vec<(String, String)>,
    /// Query parameters, name and value.
    pub query: Vec<(String, String)>,
}

/// A principal's token, and where it goes.
struct Pass {
    places: Vec<String>,
    token: String,
    /// The same with a flaw, where it is made here.
    flawed: BTreeMap<Flaw, String>,
}

/// The credentials of all principals.
#[derive(Default)]
pub struct Identities {
    passes: BTreeMap<Principal, Pass>,
    /// What the environment gives, by the name that a plan has for it.
    given: BTreeMap<String, String>,
    /// Everything that no report may show.
    hidden: Hidden,
    strangers: Arc<jwt::Strangers>,
}

/// Where credentials are had from.
struct Issuer<'a> {
    plan: &'a Plan,
    holdings: &'a Holdings,
    secrets: &'a Secrets,
    client: &'a Client,
    base_url: &'a str,
}

impl Identities {
    /// Proves every principal of `plan` to the target at `base_url`.
    ///
    /// # Errors
    /// A sign-in that fails, a variable that is not set: nothing could be shown without it.
    pub async fn establish(
        plan: &Plan,
        holdings: &Holdings,
        secrets: &Secrets,
        client: &Client,
        base_url: &str,
    ) -> Result<Self> {
        Self::establish_some(plan, holdings, secrets, client, base_url, &|_| true).await
    }

    /// Proves those principals that are `wanted`.
    ///
    /// # Errors
    /// As [`Identities::establish`].
    pub async fn establish_some(
        plan: &Plan,
        holdings: &Holdings,
        secrets: &Secrets,
        client: &Client,
        base_url: &str,
        wanted: &(dyn Fn(&Principal) -> bool + Sync),
    ) -> Result<Self> {
        let issuer = Issuer { plan, holdings, secrets, client, base_url };
        let mut wanting = Vec::new();
        for role in &plan.target.role {
            let owners: Vec<Owner> = if role.platform { vec![Owner::PLATFORM] } else { holdings.owners().collect() };
            let principals = owners.into_iter().map(|owner| (owner, role, holdings.principal(owner, &role.name)));
            wanting.extend(principals.filter(|(_, _, principal)| wanted(principal)));
        }
        // Who limits how fast we ask is asked one by one.
        let at_once = if plan.bounds.rate_limit.is_some() { 1 } else { plan.bounds.workers as usize };
        let issued = wanting.into_iter().map(async |(owner, role, principal)| {
            let words = Words::of(plan, holdings, secrets, owner, &role.name)?;
            let credential = &plan.target.credential[&role.credential];
            let token = issuer.token(credential, role, owner, &words).await?;
            let mut flawed = issuer.flawed(credential, role, &words)?;
            flawed.extend(issuer.by_anothers_key(credential, role, owner, &words)?);
            let places: Vec<String> = credential.send().places().iter().map(|place| words.fill_text(place)).collect();
            for place in &places {
                place_of(place)?;
            }
            Ok::<_, Error>((principal, words, Pass { places, token, flawed }))
        });
        let mut issued = futures_util::stream::iter(issued).buffer_unordered(at_once.max(1));
        let (mut identities, mut hidden) =
            (Self { strangers: secrets.strangers.clone(), ..Self::default() }, Vec::new());
        while let Some((principal, words, pass)) = issued.try_next().await? {
            let tokens = pass.flawed.values().chain([&pass.token]);
            hidden.extend(words.given.values().chain(tokens).cloned());
            let named = words.given.into_iter().map(|(name, value)| (given_name(&name, &principal), value));
            identities.given.extend(named);
            identities.passes.insert(principal, pass);
        }
        drop(issued);
        identities.hidden = Hidden::of(hidden)?;
        Ok(identities)
    }

    /// What `principal` sends; nothing for nobody.
    pub fn presented(&self, principal: &Principal, proof: &Proof) -> Presented {
        let mut presented = Presented::default();
        let Some(pass) = self.passes.get(principal).filter(|_| principal.role != NOBODY && *proof != Proof::Issued)
        else {
            return presented;
        };
        let made = match proof {
            Proof::Flawed(flaw) => pass.flawed.get(flaw).cloned(),
            _ => None,
        };
        let token = made.unwrap_or_else(|| altered(&pass.token, proof, &self.strangers));
        for place in &pass.places {
            let Ok((name, value, query)) = place_of(place) else { continue };
            let pair = (name.to_string(), value.replace("{token}", &token));
            if query { presented.query.push(pair) } else { presented.headers.push(pair) }
        }
        presented
    }

    /// What the environment gives under a plan's name for it: a secret, for requests alone.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// `text` without any credential in it.
    pub fn redacted(&self, text: &str) -> String {
        self.hidden.left_out_of(text)
    }
}

impl Issuer<'_> {
    /// What signs a credential that is made here.
    fn signer(&self, credential: &Credential, role: &Role, words: &Words<'_>) -> Result<Option<jwt::Signer>> {
        let Credential::Jwt { algorithm, key_env, key_file, key_id, lives_s, .. } = credential else { return Ok(None) };
        let place = format!("[credential.{}] key_env", role.credential);
        let key = match (key_env, key_file, words.given.get(KEY)) {
            (Some(name), None, _) => self.secrets.variables.get(name, &place)?,
            (None, Some(path), _) => std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?,
            (None, None, Some(key)) => key.clone(),
            _ => {
                return Err(Error::Usage(format!(
                    "{place}: give one of key_env and key_file, or each tenant `key` by env"
                )));
            }
        };
        let key_id = key_id.as_deref().map(|id| words.fill_text(id));
        Ok(Some(jwt::Signer { algorithm: *algorithm, key, key_id, lives_s: *lives_s }))
    }

    /// The same credential as another tenant's key signs it.
    fn by_anothers_key(
        &self,
        credential: &Credential,
        role: &Role,
        owner: Owner,
        words: &Words<'_>,
    ) -> Result<BTreeMap<Flaw, String>> {
        let Credential::Jwt { claims, .. } = credential else { return Ok(BTreeMap::new()) };
        let Some(other) = self.holdings.owners().find(|other| *other != owner && owner != Owner::PLATFORM) else {
            return Ok(BTreeMap::new());
        };
        let anothers = Words::of(self.plan, self.holdings, self.secrets, other, &role.name)?;
        let signer = self.signer(credential, role, &anothers)?.filter(|_| credential.has_key_each());
        let own = self.signer(credential, role, words)?;
        let Some((signer, own)) = signer.zip(own).filter(|(signer, own)| signer.key != own.key) else {
            return Ok(BTreeMap::new());
        };
        let as_own = jwt::Signer { key_id: own.key_id, ..signer.clone() };
        let made = [(Flaw::AnothersKey, signer), (Flaw::AnothersKeyAsOwn, as_own)].map(|(flaw, signer)| {
            let token = signer.signed(words.fill(claims));
            Ok((flaw, token.map_err(|why| unsigned_by(role, &why))?))
        });
        made.into_iter().collect()
    }

    /// The same credential with each flaw that it can be made with.
    fn flawed(&self, credential: &Credential, role: &Role, words: &Words<'_>) -> Result<BTreeMap<Flaw, String>> {
        let (Credential::Jwt { claims, .. }, Some(signer)) = (credential, self.signer(credential, role, words)?) else {
            return Ok(BTreeMap::new());
        };
        let made = credential.flaws().into_iter().map(|flaw| {
            let token = signer.flawed(words.fill(claims), flaw, &self.secrets.strangers);
            Ok((flaw, token.map_err(|why| unsigned_by(role, &why))?))
        });
        made.collect()
    }

    async fn token(&self, credential: &Credential, role: &Role, owner: Owner, words: &Words<'_>) -> Result<String> {
        let principal = self.holdings.principal(owner, &role.name);
        match credential {
            Credential::Secret { prefix, .. } => Ok(format!("{prefix}{}", self.secrets.of(&principal))),
            Credential::Token { .. } => Ok(words.given.get("token").cloned().unwrap_or_default()),
            Credential::Trusted { .. } => Ok(String::new()),
            Credential::Jwt { claims, .. } => {
                let Some(signer) = self.signer(credential, role, words)? else { return Ok(String::new()) };
                signer.signed(words.fill(claims)).map_err(|why| unsigned_by(role, &why))
            }
            Credential::Login { path, body, token, .. } => {
                let body = fill(&words.fill(body), self.holdings, self.secrets, owner, &role.name)?;
                let url = if path.contains("://") { path.clone() } else { format!("{}{path}", self.base_url) };
                sign_in(self.client, &url, &body, token).await.map_err(|why| {
                    Error::Unreachable(format!(
                        "sign-in of {principal} failed: POST {path} {why}. Nothing can be shown without it; check \
                         [credential.{}] and {} in the target file",
                        role.credential,
                        if self.plan.target.tenant.is_empty() { "[plant]" } else { "the variables that `env` names" }
                    ))
                })
            }
        }
    }
}

fn unsigned_by(role: &Role, why: &str) -> Error {
    Error::Usage(format!("[credential.{}]: {why}", role.credential))
}

/// What the templates of one principal's credential stand for.
struct Words<'a> {
    tenant: Value,
    role: String,
    given: BTreeMap<String, String>,
    /// Where tenants are planted: `{TABLE.COLUMN}` is of the principal's own row.
    planted: Option<(&'a Holdings, Owner)>,
}

impl<'a> Words<'a> {
    fn of(plan: &Plan, holdings: &'a Holdings, secrets: &Secrets, owner: Owner, role: &str) -> Result<Self> {
        let target = &plan.target;
        let tenant = target.tenant.get(owner.index() as usize);
        let (values, place) = match tenant {
            Some(tenant) => (tenant.env.get(role), format!("[tenant.env.{role}] of {}", tenant.name)),
            None => (target.operator.get(role), format!("[operator.{role}]")),
        };
        let mut given = BTreeMap::new();
        for (name, variable) in values.into_iter().flatten() {
            given.insert(name.clone(), secrets.variables.get(variable, &place)?);
        }
        let planted = target.tenant.is_empty().then_some((holdings, owner));
        let id = match tenant {
            Some(tenant) => secrets.tenant_id(tenant)?.unwrap_or_default().into(),
            None if planted.is_some() && owner != Owner::PLATFORM => holdings.tenant_json(owner),
            None => String::new().into(),
        };
        Ok(Self { tenant: id, role: role.into(), given, planted })
    }

    fn fill_text(&self, text: &str) -> String {
        let tenant = crate::plan::text_of(&self.tenant);
        let mut out = text.replace("{tenant}", &tenant).replace("{role}", &self.role);
        for (name, value) in &self.given {
            out = out.replace(&format!("{{given:{name}}}"), value);
        }
        let references = text.split('{').skip(1).filter_map(|part| part.split('}').next()?.split_once('.'));
        for ((table, column), (holdings, owner)) in
            references.zip(std::iter::repeat(self.planted).map_while(|planted| planted))
        {
            if let Ok(value) = crate::plan::principal_value(holdings, owner, &self.role, table, column) {
                out = out.replace(&format!("{{{table}.{column}}}"), &value);
            }
        }
        out
    }

    fn fill(&self, template: &Value) -> Value {
        match template {
            Value::String(text) if text == "{tenant}" => self.tenant.clone(),
            Value::String(text) => Value::String(self.fill_text(text)),
            Value::Object(fields) => Value::Object(fields.iter().map(|(k, v)| (k.clone(), self.fill(v))).collect()),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            other => other.clone(),
        }
    }
}

/// Name and value of a place, and whether it is in the query.
fn place_of(place: &str) -> Result<(&str, &str, bool)> {
    let header = place.split_once(": ").map(|(name, value)| (name, value, false));
    let query = place.strip_prefix('?').and_then(|rest| rest.split_once('=')).map(|(name, value)| (name, value, true));
    query.or(header).filter(|(name, ..)| !name.is_empty()).ok_or_else(|| {
        Error::Usage("[credential] send: write `Name: value` for a header or `?name=value` for the query".into())
    })
}

fn fill(template: &Value, holdings: &Holdings, secrets: &Secrets, owner: Owner, role: &str) -> Result<Value> {
    Ok(match template {
        Value::String(text) => match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            Some("password") => Value::String(secrets.password.clone()),
            Some(reference) => {
                let (table, column) = reference.split_once('.').unwrap_or((reference, ""));
                let value = crate::plan::principal_value(holdings, owner, role, table, column);
                Value::String(value.map_err(Error::Usage)?)
            }
            None => Value::String(text.clone()),
        },
        Value::Object(fields) => {
            let filled = fields.iter().map(|(k, v)| Ok((k.clone(), fill(v, holdings, secrets, owner, role)?)));
            Value::Object(filled.collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

async fn sign_in(client: &Client, url: &str, body: &Value, token: &str) -> std::result::Result<String, String> {
    let answer = client.post(url).json(body).send().await.map_err(|e| format!("got no answer: {}", e.without_url()))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("answered {status}"));
    }
    if let Some(name) = token.strip_prefix("cookie:") {
        let cookies = answer.headers().get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
        let found = http::cookie(cookies, name).map(String::from);
        return found.ok_or_else(|| format!("answered {status} without a cookie {name}"));
    }
    let answer = http::whole(answer).await?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| format!("answered {status} without JSON"))?;
    let found = answer.pointer(token).and_then(Value::as_str);
    found.map(String::from).ok_or_else(|| format!("answered {status} without a token at {token}"))
}
