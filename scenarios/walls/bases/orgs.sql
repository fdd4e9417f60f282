CREATE ROLE app_owner NOLOGIN;
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated LOGIN NOSUPERUSER NOBYPASSRLS;
CREATE SCHEMA auth AUTHORIZATION app_owner;
CREATE SCHEMA private AUTHORIZATION app_owner;
GRANT CREATE, USAGE ON SCHEMA public TO app_owner;
GRANT USAGE ON SCHEMA public, auth, private TO authenticated;
SET ROLE app_owner;

CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
    RETURN (NULLIF(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE
    RETURN NULLIF(current_setting('request.jwt.claims', true), '')::jsonb;

CREATE TABLE public.orgs (org_id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE public.plans (name text PRIMARY KEY, seats integer NOT NULL);
CREATE TABLE public.members (
    org_id integer NOT NULL REFERENCES public.orgs (org_id),
    user_id uuid NOT NULL,
    is_admin boolean NOT NULL DEFAULT false,
    PRIMARY KEY (org_id, user_id)
);
CREATE INDEX ON public.members (user_id);
CREATE TABLE public.projects (
    org_id integer NOT NULL REFERENCES public.orgs (org_id),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    title text NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE TABLE public.tasks (
    org_id integer NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    project_id uuid NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, project_id) REFERENCES public.projects (org_id, id)
);
CREATE INDEX ON public.tasks (org_id, project_id);

ALTER TABLE public.orgs ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.members ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.orgs FORCE ROW LEVEL SECURITY;
ALTER TABLE public.members FORCE ROW LEVEL SECURITY;
ALTER TABLE public.projects FORCE ROW LEVEL SECURITY;
ALTER TABLE public.tasks FORCE ROW LEVEL SECURITY;

CREATE POLICY own_membership ON public.members FOR SELECT USING (user_id = (SELECT auth.uid()));
-- Reads through the policy above: its owner is bound by it, and it asks for the caller alone.
CREATE FUNCTION private.my_orgs() RETURNS integer[] LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
    $$ SELECT coalesce(array_agg(m.org_id), '{}') FROM public.members m WHERE m.user_id = (SELECT auth.uid()) $$;
REVOKE EXECUTE ON FUNCTION private.my_orgs() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION private.my_orgs() TO authenticated;

CREATE POLICY org_read ON public.orgs FOR SELECT TO authenticated USING (org_id = ANY ((SELECT private.my_orgs())::integer[]));
CREATE POLICY project_all ON public.projects TO authenticated
    USING (org_id = ANY ((SELECT private.my_orgs())::integer[])) WITH CHECK (org_id = ANY ((SELECT private.my_orgs())::integer[]));
CREATE POLICY task_all ON public.tasks TO authenticated
    USING (EXISTS (SELECT 1 FROM public.members m WHERE m.org_id = tasks.org_id AND m.user_id = (SELECT auth.uid())))
    WITH CHECK (EXISTS (SELECT 1 FROM public.members m WHERE m.org_id = tasks.org_id AND m.user_id = (SELECT auth.uid())));
GRANT SELECT ON public.orgs, public.plans, public.members TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.projects, public.tasks TO authenticated;
RESET ROLE;

INSERT INTO public.orgs VALUES (800100, 'acme'), (800200, 'globex');
INSERT INTO public.plans VALUES ('free', 3), ('team', 50);
INSERT INTO public.members VALUES
    (800100, 'aaaaaaaa-1111-4aaa-8aaa-aaaaaaaaaaaa', true), (800200, 'bbbbbbbb-2222-4bbb-8bbb-bbbbbbbbbbbb', true);
INSERT INTO public.projects VALUES
    (800100, 'a0000000-0000-4000-8000-000000000001', 'acme project'),
    (800200, 'b0000000-0000-4000-8000-000000000001', 'globex project');
INSERT INTO public.tasks VALUES
    (800100, 'a0000000-0000-4000-8000-00000000000d', 'a0000000-0000-4000-8000-000000000001', 'acme task'),
    (800200, 'b0000000-0000-4000-8000-00000000000d', 'b0000000-0000-4000-8000-000000000001', 'globex task');
