-- Why: a stream goes on after a snapshot, and so must know which transaction wrote an event. A row itself tells only which
-- one put it where it is: another one once its tenant has moved, or the month that it belongs to is made. What was written
-- before this tells no better.
SET ROLE audit_owner;

ALTER TABLE events ADD COLUMN written_by xid8;
ALTER TABLE events ALTER COLUMN written_by SET DEFAULT pg_current_xact_id();

-- As before, and who wrote them goes with them.
CREATE OR REPLACE FUNCTION ensure_event_partitions(first date, last date) RETURNS void
  LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
  month date := date_trunc('month', first);
  next_month date;
  partition text;
  columns constant text := 'tenant_id, id, occurred_at, recorded_at, actor_id, actor_email, actor_name, action, '
    'target_type, target_id, target_name, outcome, source_ip, user_agent, external_id, details, written_by';
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

RESET ROLE;
