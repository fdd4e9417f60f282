CREATE ROLE "Schema Besitzer" NOLOGIN;
CREATE ROLE "Web-Anwendung" LOGIN NOSUPERUSER NOBYPASSRLS;
CREATE SCHEMA "Kunden Daten" AUTHORIZATION "Schema Besitzer";
GRANT USAGE ON SCHEMA "Kunden Daten" TO "Web-Anwendung";
SET ROLE "Schema Besitzer";

CREATE TABLE "Kunden Daten"."Länder" ("Kürzel" text PRIMARY KEY);
CREATE TABLE "Kunden Daten"."Akte ""A""" (
    "Tenant Id" text NOT NULL CHECK ("Tenant Id" <> ''),
    "Nr." integer NOT NULL,
    "Inhalt" text NOT NULL,
    PRIMARY KEY ("Tenant Id", "Nr.")
);
CREATE TABLE "Kunden Daten"."Buchung" (
    "Tenant Id" text NOT NULL CHECK ("Tenant Id" <> ''),
    "Nr." integer NOT NULL,
    "Raum" text NOT NULL,
    "Zeit" tsrange NOT NULL,
    PRIMARY KEY ("Tenant Id", "Nr.")
);
ALTER TABLE "Kunden Daten"."Akte ""A""" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "Kunden Daten"."Akte ""A""" FORCE ROW LEVEL SECURITY;
ALTER TABLE "Kunden Daten"."Buchung" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "Kunden Daten"."Buchung" FORCE ROW LEVEL SECURITY;
CREATE POLICY "nur eigene" ON "Kunden Daten"."Akte ""A"""
    USING ("Tenant Id" = current_setting('mandant.nr', true));
CREATE POLICY "nur eigene" ON "Kunden Daten"."Buchung"
    USING ("Tenant Id" = current_setting('mandant.nr', true))
    WITH CHECK ("Tenant Id" = current_setting('mandant.nr', true));
GRANT SELECT ON "Kunden Daten"."Länder" TO "Web-Anwendung";
GRANT SELECT, INSERT, UPDATE, DELETE ON "Kunden Daten"."Akte ""A""", "Kunden Daten"."Buchung" TO "Web-Anwendung";
RESET ROLE;

INSERT INTO "Kunden Daten"."Länder" VALUES ('DE'), ('AT');
INSERT INTO "Kunden Daten"."Akte ""A""" VALUES ('acme', 1, 'acme Akte'), ('globex', 1, 'globex Akte'), ('globex', 2, 'globex geheim');
INSERT INTO "Kunden Daten"."Buchung" VALUES
    ('acme', 1, 'acme Saal', '[2026-03-01 09:00,2026-03-01 10:00)'),
    ('globex', 1, 'globex Saal', '[2026-03-02 09:00,2026-03-02 10:00)');
