/**
 * Every bound of the runtime, named with its unit. A limit that is hit raises `LIMIT_EXCEEDED` (or the narrower code that is
 * named here) at the edge where the value enters; nothing is truncated in silence.
 */

/** One recorded value (a tool result, a step's value, an output). Above this a value belongs in object storage, with its address in the journal. */
export const MAX_VALUE_BYTES = 32 * 1024 * 1024;

/** Values larger than this leave the journal for a content-addressed blob, so that reading a journal stays cheap. */
export const BLOB_THRESHOLD_BYTES = 64 * 1024;

/** Nesting of a recorded value. JSON.parse and JSON.stringify recurse: a bound far below their stack limit keeps both safe. */
export const MAX_VALUE_DEPTH = 256;

/** One HTTP request body. Prompts with pasted documents fit; uploads do not belong in a prompt. */
export const MAX_BODY_BYTES = 8 * 1024 * 1024;

/** Model steps of one run when the agent names no cap: the AI SDK's own default, so that wrapping changes nothing. */
export const DEFAULT_STEP_CAP = 20;

/** Highest cap an agent may set. A run with more model steps than this has lost its way. */
export const MAX_STEP_CAP = 10_000;

/** Events in one journal: the step cap with generous room for tools. A flow that needs more is several child runs. */
export const MAX_EVENTS_PER_RUN = 100_000;

/** A run's whole life, waiting included, when the agent names none. Long enough for an approval over a week-end. */
export const DEFAULT_RUN_DEADLINE_MS = 7 * 24 * 3_600_000;

/** Longest duration anywhere (sleep, deadline, retention): ten years. Beyond it a number is a mistake of unit. */
export const MAX_DURATION_MS = 10 * 365 * 24 * 3_600_000;

/** One attempt of a tool that names no timeout. */
export const DEFAULT_TOOL_TIMEOUT_MS = 5 * 60_000;

/** One attempt of a model call. Reasoning models are slow, but not slower than this. */
export const DEFAULT_MODEL_TIMEOUT_MS = 10 * 60_000;

/** Failed attempts of a model step that names no number: with the waits between them half a minute as a rule, a minute at most. */
export const DEFAULT_MODEL_ATTEMPTS = 8;

/** Attempts of a tool, or of a step of a flow, that may be repeated: past a hiccup, not past an outage that its model can talk about. */
export const DEFAULT_TOOL_ATTEMPTS = 3;

/** Attempts that anybody may ask for: each of them is in the journal. */
export const MAX_STEP_ATTEMPTS = 100;

/** With another candidate left, one that fails is tried this often: once more for a hiccup, then whoever waits is better served elsewhere. */
export const ATTEMPTS_BEFORE_FALLBACK = 2;

/** Models behind an agent's first. */
export const MAX_FALLBACKS = 10;

/** How long one model step is tried, waiting included: outlasts an outage over night. */
export const DEFAULT_PATIENCE_MS = 24 * 3_600_000;

/** A candidate that asks for a longer wait than this gives way to the next, if there is one. */
export const LONGEST_WAIT_WITH_FALLBACK_MS = 5_000;

/** Deaths in a row with the run's own code at work, from which on it is tried alone: another run beside it may have been the cause. */
export const SUSPECT_DEATHS = 2;

/** Deaths in a row, the last of them alone, after which a run is quarantined. */
export const MAX_DEATHS = 5;

/** Takeovers in a row without any step's end: deploys and lost machines do not come to this many, a run that kills its process between its steps does. */
export const MAX_BARREN_TAKEOVERS = 50;

/** Tool calls of one model step that run side by side; the rest wait their turn. */
export const MAX_PARALLEL_TOOLS = 16;

/** Runs that one worker executes side by side. They mostly wait for a model, so this is bounded by memory, not by cores. */
export const DEFAULT_CONCURRENCY = 100;

/** A worker that has not renewed for this long has lost its runs. Covers a garbage collection or a slow disk, not a dead process. */
export const DEFAULT_LEASE_MS = 10_000;

/** A shorter lease would be lost to an ordinary slow write. */
export const MIN_LEASE_MS = 100;

/** Token deltas are held this long so that many become one write; people do not see 50 ms. */
export const COALESCE_MS = 50;

/** Rows of one group commit: keeps the event loop's stall for a flush to a few milliseconds. */
export const MAX_BATCH_ROWS = 256;

