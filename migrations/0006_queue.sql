-- Why: work that outlives a request. The queue is a kept library's, in a schema of its own that `audit-api migrate`
-- brings up to date; a job there is made in the transaction of the row that it is about, and names a kind, a tenant and
-- that row, nothing else. Who serves may only enqueue, for the bound tenant; who works may not. What a job named is
-- believed only when the tenant, bound as for a request, shows the row: else the job ends in `dead_jobs`.
CREATE SCHEMA graphile_worker AUTHORIZATION audit_owner;
SET ROLE audit_owner;

-- The library's own first table, made here because the library would need the right to make schemas for it.
CREATE TABLE graphile_worker.migrations (
  id       integer PRIMARY KEY,
  ts       timestamptz NOT NULL DEFAULT now(),
  breaking boolean NOT NULL DEFAULT false
);

-- Not a tenant table: what operators learn of jobs that were refused or given up, the tenant only as the log has it.
CREATE TABLE dead_jobs (
  id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  kind        text NOT NULL,
  reason      text NOT NULL,
  tenant_hash text,
  at          timestamptz NOT NULL DEFAULT now()
);
GRANT INSERT ON dead_jobs TO audit_worker;
GRANT SELECT ON dead_jobs TO audit_platform;

-- Gives each role its part of the library's tables. The gate, which enqueues, may bypass row security; to the worker
-- the tables are opened by a policy, since none of them is a tenant's; to everybody else they stay shut.
CREATE FUNCTION wall_queue() RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE relation regclass;
BEGIN
  GRANT USAGE ON SCHEMA graphile_worker TO audit_worker, audit_gate;
  GRANT SELECT ON graphile_worker.migrations TO audit_worker;
  GRANT SELECT, INSERT ON graphile_worker._private_tasks TO audit_worker, audit_gate;
  GRANT SELECT, UPDATE, DELETE ON graphile_worker._private_jobs TO audit_worker;
  GRANT SELECT, UPDATE ON graphile_worker._private_job_queues TO audit_worker;
  GRANT SELECT ON graphile_worker._private_job_retirements TO audit_worker;
  GRANT SELECT, INSERT, UPDATE, DELETE ON graphile_worker._private_workers TO audit_worker;
  GRANT SELECT, INSERT, UPDATE, DELETE ON graphile_worker._private_jobs TO audit_gate;
  GRANT SELECT, INSERT ON graphile_worker._private_job_queues, graphile_worker._private_job_retirements TO audit_gate;
  GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA graphile_worker TO audit_worker;
  GRANT EXECUTE ON FUNCTION graphile_worker.add_job, graphile_worker.add_jobs, graphile_worker.remove_job
    TO audit_gate;
  FOR relation IN SELECT c.oid FROM pg_class c
                   WHERE c.relnamespace = 'graphile_worker'::regnamespace AND c.relrowsecurity LOOP
    EXECUTE format('DROP POLICY IF EXISTS works ON %s', relation);
    EXECUTE format('CREATE POLICY works ON %s TO audit_worker USING (true) WITH CHECK (true)', relation);
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION wall_queue() FROM PUBLIC;

RESET ROLE;

-- Enqueues work on a row of the bound tenant; once, however often it is asked for before the work begins.
CREATE FUNCTION enqueue_job(kind text, id uuid) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'no tenant is bound';
  END IF;
  PERFORM graphile_worker.add_job('tenant_job', json_build_object('kind', kind, 'tenant', tenant, 'id', id),
                                  max_attempts => 5, job_key => tenant || '/' || kind || '/' || id);
END $$;

-- Takes back what was enqueued for a row of the bound tenant, unless it has begun.
CREATE FUNCTION withdraw_job(kind text, id uuid) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'no tenant is bound';
  END IF;
  PERFORM graphile_worker.remove_job(tenant || '/' || kind || '/' || id);
END $$;

ALTER FUNCTION enqueue_job(text, uuid) OWNER TO audit_gate;
ALTER FUNCTION withdraw_job(text, uuid) OWNER TO audit_gate;
REVOKE ALL ON FUNCTION enqueue_job(text, uuid), withdraw_job(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION enqueue_job(text, uuid), withdraw_job(text, uuid) TO audit_app;
