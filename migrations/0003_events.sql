-- Why: the audit log itself, by month, so that retention drops and archives small pieces. A policy on the parent does
-- not protect a partition that is named directly: every partition gets its own, and nobody who serves has rights on one.
SET ROLE audit_owner;

CREATE TABLE events (
  tenant_id   uuid NOT NULL REFERENCES tenants (id),
  id          uuid NOT NULL,
  occurred_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  actor_id    uuid NOT NULL,
  actor_email text NOT NULL,
  actor_name  text NOT NULL,
  action      text NOT NULL,
  target_type text NOT NULL,
  target_id   text NOT NULL,
  target_name text NOT NULL,
  outcome     text NOT NULL DEFAULT 'success' CHECK (outcome IN ('success', 'failure')),
  source_ip   inet,
  user_agent  text,
  external_id text,
  details     jsonb NOT NULL DEFAULT '{}',
  search      tsvector GENERATED ALWAYS AS (to_tsvector('simple',
                action || ' ' || actor_name || ' ' || actor_email || ' ' || target_type || ' ' || target_id || ' ' ||
                target_name || ' ' || coalesce(user_agent, '') || ' ' || coalesce(external_id, ''))) STORED,
  PRIMARY KEY (tenant_id, occurred_at, id)
) PARTITION BY RANGE (occurred_at);
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON events
  USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
CREATE INDEX events_by_id ON events (tenant_id, id);
CREATE INDEX events_by_actor ON events (tenant_id, actor_id, occurred_at DESC, id DESC);
-- GIN cannot lead with the tenant; the policy and the predicate still decide which of its hits are seen.
CREATE INDEX events_search ON events USING gin (search);
GRANT SELECT, INSERT ON events TO audit_app;
GRANT SELECT, DELETE ON events TO audit_worker;

-- Walls in one partition: row security of its own, rights for nobody.
CREATE FUNCTION wall_partition(partition regclass) RETURNS void
  LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', partition);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', partition);
  EXECUTE format($policy$CREATE POLICY own_tenant ON %s
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$, partition);
END $$;

-- Makes the monthly partitions that hold `first` to `last`; those that are there stay as they are.
CREATE FUNCTION ensure_event_partitions(first date, last date) RETURNS void
  LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  month date := date_trunc('month', first);
  partition text;
BEGIN
  WHILE month <= last LOOP
    partition := 'events_' || to_char(month, 'YYYY_MM');
    IF to_regclass(partition) IS NULL THEN
      EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
                     partition, month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
      PERFORM wall_partition(to_regclass(partition));
    END IF;
    month := month + interval '1 month';
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION wall_partition(regclass), ensure_event_partitions(date, date) FROM PUBLIC;

CREATE TABLE events_other PARTITION OF events DEFAULT;
SELECT wall_partition('events_other');
SELECT ensure_event_partitions((now() - interval '13 months')::date, (now() + interval '2 months')::date);

RESET ROLE;
