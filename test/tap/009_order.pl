# Order within a record, limits on requests in flight and on requests a second,
# signatures.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Digest::SHA qw(hmac_sha256_base64);
use MIME::Base64;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookTest;

my $node = start_cluster('order', conf => "webhook.workers_per_database = 2\nmax_worker_processes = 16");
my $receiver = start_receiver();

$node->safe_psql('postgres', q{
	CREATE TABLE deal (id int PRIMARY KEY, v int);
	SELECT webhook.create_workflow('deals', 'deal')});

sub action
{
	my ($path, $options) = @_;

	return $node->safe_psql('postgres', "SELECT webhook.create_action('deals', 'a', '"
		. $receiver->url($path) . "', parameters => '{\"id\": \"\${id}\", \"v\": \"\${v}\"}', $options)");
}

# Two workers share the work.
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook worker'})
	=~ /^[12]$/, 1, 'workers');

# ordered: ten records, each saved twenty times, by a receiver that takes its
# time; one record's requests come one after the other.
my $action = action('/slow?ms=20', 'ordered => true');
$node->safe_psql('postgres', q{
	INSERT INTO deal SELECT i, 0 FROM generate_series(1, 10) i;
	DO $$ BEGIN FOR v IN 1..20 LOOP UPDATE deal SET v = v.v FROM (SELECT v) v; COMMIT; END LOOP; END $$});
ok(wait_for_delivery($node), 'ordered deliveries end');
my %last;
my $disorder = 0;
my $twice = 0;
my @requests = $receiver->requests;
for my $request (sort { $a->{time} <=> $b->{time} } @requests)
{
	my ($id, $v) = $request->{body} =~ /"id": (\d+), "v": (\d+)/;

	$disorder++ if defined $last{$id} && $v != $last{$id}{v} + 1;
	$twice++ if defined $last{$id} && $request->{time} < $last{$id}{time} + 0.019;
	$last{$id} = { v => $v, time => $request->{time} };
}
is(scalar @requests, 210, 'each once');
is($disorder, 0, 'a record\'s deliveries arrive in commit order');
is($twice, 0, 'each after the one before has ended');

# A failed one holds up its record only.
$node->safe_psql('postgres', "SELECT webhook.alter_action($action, url => '" . $receiver->url('/held/${id}') . "')");
$node->safe_psql('postgres', 'UPDATE deal SET v = 100 WHERE id > 2');
$node->safe_psql('postgres', "SELECT webhook.alter_action($action, url => '" . $receiver->url('/status/503?${id}') . "')")
  if wait_for_delivery($node);
$node->safe_psql('postgres', 'UPDATE deal SET v = 101 WHERE id = 1');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Failed'}, '1'), 'one fails');
$node->safe_psql('postgres', "SELECT webhook.alter_action($action, url => '" . $receiver->url('/ok') . "')");
$node->safe_psql('postgres', 'UPDATE deal SET v = 102 WHERE id <= 2');
ok(wait_for_sql($node, q{SELECT string_agg(status::text, ' ' ORDER BY log_id) FROM webhook.webhook_log
	WHERE record_id IN ('1', '2') AND (record->>'v')::int > 100}, 'Failed Queued Success'),
	'it holds up its own record, and no other');
is($node->safe_psql('postgres', q{SELECT webhook.wait()}), 't', 'what waits for it is not due');
is($node->safe_psql('postgres', "SELECT queued, retrying, oldest_due IS NULL FROM webhook.stat_action WHERE action_id = $action"), '1|1|t', 'nor is it in stat_action');
turn_clock($node);
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status <> 'Success'}, '0'),
	'and then they go');
is(join(' ', map { $_->{body} =~ /"v": (\d+)/ } grep { $_->{body} =~ /"id": 1,/ } ($receiver->requests('/ok'))),
	'101 102', 'in order');

# One that is deleted by hand holds up nothing any more, and the worker is told: its next survey is half a minute away.
$node->safe_psql('postgres', "SELECT webhook.alter_action($action, url => '" . $receiver->url('/status/503') . "')");
$node->safe_psql('postgres', 'UPDATE deal SET v = 103 WHERE id = 1');
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status = 'Failed'}, '1'), 'one fails');
$node->safe_psql('postgres', "SELECT webhook.alter_action($action, url => '" . $receiver->url('/ok') . "')");
$node->safe_psql('postgres', 'UPDATE deal SET v = 104 WHERE id = 1');
my $deleted_at = time;
$node->safe_psql('postgres', q{DELETE FROM webhook.webhook_log WHERE status = 'Failed'});
ok(wait_for_sql($node, q{SELECT count(*) FROM webhook.webhook_log WHERE status <> 'Success'}, '0'),
	'the one behind a deleted one goes');
cmp_ok(time - $deleted_at, '<', 20, 'at once');
$node->safe_psql('postgres', "SELECT webhook.drop_action($action)");

