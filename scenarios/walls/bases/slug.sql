CREATE ROLE shop_owner NOLOGIN;
CREATE ROLE shop_app LOGIN NOSUPERUSER NOBYPASSRLS;
CREATE SCHEMA shop AUTHORIZATION shop_owner;
GRANT USAGE ON SCHEMA shop TO shop_app;
SET ROLE shop_owner;

CREATE TABLE shop.tenants (id text PRIMARY KEY CHECK (id <> ''), legal_name text NOT NULL);
CREATE TABLE shop.currencies (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE shop.customers (
    tenant text NOT NULL REFERENCES shop.tenants (id),
    id integer NOT NULL,
    email text NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, email)
);
CREATE TABLE shop.orders (
    tenant text NOT NULL REFERENCES shop.tenants (id),
    id integer NOT NULL,
    customer integer NOT NULL,
    note text NOT NULL,
    total numeric NOT NULL DEFAULT 0,
    deleted_at timestamptz,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, customer) REFERENCES shop.customers (tenant, id)
);

ALTER TABLE shop.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE shop.tenants FORCE ROW LEVEL SECURITY;
ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY;
ALTER TABLE shop.customers FORCE ROW LEVEL SECURITY;
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE shop.orders FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.tenants FOR SELECT USING (id = current_setting('shop.tenant', true));
CREATE POLICY own ON shop.customers USING (tenant = current_setting('shop.tenant', true));
CREATE POLICY read ON shop.orders FOR SELECT USING (tenant = current_setting('shop.tenant', true));
CREATE POLICY add ON shop.orders FOR INSERT WITH CHECK (tenant = current_setting('shop.tenant', true));
CREATE POLICY change ON shop.orders FOR UPDATE
    USING (tenant = current_setting('shop.tenant', true))
    WITH CHECK (tenant = current_setting('shop.tenant', true));
CREATE POLICY remove ON shop.orders FOR DELETE USING (tenant = current_setting('shop.tenant', true));
GRANT SELECT ON shop.tenants, shop.currencies TO shop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.customers, shop.orders TO shop_app;
RESET ROLE;

INSERT INTO shop.tenants VALUES ('acme', 'Acme Ltd'), ('globex', 'Globex GmbH globex');
INSERT INTO shop.currencies VALUES ('EUR', 'Euro'), ('GBP', 'Pound');
INSERT INTO shop.customers VALUES ('acme', 1, 'ann@acme.test'), ('globex', 1, 'bob@globex.test'), ('globex', 2, 'bea@globex.test');
INSERT INTO shop.orders VALUES
    ('acme', 1, 1, 'acme first', 10), ('acme', 2, 1, 'acme second', 20),
    ('globex', 1, 1, 'globex first', 30), ('globex', 7, 2, 'globex seventh', 70);
