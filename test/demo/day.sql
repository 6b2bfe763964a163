-- A day in the CRM.
UPDATE deal SET stage = 'Closed Won' WHERE deal_id IN (3, 44);
INSERT INTO lead (name, company, email, source, created_at)
	VALUES ('Ingrid Åberg', 'Åberg & Döttrar AB', 'ingrid@example.com', 'Web form', '2026-05-04 08:15+02');
UPDATE contact SET email = 'anna.meyer+crm@example.com' WHERE contact_id = 34;
UPDATE organization SET credit_limit = 75000, city = 'Kiel' WHERE organization_id = 1;