/** Writes waiting for a group commit. Beyond it the store is too slow for the load and new work is refused (`STORE_BUSY`). */
export const MAX_QUEUED_WRITES = 10_000;

/** How long writes wait for a store that is locked or full before they are given back (`STORE_BUSY`, `STORE_FULL`). Half a lease: the holder hears of it in time. */
export const STORE_PATIENCE_MS = 5_000;

/** Longest pause between two tries of a write that met a locked or full store. Short, or a busy neighbour is never caught between two of its writes. */
export const MAX_STORE_PAUSE_MS = 16;

/** Bytes written between two checkpoints of the write-ahead log: a millisecond or two of copying, done beside the event loop. */
export const CHECKPOINT_BYTES = 4 * 1024 * 1024;

/** The write-ahead log begins anew when it is longer than this, even if writers have to wait a moment for it. */
export const MAX_WAL_BYTES = 8 * 1024 * 1024;

/** Another worker's process is looked at no more often than this: a claim must stay cheap. */
export const LIVENESS_CHECK_MS = 100;

/** How soon a change that another process made to the same file is seen. */
export const DEFAULT_POLL_MS = 25;

/** Signals waiting for one run. A sender that floods a run is told (`INBOX_FULL`). */
export const MAX_INBOX = 1_000;

/** Turns waiting behind the running one in a session (`INBOX_FULL`). */
export const MAX_QUEUED_TURNS = 100;

/** Past turns that a new turn of a session is shown, newest kept. */
export const DEFAULT_HISTORY_TURNS = 100;

/** How deep runs may start child runs. */
export const MAX_CHILD_DEPTH = 8;

/** Events and chunks that a reader takes from the store at a time: what one slow reader costs in memory. */
export const MAX_FEED_PAGE = 500;

/** Ids, names and keys given by users. They stand in indexes and in URLs. */
export const MAX_NAME_CHARS = 200;

/** A run that is cancelled gives an effect in flight this long to report its outcome, so that it need not be called unknown. */
export const CANCEL_GRACE_MS = 5_000;

/** A `reconcile` hook only looks something up. */
export const RECONCILE_TIMEOUT_MS = 60_000;

/** A resumed flow passes by its recorded steps at once. One that has not after this long will not: its code has changed. */
export const REPLAY_HOLD_MS = 10_000;

/** Longest wait before a retry that a provider may ask for. */
export const MAX_RETRY_WAIT_MS = 10 * 60_000;

/** The first wait before a retry is somewhere between nothing and this; each further failure doubles it. Most hiccups are over by then. */
export const FIRST_BACKOFF_MS = 500;

/** Longest wait before a retry that nobody asked for: an outage of minutes costs a call per minute and run, and its end is noticed within one. */
export const MAX_BACKOFF_MS = 60_000;

/** Runs that were sent away until the same moment come back over this part of their wait after it, and not all at once. */
export const RETRY_SPREAD = 0.1;

/** Failures within the window from which on a breaker may open: fewer are hiccups, which retries are for. */
export const BREAKER_FAILURES = 5;

/** What a breaker remembers of the calls before: more than half of them have to have failed. Long enough for five calls of a slow model side by side. */
export const BREAKER_WINDOW_MS = 60_000;

/** The window moves on in pieces of this length. */
export const BREAKER_SLOT_MS = 5_000;

/** How long a breaker is open at first: a restart of what is called is over by then. */
export const FIRST_BREAKER_MS = 5_000;

/** The longest it is open, and the longest its probe is waited for: an outage costs a call a minute, and its end is noticed within one. */
export const MAX_BREAKER_MS = 60_000;

/** What an open breaker sent away comes back over this part of the time that it was open for, after it: a thousand runs over half a minute. */
export const BREAKER_SPREAD = 0.5;

/** Breakers, and providers with a pace, that are known at a time, here and in the store. More than that are no models and tools, but names made up on the way. */
export const MAX_BREAKERS = 1_000;

/** A model's or a tool's name within a breaker's: an index of PostgreSQL takes 2,700 bytes. */
export const MAX_BREAKER_KEY_CHARS = 600;

/** A closed breaker stays in the store for this long, so that whoever knows an older state of it is refused. Longer than a probe may take. */
export const BREAKER_MEMORY_MS = 3_600_000;

