-- Why: each part of the service connects with no more rights than it needs. The owner never serves; those who serve own
-- nothing and bypass nothing. Roles belong to the cluster, so they may exist already, or be made at this moment by the
-- migration of another database. None is given a password: whoever deploys decides how each proves itself.

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['audit_owner', 'audit_app', 'audit_login', 'audit_worker', 'audit_platform'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', name);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL;
    END;
  END LOOP;
END $$;

-- Nobody gets anything by being here.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
DO $$
BEGIN
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO audit_owner, audit_app, audit_login, audit_worker, audit_platform',
                 current_database());
END $$;
ALTER DEFAULT PRIVILEGES FOR ROLE audit_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO audit_owner;
GRANT USAGE ON SCHEMA public TO audit_app, audit_login, audit_worker, audit_platform;

-- The directory, which says who belongs where, is in `public`; the tables that tenants share are in a schema of their
-- own, so that a tenant with a place of its own never falls back to them. Whoever says no path finds both.
CREATE SCHEMA shared AUTHORIZATION audit_owner;
GRANT USAGE ON SCHEMA shared TO audit_app, audit_worker;
DO $$
BEGIN
  EXECUTE format('ALTER DATABASE %I SET search_path = public, shared, pg_temp', current_database());
END $$;
