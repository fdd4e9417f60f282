CREATE ROLE clinic_ddl NOLOGIN;
CREATE ROLE clinic_acme NOLOGIN;
CREATE ROLE clinic_globex NOLOGIN;
CREATE ROLE clinic_service LOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS;
GRANT clinic_acme, clinic_globex TO clinic_service;
CREATE SCHEMA t_acme AUTHORIZATION clinic_ddl;
CREATE SCHEMA t_globex AUTHORIZATION clinic_ddl;
CREATE SCHEMA shared AUTHORIZATION clinic_ddl;
GRANT USAGE ON SCHEMA t_acme TO clinic_acme;
GRANT USAGE ON SCHEMA t_globex TO clinic_globex;
GRANT USAGE ON SCHEMA shared TO clinic_acme, clinic_globex;
SET ROLE clinic_ddl;

CREATE TABLE shared.icd (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE t_acme.patients (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE t_acme.visits (id integer PRIMARY KEY, patient integer NOT NULL REFERENCES t_acme.patients (id), report text NOT NULL);
CREATE TABLE t_globex.patients (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE t_globex.visits (id integer PRIMARY KEY, patient integer NOT NULL REFERENCES t_globex.patients (id), report text NOT NULL);
GRANT SELECT ON shared.icd TO clinic_acme, clinic_globex;
GRANT SELECT, INSERT, UPDATE, DELETE ON t_acme.patients, t_acme.visits TO clinic_acme;
GRANT SELECT, INSERT, UPDATE, DELETE ON t_globex.patients, t_globex.visits TO clinic_globex;
RESET ROLE;

INSERT INTO shared.icd VALUES ('J00', 'Common cold');
INSERT INTO t_acme.patients VALUES (1, 'acme Ann');
INSERT INTO t_acme.visits VALUES (1, 1, 'acme report');
INSERT INTO t_globex.patients VALUES (1, 'globex Bob');
INSERT INTO t_globex.visits VALUES (1, 1, 'globex report');
