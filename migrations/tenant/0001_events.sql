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
CREATE INDEX events_by_target ON events (tenant_id, target_type, target_id, occurred_at DESC, id DESC);
-- No GIN on `search`: `@@` is not leakproof, so behind row security the planner may never use it as an index condition.
-- A search walks the tenant's own index instead, and what is kept spares it from parsing every row.
GRANT SELECT, INSERT ON events TO audit_app;
GRANT SELECT, DELETE ON events TO audit_worker;
GRANT SELECT ON events TO audit_gate;

-- Walls in one partition: row security of its own, rights for nobody.
CREATE FUNCTION wall_partition(partition regclass) RETURNS void
  LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', partition);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', partition);
  EXECUTE format($policy$CREATE POLICY own_tenant ON %s
    USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$, partition);
END $$;

-- Makes the monthly partitions that hold `first` to `last`; those that are there stay as they are. Rows that waited in
-- the default partition for their month move into it: while they stayed, Postgres would refuse to make it.
CREATE FUNCTION ensure_event_partitions(first date, last date) RETURNS void
  LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
  month date := date_trunc('month', first);
  next_month date;
  partition text;
  columns constant text := 'tenant_id, id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, '
    'target_type, target_id, target_name, outcome, source_ip, user_agent, external_id, details';
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('event partitions of ' || current_schema()));
  WHILE month <= last LOOP
    partition := 'events_' || to_char(month, 'YYYY_MM');
    next_month := month + interval '1 month';
    IF to_regclass(partition) IS NULL THEN
      -- Until this transaction ends nobody else sees any of these relations, or `events_other` without its wall.
      CREATE TABLE events_moving (LIKE events);
      ALTER TABLE events_other NO FORCE ROW LEVEL SECURITY;
      WITH moved AS (DELETE FROM events_other WHERE occurred_at >= month::timestamptz
                        AND occurred_at < next_month::timestamptz RETURNING *)
      INSERT INTO events_moving SELECT * FROM moved;
      ALTER TABLE events_other FORCE ROW LEVEL SECURITY;
      EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
                     partition, month::timestamptz, next_month::timestamptz);
      EXECUTE format('INSERT INTO %I (%s) SELECT %s FROM events_moving', partition, columns, columns);
      DROP TABLE events_moving;
      PERFORM wall_partition(to_regclass(partition));
    END IF;
    month := next_month;
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION wall_partition(regclass), ensure_event_partitions(date, date) FROM PUBLIC;

CREATE TABLE events_other PARTITION OF events DEFAULT;
SELECT wall_partition('events_other');
SELECT ensure_event_partitions((now() - interval '13 months')::date, (now() + interval '2 months')::date);

RESET ROLE;
