-- Why: who operates the service makes tenants and sees their sizes, and no row of any of them.
CREATE FUNCTION platform_usage(after uuid, most integer)
  RETURNS TABLE (tenant_id uuid, slug text, storage text, events bigint, bytes bigint)
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE home text;
BEGIN
  FOR tenant_id, slug, storage, home IN
    SELECT t.id, t.slug, t.storage, split_part(t.home, ',', 1) FROM tenants t
     WHERE after IS NULL OR t.id > after ORDER BY t.id LIMIT most
  LOOP
    events := 0;
    bytes := 0;
    -- Those in a database of their own are counted there.
    IF to_regclass(format('%I.events', home)) IS NOT NULL THEN
      EXECUTE format('SELECT count(*), coalesce(sum(pg_column_size(e.*)), 0)::bigint FROM %I.events e
                       WHERE e.tenant_id = $1', home) INTO events, bytes USING tenant_id;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;

CREATE FUNCTION platform_tenants() RETURNS bigint
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT count(*) FROM tenants
$$;

CREATE FUNCTION platform_create_tenant(tenant uuid, tenant_slug text, tenant_name text) RETURNS boolean
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  WITH made AS (
    INSERT INTO tenants (id, slug, name) VALUES (tenant, tenant_slug, tenant_name) ON CONFLICT DO NOTHING RETURNING 1)
  SELECT EXISTS (SELECT 1 FROM made)
$$;

ALTER FUNCTION platform_usage(uuid, integer) OWNER TO audit_gate;
ALTER FUNCTION platform_tenants() OWNER TO audit_gate;
ALTER FUNCTION platform_create_tenant(uuid, text, text) OWNER TO audit_gate;
REVOKE ALL ON FUNCTION platform_usage(uuid, integer), platform_tenants(),
  platform_create_tenant(uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform_usage(uuid, integer), platform_tenants(),
  platform_create_tenant(uuid, text, text) TO audit_platform;
