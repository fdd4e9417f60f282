//! What somebody who begins is given: a target file of a service, as far as its document says, and a configuration of guard
//! and probe with every key explained.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::operation::{Operation, Place};

/// The configuration: every key, as a comment.
pub const CONFIG: &str = r#"# What there is to know about the database, for `partywall guard` and `partywall probe`. Both find most of it out: take
# the mark away where they do not. `partywall schema config` prints the JSON Schema of this file.

# Names of columns that say whose a row is; `*` is anything.
# tenant_columns = ["owner_key", "*_tenant"]

# Tables that are tenants', with the column that says whose a row is.
# tenant_tables = ["public.orders.customer"]

# Tables that are no tenant's.
# platform_tables = ["public.countries", "audit.*"]

# Schemas that are a tenant each, where each has its own.
# tenant_schemas = ["tenant_*"]

# Settings, or functions written `schema.name()`, that say which tenant is bound.
# tenant_context = ["app.tenant_id"]

# The database roles that the application connects as.
# application_roles = ["app"]

# A finding to live with: every one needs a reason, and a day on which to look at it again.
# [[suppress]]
# rule = "schema/sequence-shared"
# object = "public.*"
# reason = "numbers are dealt out in blocks of a thousand"
# expires = "2999-01-01"
"#;

/// How a target file begins, up to its operations.
const HEAD: &str = r#"# What Partywall is told of the service. `partywall schema target` prints the JSON Schema of this file. Then:
#
#     partywall certify --target this-file.toml

name = NAME
# A path on the service, or a file beside this one; OpenAPI 3.1 or 3.0, as JSON.
openapi = OPENAPI
# Where it answers, or the variable that holds it.
base_url = "{env:SERVICE_URL}"

# Two tenants that are there for nothing else. What proves their people is in the environment, never here.
[[tenant]]
name = "acme"
id = "acme"
env.member.token = "ACME_TOKEN"

[[tenant]]
name = "globex"
id = "globex"
env.member.token = "GLOBEX_TOKEN"

# How a role proves itself: `token`, `login`, `jwt` or `trusted`.
[credential.token]
kind = "token"

# One entry for each application role.
[[role]]
name = "member"
credential = "token"
"#;

/// What stands where no document says which operations there are.
const NO_OPERATIONS: &str = r#"
# What is planted, by the service's own operations, and one entry for each operation of the document:
#
# [[plant.table]]
# name = "notes"
# per = "row"
# by = "create_note"
# columns = { id = "learnt:/id" }
#
# [[operation]]
# id = "create_note"
# allow = ["member"]
# table = "notes"
# creates = "/id"
operation = []
"#;

/// A collection of the document: what is made by one operation and named by a parameter behind its path.
struct Collection<'o> {
    path: &'o str,
    name: String,
    maker: &'o Operation,
    parameter: String,
}

/// A target file for the service whose document stands at `openapi` and holds `operations`; none are known without it.
pub fn target(openapi: &str, operations: &[Operation]) -> String {
    let quoted = |text: &str| toml::Value::String(text.into()).to_string();
    let head = HEAD.replace("NAME", &quoted("my-service")).replace("OPENAPI", &quoted(openapi));
    if operations.is_empty() {
        // A key of the whole file stands before its tables.
        let (before, after) = head.split_at(head.find("\n# Two tenants").unwrap_or(0));
        return format!("{before}{NO_OPERATIONS}{after}");
    }
    let collections = collections(operations);
    let mut text = head;
    text.push_str(
        "\n# What is planted: each by the operation that makes one. `learnt` is the place of its id in the answer.\n",
    );
    for Collection { name, maker, .. } in &collections {
        let (name, by) = (quoted(name), quoted(&maker.id));
        let id = quoted(&format!("learnt:{}", id_of(maker)));
        text.push_str(&format!(
            "[[plant.table]]\nname = {name}\nper = \"row\"\nby = {by}\ncolumns = {{ id = {id} }}\n\n"
        ));
    }
    text.push_str("# What each operation is about, and who may call it; `open = true` where anyone may.\n");
    for operation in operations {
        text.push_str(&format!(
            "# {} {}\n[[operation]]\nid = {}\n",
            operation.method,
            operation.path,
            quoted(&operation.id)
        ));
        text.push_str(if operation.secured { "allow = [\"member\"]\n" } else { "open = true\n" });
        let below = |collection: &&Collection<'_>| {
            let rest = operation.path.strip_prefix(collection.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // The nearest collection is what it is about; those on the way are named by parameters.
        if let Some(collection) = collections.iter().filter(below).max_by_key(|collection| collection.path.len()) {
            text.push_str(&format!("table = {}\n", quoted(&collection.name)));
            if operation.path == collection.path && operation.method == "GET" {
                text.push_str(&format!("list = {{ items = {} }}\n", quoted(&items_of(operation))));
            }
            if operation.id == collection.maker.id {
                text.push_str(&format!("creates = {}\n", quoted(&id_of(operation))));
            }
        }
        let named = |parameter: &str| {
            let part = format!("/{{{parameter}}}");
            let collection = collections
                .iter()
                .filter(below)
                .find(|c| c.parameter == parameter && operation.path[c.path.len()..].starts_with(&part))?;
            Some(format!("{} = {}", quoted(parameter), quoted(&format!("{}.id", collection.name))))
        };
        let places = operation.parameters.iter().filter(|parameter| parameter.place == Place::Path);
        let (known, unknown): (Vec<_>, Vec<_>) =
            places.map(|parameter| (parameter, named(&parameter.name))).partition(|(_, named)| named.is_some());
        let known: Vec<String> = known.into_iter().filter_map(|(_, named)| named).collect();
        if !known.is_empty() {
            text.push_str(&format!("params = {{ {} }}\n", known.join(", ")));
        }
        for (parameter, _) in unknown {
            text.push_str(&format!("# params: {} holds what is planted where?\n", parameter.name));
        }
        text.push('\n');
    }
    text
}

fn collections(operations: &[Operation]) -> Vec<Collection<'_>> {
    let mut found: BTreeMap<&str, Collection<'_>> = BTreeMap::new();
    for maker in operations.iter().filter(|operation| operation.method == "POST" && operation.secured) {
        let behind = operations.iter().find_map(|other| {
            let rest = other.path.strip_prefix(&maker.path)?.strip_prefix("/{")?;
            rest.split_once('}').map(|(parameter, _)| parameter.to_string())
        });
        let name = maker.path.rsplit('/').find(|part| !part.is_empty() && !part.starts_with('{'));
        if let (Some(parameter), Some(name)) = (behind, name) {
            let taken = found.values().filter(|other| other.name == name).count();
            let name = if taken > 0 { format!("{name}_{}", taken + 1) } else { name.into() };
            found.insert(&maker.path, Collection { path: &maker.path, name, maker, parameter });
        }
    }
    found.into_values().collect()
}

