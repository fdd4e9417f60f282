CREATE ROLE crm_migrator NOLOGIN;
CREATE ROLE crm_api LOGIN NOSUPERUSER NOBYPASSRLS;
CREATE SCHEMA crm AUTHORIZATION crm_migrator;
GRANT USAGE ON SCHEMA crm TO crm_api;
SET ROLE crm_migrator;

CREATE FUNCTION crm.current_account() RETURNS uuid LANGUAGE sql STABLE
    RETURN NULLIF(current_setting('crm.account', true), '')::uuid;

CREATE TABLE crm.accounts (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE crm.stages (name text PRIMARY KEY, position integer NOT NULL);
CREATE TABLE crm.contacts (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL DEFAULT crm.current_account() REFERENCES crm.accounts (id),
    email text NOT NULL,
    remark text NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE UNIQUE INDEX ON crm.contacts (account_id, lower(email));
CREATE TABLE crm.deals (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL DEFAULT crm.current_account() REFERENCES crm.accounts (id),
    contact_id uuid NOT NULL,
    title text NOT NULL,
    opened_by text NOT NULL DEFAULT current_user,
    PRIMARY KEY (account_id, id),
    FOREIGN KEY (account_id, contact_id) REFERENCES crm.contacts (account_id, id) ON DELETE CASCADE
);

ALTER TABLE crm.accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE crm.accounts FORCE ROW LEVEL SECURITY;
ALTER TABLE crm.contacts ENABLE ROW LEVEL SECURITY;
ALTER TABLE crm.contacts FORCE ROW LEVEL SECURITY;
ALTER TABLE crm.deals ENABLE ROW LEVEL SECURITY;
ALTER TABLE crm.deals FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON crm.accounts FOR SELECT USING (id = crm.current_account());
CREATE POLICY mine ON crm.contacts USING (account_id = crm.current_account());
CREATE POLICY mine ON crm.deals USING (account_id = crm.current_account());
GRANT SELECT ON crm.accounts, crm.stages TO crm_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON crm.contacts, crm.deals TO crm_api;
RESET ROLE;

INSERT INTO crm.accounts VALUES
    ('aaaaaaaa-1111-4aaa-8aaa-aaaaaaaaaaaa', 'acme'), ('bbbbbbbb-2222-4bbb-8bbb-bbbbbbbbbbbb', 'globex');
INSERT INTO crm.stages VALUES ('lead', 1), ('won', 2);
INSERT INTO crm.contacts (id, account_id, email, remark) VALUES
    ('a0000000-0000-4000-8000-000000000001', 'aaaaaaaa-1111-4aaa-8aaa-aaaaaaaaaaaa', 'ann@acme.test', 'acme contact'),
    ('b0000000-0000-4000-8000-000000000001', 'bbbbbbbb-2222-4bbb-8bbb-bbbbbbbbbbbb', 'bob@globex.test', 'globex contact');
INSERT INTO crm.deals (id, account_id, contact_id, title, opened_by) VALUES
    ('a0000000-0000-4000-8000-00000000000d', 'aaaaaaaa-1111-4aaa-8aaa-aaaaaaaaaaaa', 'a0000000-0000-4000-8000-000000000001', 'acme deal', 'crm_api'),
    ('b0000000-0000-4000-8000-00000000000d', 'bbbbbbbb-2222-4bbb-8bbb-bbbbbbbbbbbb', 'b0000000-0000-4000-8000-000000000001', 'globex deal', 'crm_api');
