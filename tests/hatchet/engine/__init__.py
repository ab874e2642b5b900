"""An engine for tests that speaks Hatchet's protocols on loopback: the real client and worker of its SDK run on it.

It takes workflows, queues runs by priority, assigns them by slots, retries with Hatchet's counts and back-off, times
out, cancels, hands what a lost worker held to another one (`retry_count` goes up, whatever the task's `retries`),
replays durable tasks, runs graphs of tasks, keeps to limits by number and by rate, starts what crons say, refuses
messages above 4 MiB and the character that its database cannot hold, and - as Hatchet does by default - answers the
trigger of a name that nobody registered with the id of a run that never is. What was seen on a real engine is written
here first.

What it does not do: check tokens, keep anything when its process ends (a restart closes every connection and keeps the
state, without the minute in which a real engine then does nothing), evaluate CEL beyond a
field of the input, computed limits, sticky workers, batches, filters, webhooks, idempotency keys, pages of listings. A
workflow that asks for what it cannot do is refused when it is registered, so no test passes because of what is missing.
It knows one tenant.
"""