/** A process in which calls begin to fail looks for what the others know, at most this often. */
export const BREAKER_LOOK_MS = 1_000;

/** The number of calls in flight to a provider in trouble is halved at most this often: one burst of refusals is one sign. */
export const PACE_STEP_MS = 1_000;

/** A provider without trouble and without a queue for this long is asked without a limit of ours again: limits on calls are counted per minute. */
export const PACE_QUIET_MS = 60_000;

/** Calls of one process that wait for their turn at one provider. Beyond it a run is better off parked. */
export const MAX_PACE_WAITERS = 1_000;

/** A provider that wants no call for longer than this finds the runs parked, not waiting in memory. */
export const LONGEST_PACE_WAIT_MS = 5_000;

/** Errors looked at when one has another as its cause. Wrappers are a few deep; what is deeper is a cycle or an accident. */
export const MAX_CAUSES = 32;

/** Text of one error that is searched for what it means. Providers say it in the first lines; the rest is a page of HTML. */
export const MAX_EVIDENCE_CHARS = 8_192;

/** Headers of one failed answer that are looked at. */
export const MAX_FAILURE_HEADERS = 128;

/** Rows of one page of a list over HTTP. */
export const MAX_LIST_PAGE = 200;

/** Rows of a page when the caller names no number. */
export const DEFAULT_LIST_PAGE = 50;

/** A request that waits for a run's end is answered after this at the latest: proxies cut silent requests at about a minute. */
export const MAX_LONG_POLL_MS = 50_000;

/** A stream says at least this often that it is alive. A reader that took nothing between two of these is cut. */
export const HEARTBEAT_MS = 15_000;

/** A follower that heard nothing for this long, not even a heartbeat, takes the connection for dead and opens another. */
export const STREAM_SILENCE_MS = 3 * HEARTBEAT_MS;

/** A stream's answer waits this long for its first item, so that a cursor that is refused is a 400 and not a broken stream. */
export const FIRST_ITEM_MS = 100;

/** Requests in flight when a server closes get this long to end. */
export const CLOSE_GRACE_MS = 5_000;

/** Shorter keys can be guessed. */
export const MIN_API_KEY_CHARS = 16;

/** Pause before a follower's first reconnect; doubled at each failure in a row. */
export const RECONNECT_MS = 250;

/** Longest pause between two reconnects. */
export const MAX_RECONNECT_MS = 10_000;

/** Reconnects in a row without one new item before a follower gives up: some three minutes. */
export const MAX_RECONNECTS = 20;

/** Runs taken in one claim: one transaction's worth, so that several workers share a burst. */
export const CLAIM_BATCH = 64;

/** How often an idle worker looks by itself. Finds the runs of a process that died, and those that quotas held back; everything else wakes it. */
export const POLL_MS = 500;

/** A timer that is due by the worker's clock and not by the store's is looked at again after this. */
export const CLOCK_PAUSE_MS = 20;

/** A store that refused is asked again after this. */
export const REJOIN_WAIT_MS = 1_000;

/** A worker that shuts down gives its steps this long to end; process managers wait 10 s and more before they kill. */
export const DRAIN_MS = 8_000;

/** Rows one pass of the cleaner deletes: some milliseconds of write lock. */
export const CLEANUP_ROWS = 1_000;

/** How often a worker cleans up. */
export const CLEANUP_EVERY_MS = 10 * 60_000;

/** Any time will do: only the timer's existence keeps the process alive. */
export const KEEP_ALIVE_MS = 60 * 60_000;

/** What a tool says of its progress: a line, not a report. */
export const MAX_PROGRESS_CHARS = 500;

/** Frames for one reader that are there at once go out together up to this. */
export const MAX_FRAMES_CHARS = 16_384;

/** How long a reader of a run rests between two looks at it. Nobody sees 20 ms, and a hundred readers cost a fraction. */
export const READER_REST_MS = 20;

/** Connections of one process to PostgreSQL that write. A group commit needs one; claims, starts and signals share the rest. */
export const POSTGRES_WRITERS = 4;

/**
 * Connections of one process to PostgreSQL that read. With the writers, the listener and, in times of trouble, the one that asks
 * whether the server is there a process holds at most eleven.
 */
export const POSTGRES_READERS = 5;

/** Pages of different runs, or places in them, that one statement asks PostgreSQL for: bounds what one answer weighs. */
export const MAX_PAGES = 64;

