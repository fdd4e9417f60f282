-- Why: sealing goes through every tenant, and the wall shows a worker none but the bound one.
-- The ids of the tenants whose events are to be sealed, page by page, and nothing else of them.
CREATE FUNCTION tenants_to_seal(after uuid, most integer) RETURNS TABLE (tenant_id uuid)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT t.id FROM tenants t WHERE after IS NULL OR t.id > after ORDER BY t.id LIMIT most
$$;
ALTER FUNCTION tenants_to_seal(uuid, integer) OWNER TO audit_gate;
REVOKE ALL ON FUNCTION tenants_to_seal(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenants_to_seal(uuid, integer) TO audit_worker;
