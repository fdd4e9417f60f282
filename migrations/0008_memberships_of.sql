-- Why: who belongs to several tenants chooses one by its name, and behind the wall no tenant sees another's name. The
-- gate answers it for one person, who has proved itself: its own memberships and nothing else.
CREATE FUNCTION memberships_of(person uuid)
  RETURNS TABLE (tenant_id uuid, tenant_name text, role text, display_name text)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT m.tenant_id, t.name, m.role, m.display_name
    FROM memberships m JOIN tenants t ON t.id = m.tenant_id
   WHERE m.person_id = person
   ORDER BY lower(t.name), m.tenant_id
$$;
ALTER FUNCTION memberships_of(uuid) OWNER TO audit_gate;
REVOKE ALL ON FUNCTION memberships_of(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION memberships_of(uuid) TO audit_login;
