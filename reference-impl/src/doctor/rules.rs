//! The rules of the wall, each a query for the places that break it.

use super::Concern;

/// A rule: `sql`, after [`COMMON`], answers a `place` and `what` is wrong there, for each place that breaks it.
pub(super) struct Rule {
    pub word: &'static str,
    pub concern: Concern,
    pub sql: &'static str,
    /// What to do next; `{expected}` and `{variable}` are the database role and the variable of its URL.
    pub next: &'static str,
}

/// `me`: who is connected. `reached`: the roles that it is, or may become by inheritance or SET ROLE, however granted; a
/// superuser may become all, which one finding tells. `walled`: tenant tables and their partitions, in whatever schema.
pub(super) const COMMON: &str = "
WITH RECURSIVE me AS (
  SELECT oid, rolname, rolsuper FROM pg_roles WHERE rolname IN (current_user, session_user)),
reached AS (
  SELECT r.*, 'database role ' || session_user ||
         CASE WHEN r.oid IN (SELECT oid FROM me) THEN '' ELSE ' through ' || r.rolname END AS place
    FROM pg_roles r
   WHERE r.oid IN (SELECT oid FROM me)
      OR NOT (SELECT bool_or(rolsuper) FROM me) AND EXISTS (SELECT FROM me WHERE pg_has_role(me.oid, r.oid, 'MEMBER'))),
walled AS (
  SELECT c.oid, c.relname, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.oid::regclass::text AS place
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
     AND (c.relname = 'tenants'
          OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped))),
defining AS (
  SELECT p.oid, p.proowner, p.proconfig, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl, p.oid::regprocedure::text AS place
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
   WHERE p.prosecdef AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')";

/// As which role to connect instead.
const CONNECT: &str = "set {variable} to serve as {expected}, and let that role be a member of no other";

pub(super) const ALL: &[Rule] = &[
    Rule {
        word: "role-is-superuser",
        concern: Concern::Role,
        sql: "SELECT place, 'it is superuser, for whom there is no wall' AS what FROM reached WHERE rolsuper",
        next: CONNECT,
    },
    Rule {
        word: "role-bypasses",
        concern: Concern::Role,
        sql: "SELECT place, 'it has BYPASSRLS' AS what FROM reached WHERE rolbypassrls AND NOT rolsuper",
        next: CONNECT,
    },
    Rule {
        word: "role-owns",
        concern: Concern::Rights,
        sql: "SELECT r.place, 'it owns ' || count(*) || ' tenant tables, ' || min(w.place) || ' among them' AS what \
                FROM reached r JOIN walled w ON w.relowner = r.oid WHERE NOT r.rolsuper GROUP BY r.place",
        next: CONNECT,
    },
    Rule {
        word: "role-truncates",
        concern: Concern::Rights,
        sql: "SELECT w.place, r.place || ' may TRUNCATE it, which no policy stops' AS what \
                FROM reached r JOIN walled w ON has_table_privilege(r.oid, w.oid, 'TRUNCATE') \
               WHERE NOT r.rolsuper AND NOT pg_has_role(r.oid, w.relowner, 'MEMBER')",
        next: "REVOKE TRUNCATE on it",
    },
    Rule {
        word: "row-security-off",
        concern: Concern::Wall,
        sql: "SELECT place, 'row security is not enabled' AS what FROM walled WHERE NOT relrowsecurity",
        next: "ALTER TABLE it ENABLE ROW LEVEL SECURITY",
    },
    Rule {
        word: "row-security-not-forced",
        concern: Concern::Wall,
        sql: "SELECT place, 'row security is not forced on its owner' AS what FROM walled WHERE NOT relforcerowsecurity",
        next: "ALTER TABLE it FORCE ROW LEVEL SECURITY",
    },
    Rule {
        word: "no-policy",
        concern: Concern::Wall,
        sql: "SELECT place, 'it has no policy' AS what FROM walled \
               WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = walled.oid AND p.polpermissive)",
        next: "give it the policy own_tenant, as the other tenant tables have it",
    },
    Rule {
        word: "policy-open",
        concern: Concern::Wall,
        // Whatever else a permissive policy says lets rows pass besides, `true` all of them.
        sql: "SELECT w.place, 'policy ' || p.polname || ' lets more pass than the bound tenant''s rows: ' || e.says AS what \
                FROM walled w JOIN pg_policy p ON p.polrelid = w.oid AND p.polpermissive \
               CROSS JOIN LATERAL (SELECT DISTINCT says FROM unnest(ARRAY[pg_get_expr(p.polqual, p.polrelid), \
                                                                          pg_get_expr(p.polwithcheck, p.polrelid)]) says) e \
               WHERE e.says <> format('(%s = (NULLIF(current_setting(''app.tenant_id''::text, true), ''''::text))::uuid)', \
                                      CASE WHEN w.relname = 'tenants' THEN 'id' ELSE 'tenant_id' END)",
        next: "ALTER POLICY it to compare the tenant alone, as the other tenant tables do",
    },
    Rule {
        word: "view-as-owner",
        concern: Concern::Wall,
        sql: ", reads AS ( \
                SELECT DISTINCT r.ev_class AS reader, d.refobjid AS relation \
                  FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid \
                 WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class), \
              readers AS ( \
                SELECT reader FROM reads JOIN walled ON walled.oid = reads.relation \
                UNION SELECT reads.reader FROM reads JOIN readers ON readers.reader = reads.relation) \
              SELECT c.oid::regclass::text AS place, 'it reads tenant tables with its owner''s rights' AS what \
                FROM readers JOIN pg_class c ON c.oid = readers.reader AND c.relkind IN ('v', 'm') \
               WHERE NOT coalesce((SELECT o.option_value::boolean FROM pg_options_to_table(c.reloptions) o \
                                    WHERE o.option_name = 'security_invoker'), false)",
        next: "ALTER VIEW it SET (security_invoker = true); drop it if it is materialized",
    },
    Rule {
        word: "definer-has-callers",
        concern: Concern::Wall,
        sql: "SELECT d.place, 'it crosses the wall, and ' || string_agg(coalesce(r.rolname, 'PUBLIC'), ', ' ORDER BY r.rolname) \
                     || ' may call it' AS what \
                FROM defining d CROSS JOIN LATERAL (SELECT DISTINCT a.grantee FROM aclexplode(d.acl) a \
                                                     WHERE a.privilege_type = 'EXECUTE' AND a.grantee <> d.proowner) a \
                LEFT JOIN pg_roles r ON r.oid = a.grantee \
               GROUP BY d.place HAVING count(*) > 1 OR bool_or(a.grantee = 0)",
        next: "REVOKE EXECUTE on it from all but the one role that needs it",
    },
    Rule {
        word: "definer-unpinned",
        concern: Concern::Wall,
        // A temporary schema that is not named is searched first.
        sql: "SELECT place, 'it crosses the wall, and its search_path is not pinned with pg_temp last' AS what FROM defining \
               WHERE NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE c = 'search_path=\"\"' OR c ~ '^search_path=.*pg_temp\"?$')",
        next: "ALTER FUNCTION it SET search_path = pg_catalog, public, pg_temp",
    },
];
