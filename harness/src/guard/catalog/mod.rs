//! What a database says of itself: relations, policies, roles, grants, functions and the rest, read from `pg_catalog`
//! alone by a handful of queries that each fetch a whole set. PostgreSQL 14 to 18.

mod constraint;
mod function;
mod grant;
mod outside;
mod policy;
mod read;
mod relation;
mod role;
mod server;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::PgConnection;

use crate::error::Result;
use crate::target::copy::execute;

pub use constraint::{Constraint, ConstraintKind, Index};
pub use function::{Function, Trigger, Volatility};
pub use grant::{DefaultGrant, Grant, ObjectKind, PUBLIC, Privilege};
pub use outside::{LargeObjects, Publication, RoleSetting, ServerFunction};
pub use policy::{Command, Policy};
pub use relation::{Column, Kind, Relation, Rule, Schema};
pub use role::{Membership, Role};
pub use server::Server;

/// An object's number in its catalog.
pub type Oid = i64;

/// A database's catalogs at one moment.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The server and the connection.
    pub server: Server,
    /// Schemas but the system's.
    pub schemas: BTreeMap<Oid, Schema>,
    /// Tables, partitions, views, materialised views, foreign tables, sequences; not the system's.
    pub relations: BTreeMap<Oid, Relation>,
    /// Policies, by relation.
    pub policies: Vec<Policy>,
    /// Database roles, of the whole cluster.
    pub roles: BTreeMap<Oid, Role>,
    /// Who is a member of what.
    pub memberships: Vec<Membership>,
    /// Privileges on every object, those by default spelt out.
    pub grants: Vec<Grant>,
    /// What future objects will be granted.
    pub default_grants: Vec<DefaultGrant>,
    /// Functions and procedures but the system's.
    pub functions: BTreeMap<Oid, Function>,
    /// Triggers but the system's.
    pub triggers: Vec<Trigger>,
    /// Rules other than those that views are made of.
    pub rules: Vec<Rule>,
    /// Keys, foreign keys, exclusions and checks.
    pub constraints: Vec<Constraint>,
    /// Indexes.
    pub indexes: Vec<Index>,
    /// What is published to subscribers.
    pub publications: Vec<Publication>,
    /// Who owns large objects.
    pub large_objects: Vec<LargeObjects>,
    /// Functions that reach the server's files, and who may call them.
    pub server_functions: Vec<ServerFunction>,
    /// Settings that a role or the database starts with.
    pub settings: Vec<RoleSetting>,
    /// What a view, materialised view or rule reads: relation to relations.
    pub reads: BTreeMap<Oid, BTreeSet<Oid>>,
    /// What a view, materialised view or rule calls: relation to functions.
    pub calls: BTreeMap<Oid, BTreeSet<Oid>>,
    /// Names of the extensions that are there.
    pub extensions: Vec<String>,
    grants_of: HashMap<Oid, Vec<usize>>,
    policies_of: HashMap<Oid, Vec<usize>>,
    named: HashMap<String, Vec<Oid>>,
    called: HashMap<String, Vec<Oid>>,
    reach: role::Reach,
}

impl Catalog {
    /// Reads the catalogs of one moment, in a transaction that writes nothing and is rolled back.
    ///
    /// # Errors
    /// As [`Catalog::read`].
    pub async fn snapshot(connection: &mut PgConnection) -> Result<Self> {
        // What is not on the path is written with its schema.
        execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog")
            .await?;
        let read = Self::read(connection).await;
        execute(connection, "ROLLBACK").await?;
        read
    }

    /// Reads the catalogs in one snapshot when the connection is in a repeatable-read transaction.
    ///
    /// # Errors
    /// The server does not answer, or does not let this role read a catalog; the text names which.
    pub async fn read(connection: &mut PgConnection) -> Result<Self> {
        let server = Server::read(connection).await?;
        let roles = role::roles(connection).await?;
        let memberships = role::memberships(connection).await?;
        let mut relations = relation::relations(connection).await?;
        relation::columns(connection, &mut relations).await?;
        relation::parents(connection, &mut relations).await?;
        let policies = policy::policies(connection).await?;
        let grants = grant::grants(connection).await?;
        let (reads, calls) = relation::dependencies(connection).await?;
        let mut grants_of: HashMap<Oid, Vec<usize>> = HashMap::new();
        grants.iter().enumerate().for_each(|(at, grant)| grants_of.entry(grant.object).or_default().push(at));
        let mut policies_of: HashMap<Oid, Vec<usize>> = HashMap::new();
        policies.iter().enumerate().for_each(|(at, policy)| policies_of.entry(policy.relation).or_default().push(at));
        let functions = function::functions(connection).await?;
        let mut named: HashMap<String, Vec<Oid>> = HashMap::new();
        relations.values().for_each(|relation| named.entry(relation.name.clone()).or_default().push(relation.oid));
        let mut called: HashMap<String, Vec<Oid>> = HashMap::new();
        functions.values().for_each(|function| called.entry(function.name.clone()).or_default().push(function.oid));
        let reach = role::Reach::new(&roles, &memberships, server.version, server.database_owner);
        Ok(Self {
            schemas: relation::schemas(connection).await?,
            default_grants: grant::default_grants(connection).await?,
            functions,
            triggers: function::triggers(connection).await?,
            rules: relation::rules(connection).await?,
            constraints: constraint::constraints(connection).await?,
            indexes: constraint::indexes(connection).await?,
            publications: outside::publications(connection).await?,
            large_objects: outside::large_objects(connection).await?,
            server_functions: outside::server_functions(connection).await?,
            settings: outside::settings(connection).await?,
            extensions: outside::extensions(connection).await?,
            server,
            relations,
            policies,
            roles,
            memberships,
            grants,
            reads,
            calls,
            grants_of,
            policies_of,
            named,
            called,
            reach,
        })
    }

