-- Why: whoever looks for holes in the wall looks into tenants' own databases too, and the wall shows nobody which these
-- are. Those who may list tenants may: each by a function of its own, since one that crosses the wall has one caller.
CREATE FUNCTION platform_databases(after uuid, most integer) RETURNS TABLE (tenant_id uuid)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT t.id FROM tenants t
   WHERE t.storage = 'database' AND t.erased_at IS NULL AND (after IS NULL OR t.id > after) ORDER BY t.id LIMIT most
$$;

CREATE FUNCTION worker_databases(after uuid, most integer) RETURNS TABLE (tenant_id uuid)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT t.id FROM tenants t
   WHERE t.storage = 'database' AND t.erased_at IS NULL AND (after IS NULL OR t.id > after) ORDER BY t.id LIMIT most
$$;

ALTER FUNCTION platform_databases(uuid, integer) OWNER TO audit_gate;
ALTER FUNCTION worker_databases(uuid, integer) OWNER TO audit_gate;
REVOKE ALL ON FUNCTION platform_databases(uuid, integer), worker_databases(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION platform_databases(uuid, integer) TO audit_platform;
GRANT EXECUTE ON FUNCTION worker_databases(uuid, integer) TO audit_worker;
