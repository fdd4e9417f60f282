CREATE ROLE billing_owner NOLOGIN;
CREATE ROLE billing_web LOGIN NOSUPERUSER NOBYPASSRLS;
GRANT CREATE, USAGE ON SCHEMA public TO billing_owner;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
SET ROLE billing_owner;

CREATE TABLE public.tenants (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL);
CREATE TABLE public.countries (iso char(2) PRIMARY KEY, name text NOT NULL);
CREATE TABLE public.invoices (
    tenant_id uuid NOT NULL REFERENCES public.tenants (id),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    number text NOT NULL,
    memo text NOT NULL,
    paid boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, number)
);
CREATE TABLE public.invoice_lines (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    position integer NOT NULL,
    description text NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, position),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES public.invoices (tenant_id, id) ON DELETE CASCADE
);

ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.tenants FORCE ROW LEVEL SECURITY;
ALTER TABLE public.invoices ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.invoices FORCE ROW LEVEL SECURITY;
ALTER TABLE public.invoice_lines ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.invoice_lines FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON public.tenants FOR SELECT
    USING (id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE POLICY tenant_isolation ON public.invoices
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid)
    WITH CHECK (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
CREATE POLICY tenant_isolation ON public.invoice_lines
    USING (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid)
    WITH CHECK (tenant_id = NULLIF(current_setting('app.current_tenant', true), '')::uuid);
GRANT SELECT ON public.tenants, public.countries TO billing_web;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.invoices, public.invoice_lines TO billing_web;
RESET ROLE;

INSERT INTO public.tenants VALUES
    ('aaaaaaaa-1111-4aaa-8aaa-aaaaaaaaaaaa', 'acme'), ('bbbbbbbb-2222-4bbb-8bbb-bbbbbbbbbbbb', 'globex');
INSERT INTO public.countries VALUES ('DE', 'Germany'), ('IE', 'Ireland');
INSERT INTO public.invoices (tenant_id, id, number, memo) VALUES
    ('aaaaaaaa-1111-4aaa-8aaa-aaaaaaaaaaaa', 'a0000000-0000-4000-8000-000000000001', '2026-1', 'acme one'),
    ('bbbbbbbb-2222-4bbb-8bbb-bbbbbbbbbbbb', 'b0000000-0000-4000-8000-000000000001', '2026-1', 'globex one'),
    ('bbbbbbbb-2222-4bbb-8bbb-bbbbbbbbbbbb', 'b0000000-0000-4000-8000-000000000002', '2026-9', 'globex nine');
INSERT INTO public.invoice_lines VALUES
    ('aaaaaaaa-1111-4aaa-8aaa-aaaaaaaaaaaa', 'a0000000-0000-4000-8000-000000000001', 1, 'acme line'),
    ('bbbbbbbb-2222-4bbb-8bbb-bbbbbbbbbbbb', 'b0000000-0000-4000-8000-000000000001', 1, 'globex line');