/** Runs whose rows, or journals, one statement asks PostgreSQL for: bounds what one answer weighs. */
export const MAX_JOURNALS = 64;

/** When a statement has had no answer for this long, somebody looks whether the server is still there. */
export const POSTGRES_SILENCE_MS = 2_000;

/** A server that does not answer a new connection within this is gone. With the silence before just beyond `STORE_PATIENCE_MS`: nobody tries again in vain. */
export const POSTGRES_PROBE_MS = 3_100;

/** How long a connection to PostgreSQL may take to come about. */
export const POSTGRES_CONNECT_MS = 5_000;

/** One statement on PostgreSQL. Those of the runtime take milliseconds: a longer one waits for a lock that will not come. */
export const POSTGRES_STATEMENT_MS = 10_000;

/**
 * After this long PostgreSQL ends a transaction whose process has gone silent, and with it the locks on its rows. Shorter than
 * `STORE_PATIENCE_MS`: whoever waits for it, or has lost sight of it, can still begin anew.
 */
export const POSTGRES_IDLE_MS = 3_000;

/** Longest pause between two tries of a statement, or of a group commit, that met a server which is away. */
export const MAX_POSTGRES_PAUSE_MS = 250;

/** Changes are announced to other processes at most this often: a burst is one notification. */
export const ANNOUNCE_EVERY_MS = 10;

/** What one notification may say; PostgreSQL takes 8,000 bytes. Beyond it "anything may have changed" is said. */
export const MAX_ANNOUNCEMENT_BYTES = 7_000;

/** How often a watcher looks by itself at PostgreSQL while notifications come in: one that is lost delays nobody for longer. */
export const LISTENING_POLL_MS = 2_000;

/** How often it looks when none come in: a pooler between them swallows them, or the listening connection is lost. */
export const DEAF_POLL_MS = 250;

/** A notification to oneself that has not come back after this will not: the connection does not listen. */
export const ECHO_MS = 1_000;

/** A listening connection that was lost, or hears nothing, is tried again after this. */
export const RELISTEN_MS = 5_000;

/** A migration waits this long for a table that is in use, and everything behind it in the queue for that table with it. */
export const MIGRATION_LOCK_MS = 2_000;

/** A migration that did not get its table after this is given up: somebody holds a transaction open. */
export const MIGRATION_PATIENCE_MS = 60_000;

/** What a page of a dump holds before it ends: bounds the memory of a copy, beside one run or blob that is larger. */
export const DUMP_PAGE_BYTES = 4 * 1024 * 1024;

/** Units of one page of a dump: one transaction of the store that it goes to. */
export const DUMP_PAGE_UNITS = 500;

/** Runs whose time has come that one look makes ready, so that they take their turn with the others: some milliseconds of writing. */
export const MAX_PROMOTED = 256;

/** Tenants without room under their quotas that one claim passes by: some milliseconds. Behind them the next claim goes on. */
export const MAX_PASSED_BY = 1_000;

/** Statements that a connection to PostgreSQL keeps planned: the runtime's own are about sixty, lists by filter the rest. */
export const MAX_PREPARED_STATEMENTS = 200;

/** Looks of one claim. Each sees as many tenants as runs are wanted; what these do not find, the next claim does. */
export const MAX_LOOKS = 8;

/** Tenants that one look at distributed tables sees, each at the price of a round trip. */
export const MAX_LANES = 8;

/** A run with an event of a newer release is looked at again after this: by then a newer worker may be there to take it. */
export const NEWER_EVENT_RETRY_MS = 60_000;

/** Tenants that a claim under quotas sees at least in one look: those at their limit are passed by, and must not cost a look each. */
export const MIN_LANES = 64;

/** A listening connection that nobody needs any more is kept for this long: watchers come and go with every request. */
export const EAR_LINGER_MS = 10_000;

/** Isolated tools at work at a time in one process; the rest wait their turn. Each wants a core, and some 60 MB before it begins. */
export const MAX_ISOLATED_CALLS = 4;

/** Memory of an isolated tool beyond that of an empty process: room for a large document, not for a leak. */
export const DEFAULT_ISOLATED_MEMORY_MB = 512;

/** How often an isolated tool's memory is looked at. In this time it may take some 100 MB more than it is given. */
export const ISOLATED_MEMORY_CHECK_MS = 50;

