-- Why: before sign-in no tenant is known, so the wall would hide what sign-in needs. These functions are the one narrow
-- gate: each takes a proof or an address and answers no more than authentication needs. They belong to a role that may
-- bypass the wall and cannot log in, and audit_login alone may call them.
DO $$
BEGIN
  CREATE ROLE audit_gate NOLOGIN NOSUPERUSER BYPASSRLS NOCREATEDB NOCREATEROLE;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL;
END $$;
GRANT USAGE ON SCHEMA public, shared TO audit_gate;

SET ROLE audit_owner;
-- Signed-in sessions, each with the hash of its refresh token. An operator's session has no tenant.
CREATE TABLE sessions (
  id          uuid NOT NULL,
  person_id   uuid NOT NULL REFERENCES people (id),
  tenant_id   uuid REFERENCES tenants (id),
  secret_hash bytea NOT NULL,
  expires_at  timestamptz NOT NULL,
  UNIQUE NULLS NOT DISTINCT (tenant_id, id)
);
CREATE INDEX sessions_by_hash ON sessions (secret_hash);
ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON sessions
  USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
-- Enough to see whether a session still stands; never its secret.
GRANT SELECT (tenant_id, id, person_id) ON sessions TO audit_app;
GRANT SELECT ON people, memberships, api_keys, viewer_tokens TO audit_gate;
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions TO audit_gate;
GRANT SELECT, INSERT ON people, tenants TO audit_gate;
GRANT INSERT ON memberships TO audit_gate;
RESET ROLE;

-- Who signs in with this address: the password's hash and the memberships.
CREATE FUNCTION sign_in_of(address text)
  RETURNS TABLE (person_id uuid, password_hash text, is_platform boolean, tenant_id uuid, role text)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT p.id, p.password_hash, p.is_platform, m.tenant_id, m.role
    FROM people p LEFT JOIN memberships m ON m.person_id = p.id
   WHERE lower(p.email) = lower(address)
$$;

-- Whose a bearer secret is, and what it is narrowed to.
CREATE FUNCTION credential_of(hash bytea)
  RETURNS TABLE (tenant_id uuid, id uuid, role text, actor_id uuid, target_type text, target_id text)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT k.tenant_id, k.id, 'ingest', NULL::uuid, NULL, NULL
    FROM api_keys k WHERE k.secret_hash = hash AND k.revoked_at IS NULL
  UNION ALL
  SELECT v.tenant_id, v.id, 'viewer', v.actor_id, v.target_type, v.target_id
    FROM viewer_tokens v WHERE v.secret_hash = hash AND v.revoked_at IS NULL AND v.expires_at > now()
$$;

CREATE FUNCTION open_session(session uuid, person uuid, tenant uuid, hash bytea, expires timestamptz) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  INSERT INTO sessions (id, person_id, tenant_id, secret_hash, expires_at) VALUES (session, person, tenant, hash, expires)
$$;

-- Whether an operator's session still stands, and the person is still trusted.
CREATE FUNCTION operates(session uuid, person uuid) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT EXISTS (SELECT FROM sessions s JOIN people p ON p.id = s.person_id
                  WHERE s.id = session AND s.tenant_id IS NULL AND p.id = person AND p.is_platform)
$$;

-- Rotates a session's secret for the person whose it is; answers only while the membership, or the platform's trust, is
-- still there.
CREATE FUNCTION renew_session(old_hash bytea, person uuid, new_hash bytea, expires timestamptz)
  RETURNS TABLE (session_id uuid, tenant_id uuid, role text)
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  UPDATE sessions s SET secret_hash = new_hash, expires_at = expires
    FROM (SELECT m.person_id, m.tenant_id, m.role FROM memberships m
           UNION ALL SELECT p.id, NULL, 'platform' FROM people p WHERE p.is_platform) r
   WHERE s.secret_hash = old_hash AND s.person_id = person AND s.expires_at > now()
     AND r.person_id = person AND r.tenant_id IS NOT DISTINCT FROM s.tenant_id
  RETURNING s.id, s.tenant_id, r.role
$$;

CREATE FUNCTION close_session(hash bytea, person uuid) RETURNS bigint
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  WITH gone AS (DELETE FROM sessions WHERE secret_hash = hash AND person_id = person RETURNING 1)
  SELECT count(*) FROM gone
$$;

-- Adds a member to the bound tenant, and the person if no tenant knows it yet. It answers the membership's id, never
-- whether the person was known.
CREATE FUNCTION add_member(address text, display text, member_role text) RETURNS uuid
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
  person uuid;
  membership uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'no tenant is bound';
  END IF;
  INSERT INTO people (id, email, name) VALUES (gen_random_uuid(), address, display)
    ON CONFLICT (lower(email)) DO NOTHING;
  SELECT id INTO person FROM people WHERE lower(email) = lower(address);
  INSERT INTO memberships (tenant_id, person_id, role, display_name, email)
    VALUES (tenant, person, member_role, display, address)
    ON CONFLICT DO NOTHING RETURNING id INTO membership;
  RETURN membership;
END $$;

ALTER FUNCTION sign_in_of(text) OWNER TO audit_gate;
ALTER FUNCTION credential_of(bytea) OWNER TO audit_gate;
ALTER FUNCTION open_session(uuid, uuid, uuid, bytea, timestamptz) OWNER TO audit_gate;
ALTER FUNCTION renew_session(bytea, uuid, bytea, timestamptz) OWNER TO audit_gate;
ALTER FUNCTION operates(uuid, uuid) OWNER TO audit_gate;
ALTER FUNCTION close_session(bytea, uuid) OWNER TO audit_gate;
ALTER FUNCTION add_member(text, text, text) OWNER TO audit_gate;
REVOKE ALL ON FUNCTION sign_in_of(text), credential_of(bytea), open_session(uuid, uuid, uuid, bytea, timestamptz),
  renew_session(bytea, uuid, bytea, timestamptz), close_session(bytea, uuid), operates(uuid, uuid),
  add_member(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sign_in_of(text), credential_of(bytea),
  open_session(uuid, uuid, uuid, bytea, timestamptz), renew_session(bytea, uuid, bytea, timestamptz),
  close_session(bytea, uuid), operates(uuid, uuid) TO audit_login;
GRANT EXECUTE ON FUNCTION add_member(text, text, text) TO audit_app;

-- The role of a person in a tenant, for one who signs over to another of its own tenants.
CREATE FUNCTION role_of(person uuid, tenant uuid) RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT m.role FROM memberships m WHERE m.person_id = person AND m.tenant_id = tenant
$$;
ALTER FUNCTION role_of(uuid, uuid) OWNER TO audit_gate;
REVOKE ALL ON FUNCTION role_of(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION role_of(uuid, uuid) TO audit_login;
