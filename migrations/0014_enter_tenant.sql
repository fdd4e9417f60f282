-- Why: every transaction looks where its tenant's tables are. A statement sent as text is planned anew each time; a
-- function keeps its plan.
-- Shares the lock that a move takes alone, puts the tenant's tables in sight, and says what the directory knows of its
-- place: as the caller, so that it finds no tenant but the one that is bound.
SET ROLE audit_owner;
CREATE FUNCTION enter_tenant(tenant uuid, OUT storage text, OUT erasing boolean)
  LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
  path text;
BEGIN
  PERFORM pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.hashtextextended('place of tenant ' || tenant, 0));
  SELECT t.home, t.storage, t.erasing_at IS NOT NULL INTO path, storage, erasing
    FROM public.tenants t WHERE t.id = tenant;
  IF path IS NOT NULL THEN
    PERFORM pg_catalog.set_config('search_path', path, true);
    -- To plan for every partition anew costs more than to read from the few that are asked.
    PERFORM pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
  END IF;
END
$$;
REVOKE ALL ON FUNCTION enter_tenant(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION enter_tenant(uuid) TO audit_app, audit_worker;
RESET ROLE;
