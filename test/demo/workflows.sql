-- Four workflows, one for each content type; :url is the receiver's.

-- A deal is won: ask for an invoice (JSON, POST, Basic authentication), and
-- have the warehouse reserve the goods; the warehouse is down today, of which the
-- deal's owner and the admins are told by mail.
INSERT INTO webhook.admin VALUES ('dba@example.com'), ('crm-admin@example.com');
SELECT webhook.create_workflow('deal won', 'deal', 'save', $$stage = 'Closed Won'$$, 'change',
	owner_email => '${owner.email}',
	description => 'Ask for an invoice and reserve the goods') AS workflow_id;
SELECT webhook.create_action('deal won', 'invoice', :'url' || '/invoices',
	parameters => '{"deal.id": "${deal_id}", "deal.name": "${name}", "deal.was": "${old.stage}",
					"customer.name": "${organization_id.name}", "customer.vat": "${organization_id.vat_number}",
					"contact": "${contact_id.email}",
					"amount.net": "${amount}", "amount.total": "${= round(amount * 1.19, 2)}", "amount.currency": "${currency}",
					"lines": "${= (SELECT count(*) FROM deal_item i WHERE i.deal_id = new.deal_id)}",
					"due": "${close_date}", "paid": false,
					"reference": "Deal ${deal_id}, ${owner.name}"}',
	username => 'crm', password => 'correct horse battery staple') AS action_id;
SELECT webhook.create_action('deal won', 'reserve the goods', :'url' || '/warehouse/reservations',
	parameters => '{"deal": "${deal_id}", "event": "${webhook.id}"}') AS action_id;

-- A contact has a new address: tell the newsletter (FORM, PUT).
SELECT webhook.create_workflow('newsletter address', 'contact', 'update', $$newsletter AND email <> old.email$$) AS workflow_id;
SELECT webhook.create_action('newsletter address', 'newsletter', :'url' || '/subscribers/${contact_id}', 'PUT', 'FORM',
	parameters => '{"email": "${email}", "previous": "${old.email}",
					"name.first": "${first_name}", "name.last": "${last_name}"}') AS action_id;

-- A lead comes in: have it scored (JSONARRAY, POST).
SELECT webhook.create_workflow('lead came in', 'lead', 'create', $$source = 'Web form'$$) AS workflow_id;
SELECT webhook.create_action('lead came in', 'scoring', :'url' || '/scoring/batch', 'POST', 'JSONARRAY',
	parameters => '{"0.id": "${lead_id}", "0.email": "${email}", "0.company": "${company}", "0.score": "${score}",
					"0.received": "${created_at}"}',
	headers => '{"X-Source": "crm/${source}"}') AS action_id;

-- An organization changes: keep the bookkeeping's copy up to date (XML, PUT).
SELECT webhook.create_workflow('customer master data', 'organization') AS workflow_id;
SELECT webhook.create_action('customer master data', 'bookkeeping', :'url' || '/customers/${organization_id}', 'PUT', 'XML',
	parameters => '{"@id": "${organization_id}", "name": "${name}", "address.city": "${city}", "address.country": "${country}",
					"vat": "${vat_number}", "credit": "${credit_limit}"}') AS action_id;