# max_in_flight: never more than so many at the same time, over both workers.
$action = action('/slow?ms=50&limit', 'max_in_flight => 3');
$node->safe_psql('postgres', 'UPDATE deal SET v = 200; UPDATE deal SET v = 201; UPDATE deal SET v = 202');
ok(wait_for_delivery($node), 'limited deliveries end');
my @at = sort { $a <=> $b } map { $_->{time} } grep { $_->{body} =~ /"v": 20[0-2]/ } $receiver->requests;
is(scalar @at, 30, 'all of them');
my $most = 0;
for my $i (0 .. $#at)
{
	my $n = grep { $_ > $at[$i] - 0.049 && $_ <= $at[$i] } @at;

	$most = $n if $n > $most;
}
cmp_ok($most, '<=', 3, 'at most three at the same time');
$node->safe_psql('postgres', "SELECT webhook.drop_action($action)");

# rate_limit: no second has more.
$action = action('/rate', 'rate_limit => 20');
$node->safe_psql('postgres', 'UPDATE deal SET v = 300; UPDATE deal SET v = 301; UPDATE deal SET v = 302; UPDATE deal SET v = 303');
ok(wait_for_delivery($node), 'paced deliveries end');
@at = sort { $a <=> $b } map { $_->{time} } $receiver->requests('/rate');
is(scalar @at, 40, 'all of them');
$most = 0;
for my $i (0 .. $#at)
{
	my $n = grep { $_ > $at[$i] - 0.99 && $_ <= $at[$i] } @at;

	$most = $n if $n > $most;
}
cmp_ok($most, '<=', 21, 'no more than twenty a second');
$node->safe_psql('postgres', "SELECT webhook.drop_action($action)");

# A limit that is hardly one holds nothing up.
$action = action('/fast', 'rate_limit => 100000');
$node->safe_psql('postgres', 'UPDATE deal SET v = 310');
ok(wait_for_delivery($node), 'a high rate limit');
$node->safe_psql('postgres', "SELECT webhook.drop_action($action)");

# What waits for its turn is not claimed, and can be canceled.
$action = action('/slowly', 'rate_limit => 1');
$node->safe_psql('postgres', 'UPDATE deal SET v = 304');
ok(wait_for_sql($node, "SELECT status FROM webhook.webhook_log l WHERE action_id = $action AND status <> 'Success'
	AND EXISTS (SELECT FROM webhook.webhook_log e WHERE e.action_id = l.action_id AND e.status = 'Success') ORDER BY log_id LIMIT 1", 'Queued'),
	'one is sent, and the next one waits');
my $canceled = $node->safe_psql('postgres', "SELECT max(log_id) FROM webhook.webhook_log WHERE action_id = $action");
$node->safe_psql('postgres', "SELECT webhook.cancel($canceled)");
ok(wait_for_sql($node, "SELECT count(*) >= 2 FROM webhook.webhook_log WHERE action_id = $action AND status = 'Success'", 't'), 'it goes');
is($node->safe_psql('postgres', "SELECT status, error FROM webhook.webhook_log WHERE log_id = $canceled"), 'Failed|canceled', 'but not the last one');
@at = map { $_->{time} } $receiver->requests('/slowly');
cmp_ok($at[1] - $at[0], '>=', 0.98, 'in its time');
$node->safe_psql('postgres', "SELECT webhook.drop_action($action)");

# One that somebody held when its turn came is looked at again soon after.
$action = action('/slow?ms=1500&held', 'ordered => true');
my $holder = $node->background_psql('postgres');
$node->safe_psql('postgres', 'UPDATE deal SET v = 300 WHERE id = 1; UPDATE deal SET v = 301 WHERE id = 1');
my $held = "FROM webhook.webhook_log WHERE action_id = $action";
ok(wait_for_sql($node, "SELECT string_agg(status::text, ' ' ORDER BY log_id) $held", 'Dispatched Queued'), 'one is under way, the next one waits');
$holder->query_safe("BEGIN; SELECT FROM webhook.webhook_log WHERE log_id = (SELECT max(log_id) $held) FOR UPDATE");
ok(wait_for_sql($node, "SELECT string_agg(status::text, ' ' ORDER BY log_id) $held", 'Success Queued'), 'and is held when its turn comes');
$holder->query_safe('ROLLBACK');
$holder->quit;
my $released_at = time;
ok(wait_for_sql($node, "SELECT string_agg(status::text, ' ' ORDER BY log_id) $held", 'Success Success'), 'once it is let go it is sent');
cmp_ok(time - $released_at, '<', 10, 'soon');
$node->safe_psql('postgres', "SELECT webhook.drop_action($action)");

# So is one that somebody held when it was new.
$action = action('/held', 'ordered => true');
$held = "FROM webhook.webhook_log WHERE action_id = $action";
$node->append_conf('postgresql.conf', 'webhook.enabled = off');
$node->reload;
ok(wait_for_sql($node, q{SELECT string_agg(DISTINCT state, ' ') FROM webhook.stat_worker}, 'disabled'), 'nothing is sent for the moment');
$node->safe_psql('postgres', 'UPDATE deal SET v = 302 WHERE id < 3');
$holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM webhook.webhook_log WHERE log_id = (SELECT min(log_id) $held) FOR UPDATE");
$node->append_conf('postgresql.conf', 'webhook.enabled = on');
$node->reload;
ok(wait_for_sql($node, "SELECT string_agg(status::text, ' ' ORDER BY log_id) $held", 'Queued Success'), 'one is held, another one sent');
$holder->query_safe('ROLLBACK');
$holder->quit;
$released_at = time;
ok(wait_for_sql($node, "SELECT string_agg(status::text, ' ' ORDER BY log_id) $held", 'Success Success'), 'once it is let go it is sent');
cmp_ok(time - $released_at, '<', 10, 'soon');
$node->safe_psql('postgres', "SELECT webhook.drop_action($action)");

# What had ended and is queued again, sent before or not, does not go beside a later one of its record.
$action = action('/slow?ms=1500&again', 'ordered => true');
$held = "FROM webhook.webhook_log WHERE action_id = $action";
$node->safe_psql('postgres', qq{
	BEGIN; UPDATE deal SET v = 303 WHERE id = 1; SELECT webhook.cancel(log_id) $held; COMMIT;
	UPDATE deal SET v = 304 WHERE id = 1});
ok(wait_for_delivery($node), 'one is canceled, the next one sent');
$node->safe_psql('postgres', 'UPDATE deal SET v = 305 WHERE id = 1');
ok(wait_for_sql($node, "SELECT string_agg(status::text, ' ' ORDER BY log_id) $held", 'Failed Success Dispatched'), 'a third one is under way');
$node->safe_psql('postgres', "SELECT webhook.retry(log_id) $held AND status <> 'Dispatched'");
ok(wait_for_delivery($node), 'all end');
@at = sort { $a->{time} <=> $b->{time} } $receiver->requests('/slow?ms=1500&again');
is(join(' ', map { $_->{body} =~ /"v": (\d+)/ } @at), '304 305 303 304', 'the older ones follow in their order');
is(scalar(grep { $at[$_]{time} < $at[ $_ - 1 ]{time} + 1.49 } 1 .. $#at), 0, 'each after the one before has ended');
cmp_ok($at[2]{time} - $at[1]{time}, '<', 12, 'and soon');
$node->safe_psql('postgres', "SELECT webhook.drop_action($action)");

# Nor does what a run, which locks no record, has queued before that one and committed after it.
$action = action('/slow?ms=1500&run', 'ordered => true');
my $run = $node->background_psql('postgres');
$run->query_safe(q{BEGIN; SELECT webhook.run_workflow('deals')});
$node->safe_psql('postgres', 'UPDATE deal SET v = 306 WHERE id = 1');
ok(wait_for_sql($node, "SELECT string_agg(status::text, ' ' ORDER BY log_id) FROM webhook.webhook_log WHERE action_id = $action", 'Dispatched'), 'a writer\'s is under way');
$run->query_safe('COMMIT');
$run->quit;
ok(wait_for_delivery($node), 'so is the run\'s, by and by');
@at = grep { $_->{body} =~ /"id": 1,/ } sort { $a->{time} <=> $b->{time} } $receiver->requests('/slow?ms=1500&run');
is(join(' ', map { $_->{body} =~ /"v": (\d+)/ } @at), '306 305', 'in the order of their commits');
cmp_ok($at[1]{time} - $at[0]{time}, '>=', 1.49, 'one after the other');
$node->safe_psql('postgres', "SELECT webhook.drop_action($action)");

# Signatures, checked by another implementation of HMAC, and two of them while
# a secret is rotated.
$action = action('/signed', q{signing_secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'});
sub signature
{
	my ($request, $secret) = @_;
	my $content = join('.', map({ $receiver->header($request, $_) } qw(webhook-id webhook-timestamp)), $request->{bytes});
	my $mac = hmac_sha256_base64($content, decode_base64($secret));

	return "v1,$mac" . '=' x (-length($mac) % 4);
}
$node->safe_psql('postgres', 'UPDATE deal SET v = 400 WHERE id = 1');
ok(wait_for_delivery($node), 'signed');
my ($request) = $receiver->requests('/signed');
is($receiver->header($request, 'webhook-signature'), signature($request, 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'),
	'signature');
cmp_ok(abs($receiver->header($request, 'webhook-timestamp') - $request->{time}), '<', 5, 'timestamp in seconds');
$node->safe_psql('postgres', "SELECT webhook.rotate_secret($action, 'whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX')");
$node->safe_psql('postgres', 'UPDATE deal SET v = 401 WHERE id = 1');
ok(wait_for_delivery($node), 'signed twice');
$request = ($receiver->requests('/signed'))[-1];
is($receiver->header($request, 'webhook-signature'),
	signature($request, 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYX') . ' ' . signature($request, 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'),
	'with the new secret and the one before');
$node->safe_psql('postgres', "SELECT webhook.rotate_secret($action, 'whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYY', '1 ms')");
$node->safe_psql('postgres', 'UPDATE deal SET v = 402 WHERE id = 1');
ok(wait_for_delivery($node), 'signed after another rotation');
$request = ($receiver->requests('/signed'))[-1];
is($receiver->header($request, 'webhook-signature'),
	signature($request, 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYY') . ' ' . signature($request, 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'),
	'each until its own overlap is over');

$receiver->stop;
$node->stop;
done_testing();
