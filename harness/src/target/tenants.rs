//! Tenants that the service has already: how they are named, and which variables hold what proves their principals.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::target::credential::Credential;
use crate::target::file::{Per, TargetFile};

/// Name in a credential's templates to the environment variable that holds the value: no secret stands in a file.
pub type Values = BTreeMap<String, String>;

/// A tenant that the service has already. What it has besides is neither touched nor judged.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenTenant {
    /// Its name, in errors.
    pub name: String,
    /// Its id, as the service knows it; where a table planted per tenant learns it, not needed.
    #[serde(default)]
    pub id: Option<String>,
    /// The variable that holds its id.
    #[serde(default)]
    pub id_env: Option<String>,
    /// By application role: name in `{given:NAME}` (`token` for a token) to the variable that holds the value.
    #[serde(default)]
    pub env: BTreeMap<String, Values>,
}

/// What the variables hold: those that a caller gives, then those of the process.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Holds `value` for `name`, before the process's own.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.into(), value.into());
    }

    /// What `name` holds; `place` says where the target file asks for it.
    ///
    /// # Errors
    /// It is not set, or empty.
    pub fn get(&self, name: &str, place: &str) -> Result<String> {
        let found = self.0.get(name).cloned().or_else(|| std::env::var(name).ok());
        found.filter(|value| !value.is_empty()).ok_or_else(|| {
            Error::Usage(format!("the environment variable {name} is not set; {place} in the target file names it"))
        })
    }

    /// `text`, or what the variable holds when it is `{env:NAME}`.
    ///
    /// # Errors
    /// As [`Variables::get`].
    pub fn resolve(&self, text: &str, place: &str) -> Result<String> {
        match text.strip_prefix("{env:").and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => self.get(name, place),
            None => Ok(text.into()),
        }
    }
}

/// The name of a tenant's own key among what `env` names.
pub(super) const KEY: &str = "key";

/// Checks what given tenants need.
pub(super) fn check(file: &TargetFile) -> Result<(), String> {
    let by = file.plant.table.iter().find(|t| t.by.is_some());
    if file.tenant.is_empty() {
        return match by {
            Some(table) => Err(format!("[[plant.table]] {}: `by` needs [[tenant]]", table.name)),
            None => Ok(()),
        };
    }
    if file.tenant.len() < 2 {
        return Err("[[tenant]]: give two or more: a wall has two sides".into());
    }
    if file.database.is_some() {
        return Err("[[tenant]] and [database]: tenants are either given or planted; leave one out".into());
    }
    if let Some(table) = file.plant.table.iter().find(|t| t.by.is_none()) {
        return Err(format!("[[plant.table]] {}: beside [[tenant]], `by` must name what makes its rows", table.name));
    }
    let learnt = file.plant.table.iter().any(|t| t.per == Per::Tenant && t.columns.values().any(|g| is_learnt(g)));
    for tenant in &file.tenant {
        if tenant.id.is_none() && tenant.id_env.is_none() && !learnt {
            return Err(format!(
                "[[tenant]] {}: give its id or id_env, or learn it by a table planted per tenant: no request can name \
                 it otherwise",
                tenant.name
            ));
        }
        for role in file.role.iter().filter(|role| !role.platform) {
            given(
                file,
                &role.credential,
                &role.name,
                tenant.env.get(&role.name),
                &format!("[tenant.env.{}]", role.name),
            )
            .map_err(|why| format!("[[tenant]] {}: {why}", tenant.name))?;
        }
        unknown_role(file, tenant.env.keys()).map_err(|why| format!("[[tenant]] {}: {why}", tenant.name))?;
    }
    for role in file.role.iter().filter(|role| role.platform) {
        let place = format!("[operator.{}]", role.name);
        given(file, &role.credential, &role.name, file.operator.get(&role.name), &place)?;
    }
    unknown_role(file, file.operator.keys())
}

/// True for a column whose value the service makes.
pub fn is_learnt(generator: &str) -> bool {
    generator.starts_with("learnt:") || generator.starts_with("listed:")
}

