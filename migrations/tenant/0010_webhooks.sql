-- Why: events told to a tenant's own receivers. A delivery is written in the transaction of its event, so that none is
-- forgotten; a job sends it, and reads the event again behind the tenant's wall. No secret is kept: what a webhook signs
-- with is derived from a key of the service, its tenant, its id and a version.
SET ROLE audit_owner;

CREATE TABLE webhooks (
  tenant_id      uuid NOT NULL REFERENCES tenants (id),
  id             uuid NOT NULL,
  url            text NOT NULL,
  -- Whole actions, or how they begin, before a `*`; none means all.
  actions        jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(actions) = 'array'),
  enabled        boolean NOT NULL DEFAULT true,
  created_by     uuid NOT NULL,
  -- Who made or last changed it: nothing is sent once this person manages the tenant no more.
  kept_by        uuid NOT NULL,
  secret_version integer NOT NULL DEFAULT 1,
  rotated_at     timestamptz,
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);

-- No reference to `events`, which retention removes; one whose event is gone is never sent.
CREATE TABLE webhook_deliveries (
  tenant_id       uuid NOT NULL REFERENCES tenants (id),
  id              uuid NOT NULL,
  webhook_id      uuid NOT NULL,
  event_id        uuid NOT NULL,
  state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed', 'cancelled')),
  attempts        integer NOT NULL DEFAULT 0,
  due_at          timestamptz NOT NULL DEFAULT now(),
  last_status     integer,
  last_error      text,
  last_attempt_at timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id)
);
CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (tenant_id, webhook_id, id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (tenant_id, webhook_id, due_at) WHERE state = 'waiting';

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['webhooks', 'webhook_deliveries'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format($policy$CREATE POLICY own_tenant ON %I
      USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
      WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$, name);
  END LOOP;
END $$;

GRANT SELECT, DELETE, INSERT (tenant_id, id, url, actions, enabled, created_by, kept_by) ON webhooks TO audit_app;
GRANT UPDATE (url, actions, enabled, kept_by, secret_version, rotated_at, updated_at) ON webhooks TO audit_app;
GRANT SELECT, DELETE, INSERT (tenant_id, id, webhook_id, event_id) ON webhook_deliveries TO audit_app;
GRANT UPDATE (state, due_at) ON webhook_deliveries TO audit_app;
GRANT SELECT ON webhooks TO audit_worker;
GRANT SELECT, DELETE, UPDATE (state, attempts, due_at, last_status, last_error, last_attempt_at) ON webhook_deliveries
  TO audit_worker;

RESET ROLE;
