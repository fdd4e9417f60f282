-- Why: who the tenants are, and who belongs to them. People are known across tenants, since one person may belong to
-- several: that table is closed to the service, which reaches it through the functions of 0004 alone.
SET ROLE audit_owner;

-- The one place that says what tenant is bound. Missing and empty context are NULL, and NULL matches nothing.
CREATE FUNCTION bound_tenant() RETURNS uuid
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN nullif(current_setting('app.tenant_id', true), '')::uuid;
REVOKE ALL ON FUNCTION bound_tenant() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bound_tenant() TO audit_app, audit_worker, audit_login, audit_platform;

CREATE TABLE tenants (
  id         uuid PRIMARY KEY,
  slug       text NOT NULL UNIQUE,
  name       text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- Where its tables are: among everybody's, in a schema of its own, or in a database of its own.
  storage    text NOT NULL DEFAULT 'shared' CHECK (storage IN ('shared', 'schema', 'database')),
  -- The search path that finds them. One without a schema of its own finds none of another's.
  home       text NOT NULL GENERATED ALWAYS AS (
               CASE storage WHEN 'shared' THEN 'shared, public, pg_temp'
                            ELSE 'tenant_' || replace(id::text, '-', '') || ', public, pg_temp' END) STORED
);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON tenants
  USING (id = nullif(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (id = nullif(current_setting('app.tenant_id', true), '')::uuid);
GRANT SELECT ON tenants TO audit_app, audit_worker;
GRANT UPDATE (name) ON tenants TO audit_app;

-- Not a tenant table: no role that serves may read or write it.
CREATE TABLE people (
  id            uuid PRIMARY KEY,
  email         text NOT NULL,
  name          text NOT NULL,
  password_hash text,
  is_platform   boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX people_email ON people (lower(email));

CREATE TABLE memberships (
  tenant_id    uuid NOT NULL REFERENCES tenants (id),
  person_id    uuid NOT NULL REFERENCES people (id),
  id           uuid NOT NULL DEFAULT gen_random_uuid(),
  role         text NOT NULL CHECK (role IN ('owner', 'admin', 'auditor', 'member')),
  display_name text NOT NULL DEFAULT '',
  email        text NOT NULL DEFAULT '',
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, person_id),
  UNIQUE (tenant_id, id)
);
ALTER TABLE memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE memberships FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON memberships
  USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
GRANT SELECT, DELETE ON memberships TO audit_app;
GRANT UPDATE (role, display_name) ON memberships TO audit_app;
GRANT SELECT ON memberships TO audit_worker;

RESET ROLE;