fn unknown_role<'a>(file: &TargetFile, mut roles: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let unknown = roles.find(|role| file.role(role).is_none());
    let known = file.role.iter().map(|r| r.name.as_str());
    unknown.map_or(Ok(()), |role| Err(crate::error::unknown("application role", role, known).to_string()))
}

/// Checks that `values` has all that the credential's templates ask for.
fn given(file: &TargetFile, credential: &str, role: &str, values: Option<&Values>, place: &str) -> Result<(), String> {
    let Some(credential) = file.credential.get(credential) else { return Ok(()) };
    let mut texts = credential.send().places().join(" ");
    let mut wanted: Vec<&str> = Vec::new();
    match credential {
        Credential::Login { body, .. } => texts.push_str(&body.to_string()),
        Credential::Jwt { claims, key_id, .. } => {
            texts.push_str(&claims.to_string());
            key_id.iter().for_each(|id| texts.push_str(id));
            wanted.extend(credential.has_key_each().then_some(KEY));
        }
        Credential::Token { .. } => wanted.push("token"),
        Credential::Trusted { .. } => {}
        Credential::Secret { .. } => {
            return Err(format!("application role {role}: a secret's hash can only be planted; use kind = \"token\""));
        }
    }
    wanted.extend(texts.split("{given:").skip(1).filter_map(|part| part.split('}').next()));
    match wanted.into_iter().find(|name| !values.is_some_and(|values| values.contains_key(*name))) {
        Some(name) => Err(format!("{place} does not say which variable holds `{name}` of application role {role}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
name = "notes"
openapi = "/openapi.json"
base_url = "http://localhost"
tenant = [
  { name = "a", id = "1", env = { member = { token = "A" } } },
  { name = "b", id = "2", env = { member = { token = "B" } } },
]
credential.token = { kind = "token" }
role = [{ name = "member", credential = "token" }]
operation = [{ id = "create", allow = ["member"], table = "notes", creates = "/id" }]
[[plant.table]]
name = "notes"
per = "row"
by = "create"
columns = { id = "learnt:/id" }
"#;

    #[test]
    fn what_is_missing_is_named() {
        TargetFile::parse(SOUND, "sound").expect("sound");
        for (from, to, says) in [
            ("id = \"1\", ", "", "give its id or id_env"),
            ("{ name = \"b\", id = \"2\", env = { member = { token = \"B\" } } },", "", "two or more"),
            ("token = \"B\"", "", "[tenant.env.member] does not say which variable holds `token`"),
            ("env = { member = { token = \"A\" } }", "env = { membr = { token = \"A\" } }", "`token`"),
            ("by = \"create\"\n", "", "`by` must name what makes its rows"),
            ("by = \"create\"\n", "by = \"creat\"\n", "did you mean `create`"),
            ("[[plant.table]]", "[database]\n[[plant.table]]", "leave one out"),
            ("{ kind = \"token\" }", "{ kind = \"secret\" }", "use kind = \"token\""),
            ("{ kind = \"token\" }", "{ kind = \"jwt\", algorithm = \"HS256\", claims = {} }", "`key`"),
            ("{ kind = \"token\" }", "{ kind = \"trusted\", send = \"X: {given:who}\" }", "`who`"),
        ] {
            let text = SOUND.replace(from, to);
            assert_ne!(text, SOUND, "{from}");
            let error = TargetFile::parse(&text, "broken").map(drop).expect_err(says).to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_with_its_place() {
        let mut variables = Variables::default();
        variables.set("TAKEN", "x");
        assert_eq!(variables.resolve("{env:TAKEN}", "base_url").expect("set"), "x");
        assert_eq!(variables.resolve("http://x", "base_url").expect("no variable"), "http://x");
        let error =
            variables.get("PARTYWALL_TEST_NEVER_SET", "[tenant.env.member] of a").expect_err("unset").to_string();
        assert!(error.contains("PARTYWALL_TEST_NEVER_SET") && error.contains("[tenant.env.member] of a"), "{error}");
    }
}
