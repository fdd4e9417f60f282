-- Why: who operates the service makes tenants and sees their sizes, and no row of any of them.
CREATE FUNCTION platform_usage(after uuid, most integer)
  RETURNS TABLE (tenant_id uuid, slug text, events bigint, bytes bigint)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT t.id, t.slug, e.events, e.bytes
    FROM (SELECT * FROM tenants WHERE after IS NULL OR id > after ORDER BY id LIMIT most) t
   CROSS JOIN LATERAL (SELECT count(*) AS events, coalesce(sum(pg_column_size(e.*)), 0)::bigint AS bytes
                         FROM events e WHERE e.tenant_id = t.id) e
   ORDER BY t.id
$$;

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