/** An event loop that did not go round for this long was blocked: by then other runs' tokens, heartbeats and timers have waited for it. */
export const LOOP_BLOCKED_MS = 1_000;

/** How often the event loop is looked at: a block is known to this, and this long after its end. */
export const LOOP_LOOK_MS = 250;

/** How often a worker reads which breakers the others have opened: a third of a lease, when leases are of the usual length. */
export const BREAKER_REFRESH_MS = 3_000;

/** Requests that one process answers at the same time. Most of them wait for a run's end: a thousand cost some megabytes. */
export const MAX_REQUESTS = 1_000;

/** Streams that one process keeps open: some ten kilobytes each, and a look at the store every 20 ms for all of them. */
export const MAX_STREAMS = 10_000;

/** Bodies of requests in memory at the same time. A flood of the largest there may be does not fill a small machine. */
export const MAX_BODIES_BYTES = 256 * 1024 * 1024;

/** A request has to be here whole after this: one that trickles in holds a place, and memory, that others are refused for. */
export const MAX_UPLOAD_MS = 60_000;

/** Who was refused for too much work tries again after this: what is at work now is over by then, or it is refused again. */
export const OVERLOADED_RETRY_MS = 1_000;

/** A request for approval that says nothing about it expires after this: over a weekend, and not so late that the consent is stale. */
export const DEFAULT_APPROVAL_MS = 3 * 24 * 60 * 60 * 1_000;

/** Targets that one rule names. More is a role. */
export const MAX_APPROVERS = 20;

/** People that have to agree: beyond this nobody ever gets an answer. */
export const MAX_QUORUM = 10;

/** Escalations of one request, repeats included: each wakes the run once. */
export const MAX_ESCALATIONS = 20;

/** Reminders of one request. Who has not reacted to so many will not. */
export const MAX_REMINDERS = 20;

/** Reminders come no faster than this. */
export const MIN_REMIND_MS = 60_000;

/** Arguments that a person is shown, in bytes of JSON: all of them, or the call is refused. More than this nobody reads. */
export const MAX_APPROVAL_BYTES = 128 * 1024;

/** Requests of one run within a minute. Beyond it the run stops and an operator looks at it: people who are asked all the time say yes. */
export const MAX_APPROVALS_PER_MINUTE = 30;
export const APPROVAL_FLOOD_MS = 60_000;

/** Open requests that an inbox reads at a time: those of others are read as well, since who may decide is no question of the tables. */
export const INBOX_PAGE = 500;

/** Runs that are looked at for what is in flight when everything is stopped: a journal is read for each, while somebody waits. */
export const MAX_IN_FLIGHT_RUNS = 200;

/** Tenants whose audit logs are looked at for their key, and records at the end of each: some may have been tampered with. */
export const AUDIT_KEY_TENANTS = 5;
export const AUDIT_KEY_RECORDS = 20;

/** What a tool step may take that calls no tool: a person's answer is there already, a refusal is only written down. */
export const NO_CALL_MS = 1_000;

/** Lines of recent context with a request, and characters of each. */
export const MAX_CONTEXT_LINES = 6;
export const MAX_CONTEXT_CHARS = 500;

/** Characters of a reason that a person gives. */
export const MAX_REASON_CHARS = 2_000;

/** Calls that one "similar calls need nobody" covers. */
export const MAX_SIMILAR_USES = 100;

/** How old what a process knows of stops may be when an effect starts: nothing starts a second after a stop. */
export const STOP_LOOK_MS = 500;

/** Characters of a secret that signs something: 128 bits of chance, written as hex, and as many again. */
export const MIN_SECRET_CHARS = 32;

/** Links of an audit log that are remembered while it is verified: what was put in is found if it is no longer than this. */
export const AUDIT_TRAIL_LINKS = 1_024;

/** How far time may go back between two audit records: clocks are corrected, and another machine's may be behind. */
export const AUDIT_CLOCK_BACK_MS = 60 * 60 * 1_000;

/** One request to a webhook or to Slack: whoever takes a message has nothing to think about. */
export const SEND_TIMEOUT_MS = 10_000;

/** One delivery, which may be a mail to each of several people. */
export const DELIVERY_TIMEOUT_MS = 60_000;

/** A delivery that a courier holds is nobody else's for this long: its turn in the queue, and the time it may take. */
export const DELIVERY_LEASE_MS = 3 * 60_000;

