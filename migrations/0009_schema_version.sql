-- Why: a program that serves must see whether the schema is the one that it was built for, and refuse when it is not.
GRANT SELECT (version, success, checksum) ON _sqlx_migrations
  TO audit_owner, audit_app, audit_login, audit_worker, audit_platform;
