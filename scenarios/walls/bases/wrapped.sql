CREATE ROLE ledger_ddl NOLOGIN;
CREATE ROLE ledger_rw LOGIN NOSUPERUSER NOBYPASSRLS;
CREATE SCHEMA auth AUTHORIZATION ledger_ddl;
CREATE SCHEMA ledger AUTHORIZATION ledger_ddl;
GRANT USAGE ON SCHEMA auth, ledger TO ledger_rw;
SET ROLE ledger_ddl;

CREATE FUNCTION auth.tenant() RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
BEGIN
    RETURN NULLIF(current_setting('ledger.tenant', true), '')::bigint;
END $$;

CREATE TABLE ledger.companies (tenant_id bigint PRIMARY KEY, title text NOT NULL);
CREATE TABLE ledger.units (symbol text PRIMARY KEY, factor numeric NOT NULL);
CREATE TABLE ledger.entries (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id bigint NOT NULL REFERENCES ledger.companies (tenant_id),
    reference text NOT NULL,
    meta jsonb NOT NULL DEFAULT '{}',
    deleted_at timestamptz,
    UNIQUE (tenant_id, id),
    UNIQUE (tenant_id, reference)
);
CREATE TABLE ledger.postings (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id bigint NOT NULL,
    entry_id uuid NOT NULL,
    amount numeric NOT NULL,
    text text NOT NULL,
    FOREIGN KEY (tenant_id, entry_id) REFERENCES ledger.entries (tenant_id, id)
);
CREATE INDEX ON ledger.postings (tenant_id, entry_id);

ALTER TABLE ledger.companies ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger.companies FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger.entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger.entries FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger.postings ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger.postings FORCE ROW LEVEL SECURITY;
CREATE POLICY companies_read ON ledger.companies FOR SELECT TO ledger_rw USING (tenant_id = (SELECT auth.tenant()));
CREATE POLICY entries_all ON ledger.entries TO ledger_rw
    USING (tenant_id = (SELECT auth.tenant())) WITH CHECK (tenant_id = (SELECT auth.tenant()));
CREATE POLICY postings_all ON ledger.postings TO ledger_rw
    USING (tenant_id = (SELECT auth.tenant())) WITH CHECK (tenant_id = (SELECT auth.tenant()));
GRANT SELECT ON ledger.companies, ledger.units TO ledger_rw;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.entries, ledger.postings TO ledger_rw;
RESET ROLE;

INSERT INTO ledger.companies VALUES (800100, 'acme'), (800200, 'globex');
INSERT INTO ledger.units VALUES ('EUR', 1), ('ct', 0.01);
INSERT INTO ledger.entries (id, tenant_id, reference, meta) VALUES
    ('a0000000-0000-4000-8000-000000000001', 800100, 'acme-1', '{"tenant": "800100"}'),
    ('b0000000-0000-4000-8000-000000000001', 800200, 'globex-1', '{"tenant": "800200"}'),
    ('b0000000-0000-4000-8000-000000000002', 800200, 'globex-2', '{"tenant": "globex code name"}');
INSERT INTO ledger.postings (tenant_id, entry_id, amount, text) VALUES
    (800100, 'a0000000-0000-4000-8000-000000000001', 5, 'acme posting'),
    (800200, 'b0000000-0000-4000-8000-000000000001', 9, 'globex posting');