/** Deliveries taken at a time: one transaction. */
export const DELIVERY_BATCH = 16;

/** Deliveries of one channel that are under way at the same time: an endpoint that comes back is not run over. */
export const MAX_CHANNEL_SENDS = 4;

/** Deliveries of one channel that wait for their turn in a process. What comes beyond is due again after its lease. */
export const MAX_CHANNEL_QUEUE = 64;

/** A change in the store is followed by a look for news after this: a burst of changes is one look. */
export const COURIER_LOOK_MS = 200;

/** Rest between two looks that nothing asked for, also while a channel has more than it can take. */
export const COURIER_REST_MS = 1_000;

/** A courier that stops gives what is under way this long to end: what was sent is known as sent. */
export const COURIER_GRACE_MS = 2_000;

/** Longest wait between two tries of a delivery: an endpoint that was away for a day hears of it within the hour. */
export const MAX_DELIVERY_BACKOFF_MS = 60 * 60_000;

/** A delivery that was refused for good is tried again no sooner than this: an operator may put right what it was refused for. */
export const REFUSED_DELIVERY_MS = 30 * 60_000;

/** A delivery is given up after this: a weekend, and what was asked for by then has expired. */
export const DELIVERY_PATIENCE_MS = 3 * 24 * 60 * 60_000;

/** How long a delivery for a channel that this process does not know waits for one that does: longer than a rolling deploy. */
export const UNKNOWN_CHANNEL_MS = 60 * 60_000;

/** How soon another process may look at such a delivery. */
export const UNKNOWN_CHANNEL_RETRY_MS = 30_000;

/** What is read of an endpoint's answer. It says little, and nobody shall fill our memory. */
export const MAX_ANSWER_BYTES = 64 * 1024;

/** Characters of an answer that are told to operators. */
export const MAX_ANSWER_QUOTE_CHARS = 200;

/** A link in a message is good for no longer than this, also where the request itself never expires. */
export const MAX_LINK_MS = 7 * 24 * 60 * 60_000;

/** Characters of a link's token: an approval, a person, a tenant and a delivery, each as long as it may be. */
export const MAX_LINK_CHARS = 4_096;

/** How far Slack's time of sending may be from ours. What is older may be a repeat by somebody who has listened. */
export const SLACK_TOLERANCE_MS = 5 * 60_000;

/** Slack takes no more in one block of text, and no more blocks in one message. */
export const MAX_SLACK_BLOCK_CHARS = 3_000;
export const MAX_SLACK_BLOCKS = 50;

/** Characters of a subject: what mail programs show. */
export const MAX_SUBJECT_CHARS = 120;

/** Deliveries of which a mail channel remembers who has theirs already, so that a second try does not write to them again. */
export const MAX_HALF_SENT = 1_000;

/** Characters of a bearer token: identity providers put groups in them, not books. */
export const MAX_TOKEN_CHARS = 16_384;

/** By how much the clocks of an identity provider and of this machine may differ. */
export const JWT_TOLERANCE_MS = 30_000;

/** An identity provider that has not given its keys by then is away; keys that are not known are asked for no more often than this. */
export const JWKS_TIMEOUT_MS = 5_000;
export const JWKS_COOLDOWN_MS = 30_000;

/** Body of a decision: edited arguments, of which a person reads no more than `MAX_APPROVAL_BYTES`, with room for how they are written. */
export const MAX_DECISION_BYTES = 1024 * 1024;

/** What Slack sends for a click: the whole message, in which each character may take nine. */
export const MAX_SLACK_BYTES = 2 * 1024 * 1024;

/** Slack takes an answer to a click for lost after 3 s. What takes longer is told behind it. */
export const SLACK_ANSWER_MS = 2_000;

/** Signatures of clicks that a process remembers: more than people click within the time that one is good for. Beyond it clicks are refused. */
export const MAX_SLACK_SIGNATURES = 10_000;

/** Records of an audit log that an export reads at a time. */
export const AUDIT_PAGE = 500;

/** What a form behind a link sends: which button, and a reason, of which each character may take nine bytes. */
export const MAX_LINK_FORM_BYTES = 32 * 1024;

/** Longest delay that a Node timer takes; a longer one goes off at once, with a warning. */
export const MAX_TIMER_MS = 2 ** 31 - 1;
