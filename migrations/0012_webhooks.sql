-- Why: a webhook's job sends whatever is due there, and comes back while something waits. All of a tenant's are in one
-- queue, of which one is worked at a time: a tenant whose receivers are slow holds up no other.
CREATE FUNCTION enqueue_webhooks(ids uuid[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'no tenant is bound';
  END IF;
  PERFORM graphile_worker.add_jobs(ARRAY(
    SELECT ROW('tenant_job', json_build_object('kind', 'webhook', 'tenant', tenant, 'id', id), 'webhooks of ' || tenant,
               NULL, 5, tenant || '/webhook/' || id, NULL, NULL)::graphile_worker.job_spec
      FROM unnest(ids) id));
END $$;

-- Lets a webhook's job of the bound tenant come back at an instant; an event that wakes it earlier does.
CREATE FUNCTION postpone_webhook(id uuid, at timestamptz) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'no tenant is bound';
  END IF;
  PERFORM graphile_worker.add_job('tenant_job', json_build_object('kind', 'webhook', 'tenant', tenant, 'id', id),
                                  queue_name => 'webhooks of ' || tenant, run_at => at, max_attempts => 5,
                                  job_key => tenant || '/webhook/' || id, job_key_mode => 'preserve_run_at');
END $$;

ALTER FUNCTION enqueue_webhooks(uuid[]) OWNER TO audit_gate;
ALTER FUNCTION postpone_webhook(uuid, timestamptz) OWNER TO audit_gate;
REVOKE ALL ON FUNCTION enqueue_webhooks(uuid[]), postpone_webhook(uuid, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION enqueue_webhooks(uuid[]) TO audit_app;
-- The one job that who works may enqueue: after one that it has just worked.
GRANT EXECUTE ON FUNCTION postpone_webhook(uuid, timestamptz) TO audit_worker;
