-- Why: as the directory's record of its migrations, that of these tables is seen by who serves and who works.
GRANT SELECT (version, success, checksum) ON _tenant_migrations TO audit_owner, audit_app, audit_worker;
