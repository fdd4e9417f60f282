-- Why: a tenant that leaves takes everything along. Erasing begins in one transaction, which ends whatever opened the
-- tenant's door; a job then deletes row after row, and what stays is an id, until `audit-api migrate` takes that away too.
SET ROLE audit_owner;

ALTER TABLE tenants ADD COLUMN erasing_at timestamptz, ADD COLUMN erased_at timestamptz;

-- People who belonged to a tenant that is being erased: those who belong nowhere else go with it.
CREATE TABLE former_members (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  person_id uuid NOT NULL,
  PRIMARY KEY (tenant_id, person_id)
);
ALTER TABLE former_members ENABLE ROW LEVEL SECURITY;
ALTER TABLE former_members FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON former_members
  USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);

GRANT UPDATE (erasing_at) ON tenants TO audit_gate;
GRANT DELETE ON memberships, api_keys, viewer_tokens, people TO audit_gate;
GRANT SELECT, INSERT, DELETE ON former_members TO audit_gate;

RESET ROLE;

-- Deletes up to `most` rows of the bound tenant, which is being erased; none is left when it answers 0. It has its
-- owner's rights and the wall before it: the policies hold it to the bound tenant as they do who calls it.
CREATE FUNCTION erase_rows(most integer) RETURNS bigint
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
  tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
  place text;
  relation regclass;
  gone bigint;
BEGIN
  SELECT split_part(home, ',', 1) INTO place FROM tenants WHERE id = tenant AND erasing_at IS NOT NULL;
  IF place IS NULL THEN
    RAISE EXCEPTION 'no tenant that is being erased is bound';
  END IF;
  -- Partitions one by one, so that a row's place names it; those that refer to others were made after them.
  FOR relation IN
    SELECT c.oid FROM pg_class c
     WHERE c.relnamespace IN ('public'::regnamespace, to_regnamespace(place)) AND c.relkind = 'r'
       AND EXISTS (SELECT FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
     ORDER BY c.oid DESC
  LOOP
    EXECUTE format('DELETE FROM %1$s WHERE tenant_id = $1
                       AND ctid = ANY (ARRAY(SELECT ctid FROM %1$s WHERE tenant_id = $1 LIMIT $2))', relation)
      USING tenant, most;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
      RETURN gone;
    END IF;
  END LOOP;
  RETURN 0;
END $$;

-- What is left of the bound tenant once its rows are gone: an id, under which nobody finds anything.
CREATE FUNCTION end_erasure() RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  UPDATE tenants SET slug = 'erased-' || id, name = '', erased_at = now()
   WHERE id = nullif(current_setting('app.tenant_id', true), '')::uuid AND erasing_at IS NOT NULL AND erased_at IS NULL
$$;
ALTER FUNCTION erase_rows(integer) OWNER TO audit_owner;
ALTER FUNCTION end_erasure() OWNER TO audit_owner;
REVOKE ALL ON FUNCTION erase_rows(integer), end_erasure() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_rows(integer), end_erasure() TO audit_worker;

-- Begins to erase the bound tenant: from here on nobody is signed in to it, and no key or token opens it.
CREATE FUNCTION begin_erasure() RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'no tenant is bound';
  END IF;
  UPDATE tenants SET erasing_at = coalesce(erasing_at, now()) WHERE id = tenant;
  DELETE FROM sessions WHERE tenant_id = tenant;
  DELETE FROM api_keys WHERE tenant_id = tenant;
  DELETE FROM viewer_tokens WHERE tenant_id = tenant;
  WITH gone AS (DELETE FROM memberships WHERE tenant_id = tenant RETURNING person_id)
  INSERT INTO former_members SELECT tenant, person_id FROM gone ON CONFLICT DO NOTHING;
END $$;

-- Of up to `most` people who belonged to the bound tenant, deletes those who belong nowhere and do not operate; nobody
-- is left to look at when it answers 0.
CREATE FUNCTION erase_people(most integer) RETURNS bigint
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
  seen uuid[];
  alone uuid[];
BEGIN
  WITH gone AS (
    DELETE FROM former_members WHERE tenant_id = tenant AND person_id = ANY (ARRAY(
      SELECT person_id FROM former_members WHERE tenant_id = tenant LIMIT most)) RETURNING person_id)
  SELECT array_agg(person_id) INTO seen FROM gone;
  SELECT array_agg(p.id) INTO alone FROM people p
   WHERE p.id = ANY (seen) AND NOT p.is_platform
     AND NOT EXISTS (SELECT FROM memberships m WHERE m.person_id = p.id);
  -- Without a membership no session of theirs stands.
  DELETE FROM sessions WHERE person_id = ANY (alone);
  DELETE FROM people WHERE id = ANY (alone);
  RETURN coalesce(cardinality(seen), 0);
END $$;

ALTER FUNCTION begin_erasure() OWNER TO audit_gate;
ALTER FUNCTION erase_people(integer) OWNER TO audit_gate;
REVOKE ALL ON FUNCTION begin_erasure(), erase_people(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION begin_erasure() TO audit_app;
GRANT EXECUTE ON FUNCTION erase_people(integer) TO audit_worker;

-- As before, and an erasure is tried for days: nobody of the tenant is left to ask for it again.
CREATE OR REPLACE FUNCTION enqueue_job(kind text, id uuid) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'no tenant is bound';
  END IF;
  PERFORM graphile_worker.add_job('tenant_job', json_build_object('kind', kind, 'tenant', tenant, 'id', id),
                                  max_attempts => CASE kind WHEN 'erase' THEN 25 ELSE 5 END,
                                  job_key => tenant || '/' || kind || '/' || id);
END $$;

-- As before, without those that are being erased.
CREATE OR REPLACE FUNCTION tenants_to_seal(after uuid, most integer) RETURNS TABLE (tenant_id uuid)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT t.id FROM tenants t WHERE t.erasing_at IS NULL AND (after IS NULL OR t.id > after) ORDER BY t.id LIMIT most
$$;