/// Where the id stands in what an operation answers.
fn id_of(operation: &Operation) -> String {
    let properties = operation.answer.as_ref().and_then(|answer| answer.schema.get("properties")?.as_object());
    let Some(properties) = properties else { return "/id".into() };
    let inner = || {
        properties
            .iter()
            .find(|(_, part)| part.pointer("/properties/id").is_some())
            .map(|(name, _)| format!("/{name}/id"))
    };
    if properties.contains_key("id") { "/id".into() } else { inner().unwrap_or_else(|| "/id".into()) }
}

/// Where the rows stand in what a list answers.
fn items_of(operation: &Operation) -> String {
    let schema = operation.answer.as_ref().map(|answer| &answer.schema);
    let is_list = |schema: &Value| schema.get("type").and_then(Value::as_str) == Some("array");
    let properties = schema.and_then(|schema| schema.get("properties")?.as_object());
    let list = properties.into_iter().flatten().find(|(_, part)| is_list(part));
    list.map_or_else(String::new, |(name, _)| format!("/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::config::Config;
    use crate::target::file::TargetFile;
    use crate::target::openapi;

    #[test]
    fn what_is_given_can_be_read_and_so_can_its_examples() {
        assert!(Config::parse(CONFIG, "partywall.toml").expect("a configuration").tenant_columns.is_empty());
        let examples = |text: &str, is_key: &dyn Fn(&str) -> bool| {
            let line = |line: &str| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line).to_string();
            text.lines().map(line).collect::<Vec<_>>().join("\n")
        };
        let key = |line: &str| line.starts_with('[') || line.contains(" = ");
        let config = Config::parse(&examples(CONFIG, &key), "partywall.toml").expect("its examples");
        assert_eq!((config.suppress.len(), config.application_roles.len()), (1, 1));
        let file =
            TargetFile::parse(&target("/openapi.json", &[]), "target.toml").expect("a target without operations");
        assert!(file.operation.is_empty());
        let text = examples(&target("/openapi.json", &[]), &key).replace("operation = []\n", "");
        let (tables, rest) = text.split_at(text.find("\n# Two tenants").expect("tenants"));
        let (head, tables) = tables.split_at(tables.find("\n# What is planted").expect("tables"));
        let file = TargetFile::parse(&format!("{head}{rest}{tables}"), "target.toml").expect("its examples");
        assert_eq!((file.operation.len(), file.plant.table.len()), (1, 1));
    }

    #[test]
    fn a_document_says_what_is_made_listed_and_named() {
        let document = r##"{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "security": [{"bearer": []}],
            "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
            "paths": {
              "/health": {"get": {"operationId": "health", "security": [], "responses": {"200": {"description": "ok"}}}},
              "/shops": {"post": {"operationId": "open_shop", "responses": {"201": {"description": "made", "content": {"application/json":
                 {"schema": {"type": "object", "properties": {"shop": {"type": "object", "properties": {"id": {"type": "string"}}}}}}}}}}},
              "/shops/{shop}/orders": {
                "post": {"operationId": "order", "responses": {"201": {"description": "made"}}},
                "get": {"operationId": "orders", "responses": {"200": {"description": "all", "content": {"application/json":
                 {"schema": {"type": "object", "properties": {"data": {"type": "array", "items": {}}}}}}}}}},
              "/shops/{shop}/orders/{order}": {"get": {"operationId": "read_order", "responses": {"200": {"description": "one"}}}},
              "/reports/{day}": {"get": {"operationId": "report \"x\"", "responses": {"200": {"description": "one"}}}}}}"##;
        let operations = openapi::operations(document, "openapi.json").expect("operations");
        let text = target("openapi.json", &operations);
        let file = TargetFile::parse(&text, "target.toml").unwrap_or_else(|e| panic!("{e}\n{text}"));
        let tables: Vec<&str> = file.plant.table.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(tables, ["shops", "orders"]);
        assert_eq!(file.plant.table[0].columns["id"], "learnt:/shop/id");
        let of = |id: &str| file.operation.iter().find(|operation| operation.id == id).expect(id);
        assert!(of("health").open && of("health").table.is_none());
        assert_eq!(of("orders").list.as_ref().map(|list| list.items.as_str()), Some("/data"));
        assert_eq!(of("order").creates.as_deref(), Some("/id"));
        let params: Vec<(&str, &str)> =
            of("read_order").params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(params, [("order", "orders.id"), ("shop", "shops.id")]);
        assert!(of("report \"x\"").params.is_empty() && text.contains("# params: day holds what is planted where?"));
    }
}