    /// The policies of a relation.
    pub fn policies_of(&self, relation: Oid) -> impl Iterator<Item = &Policy> {
        self.policies_of.get(&relation).into_iter().flatten().map(|at| &self.policies[*at])
    }

    /// The grants on an object.
    pub fn grants_on(&self, object: Oid) -> impl Iterator<Item = &Grant> {
        self.grants_of.get(&object).into_iter().flatten().map(|at| &self.grants[*at])
    }

    /// The role of that name.
    pub fn role_named(&self, name: &str) -> Option<&Role> {
        self.roles.values().find(|role| role.name == name)
    }

    /// The relation of that name; without a schema, of any, `public` before others.
    pub fn relation_named(&self, schema: Option<&str>, name: &str) -> Option<&Relation> {
        let named = self.named.get(name)?.iter().filter_map(|oid| self.relations.get(oid));
        named
            .filter(|relation| schema.is_none_or(|schema| relation.schema == schema))
            .min_by_key(|relation| (relation.schema != "public", relation.oid))
    }

    /// The function of that name which takes so many arguments.
    pub fn function_called(&self, schema: Option<&str>, name: &str, arguments: usize) -> Option<&Function> {
        let taken = |function: &&Function| {
            let most = usize::try_from(function.inputs).unwrap_or(0);
            let least = most.saturating_sub(usize::try_from(function.defaults).unwrap_or(0));
            schema.is_none_or(|schema| function.schema == schema) && (least..=most).contains(&arguments)
        };
        let called = self.called.get(name)?.iter().filter_map(|oid| self.functions.get(oid));
        called.filter(taken).min_by_key(|function| (function.schema != "public", function.oid))
    }

    /// A role's name; `PUBLIC` for everybody.
    pub fn role_name(&self, role: Oid) -> &str {
        if role == PUBLIC {
            return "PUBLIC";
        }
        self.roles.get(&role).map_or("(a dropped role)", |role| role.name.as_str())
    }

    /// The roles whose privileges `role` has without doing anything: itself and what it inherits.
    pub fn inherited(&self, role: Oid) -> &BTreeSet<Oid> {
        self.reach.inherited(role)
    }

    /// The roles that `role` can become by `SET ROLE`, itself among them.
    pub fn settable(&self, role: Oid) -> &BTreeSet<Oid> {
        self.reach.settable(role)
    }

    /// True when `role` has the privilege on the object: granted to it, inherited or through PUBLIC; a superuser has all.
    /// Without a column, a grant on any column does not count.
    pub fn may(&self, role: Oid, privilege: Privilege, object: Oid) -> bool {
        self.granted(role, privilege, object, |column| column.is_none())
    }

    /// True when `role` has the privilege on the relation or on at least one column of it.
    pub fn may_in_part(&self, role: Oid, privilege: Privilege, relation: Oid) -> bool {
        self.granted(role, privilege, relation, |_| true)
    }

    /// True when `role` has the privilege on the relation or on this column of it.
    pub fn may_column(&self, role: Oid, privilege: Privilege, relation: Oid, column: i16) -> bool {
        self.granted(role, privilege, relation, |granted| granted.is_none_or(|number| number == column))
    }

    fn granted(&self, role: Oid, privilege: Privilege, object: Oid, counts: impl Fn(Option<i16>) -> bool) -> bool {
        if self.roles.get(&role).is_some_and(|role| role.superuser) {
            return true;
        }
        let held = self.inherited(role);
        if self.relations.contains_key(&object) && self.reach.holds_predefined(role, privilege) {
            return true;
        }
        self.grants_on(object).any(|grant| {
            grant.privilege == privilege
                && counts(grant.column)
                && (grant.grantee == PUBLIC || held.contains(&grant.grantee))
        })
    }

    /// True when `role` may look into the schema.
    pub fn may_use_schema(&self, role: Oid, schema: Oid) -> bool {
        self.roles.get(&role).is_some_and(|role| role.superuser)
            || self.reach.holds_predefined(role, Privilege::Select)
            || self.may(role, Privilege::Usage, schema)
    }

    /// True when row security does not hold for `role` on the relation: it is off, or the role is a superuser, has
    /// BYPASSRLS, or has the owner's rights while it is not forced.
    pub fn bypasses(&self, role: Oid, relation: &Relation) -> bool {
        let attribute = self.roles.get(&role).is_some_and(|role| role.superuser || role.bypass_rls);
        let owns = self.inherited(role).contains(&relation.owner);
        attribute || !relation.row_security || (owns && !relation.force_row_security)
    }

    /// True when the policy applies to `role`: it names PUBLIC, or a role whose privileges it has.
    pub fn applies(&self, policy: &Policy, role: Oid) -> bool {
        policy.roles.iter().any(|named| *named == PUBLIC || self.inherited(role).contains(named))
    }
}
