package bolt

// The schema, version 1. H(x) is HMAC-SHA256 of a tag and x under the index
// key, cut to 16 bytes: nothing of a key can be read back, and it stays the
// same over all key rotations. Numbers are big-endian, so that order of keys is
// order of numbers. ∅ is an empty value. Every value but those of "keys" and
// "meta/schema" is sealed (seal.go); JSON where the code says so by a struct
// with tags (rows.go), else as written here.
//
//	bucket       key                       value
//	meta         schema                    uint32, in clear: asked before any key is opened
//	             store                     epochs
//	             counters                  counts, last event and thread number
//	             directory                 revision, floor and size of the activation log
//	             directory state           directory's own bytes
//	             endpoint                  state of the webhook
//	             mark                      counter, moved by Writable
//	             rotation                  how far a rotation came; absent when none runs
//	             erasure                   what waits for the file to be rewritten
//	             note |name                what the daemon remembers, as it is
//	keys         index                     the index key, wrapped
//	             data|no4                  a data key, wrapped
//	walks        H(mailbox)|H(task)        names and state of the walk
//	mailboxes    H(mailbox)                the mailbox's row
//	secrets      H(mailbox)|H(name)        a credential of the mailbox, as it is
//	rows         kind1|H(ref)              directory row, binary
//	activations  revision8                 all activations of that revision
//	activated    H(candidate)|revision8    ∅: which revisions name a candidate
//	tombstones   H(candidate)              rev and time of the purge
//	ledger       H(candidate)|H(message)   time8 at which the pair entered
//	messages     H(message)                id, thread number, holdings, pairs, last event number
//	holdings     H(mailbox)|H(message)     ∅: which messages a mailbox holds
//	links        H(candidate)|H(mail's id) thread number
//	threads      no8                       id, number it went into, count, aliases
//	threadids    H(thread id)              thread number
//	members      thread no8|H(message)     message id
//	streams      H(stream)                 last seq
//	events       no8                       event without payload
//	data         no8                       what the body is rendered from
//	bodies       no8                       the frozen body, as posted
//	queue        H(stream)|seq8            event number: what is not delivered, held or pending
//	due          time8|no8                 ∅: pending heads of streams, by time of the next attempt
//	pending      no8                       ∅: all pending events; the first is the oldest
//	naming       H(candidate)|no8          ∅: which events name a candidate
//	purging      no8                       ref whose candidate.purged is undelivered
//	expiry       d|x|t, time8, no8         ∅: delivered (d) and dead (x) events and ended tasks (t), by when
//	skeletons    no8                       what is left of an event whose payload retention erased
//	wanted       H(message)|task no8|no8   ∅: events a re-read looks for this message for
//	tasks        no8                       a task, without its scope
//	scopes       task no8                  mailboxes it walks over, events it fills
//	owed         H(mailbox)|task no8       ∅: walks of tasks that have not ended
//	tasking      H(candidate)|task no8     ∅: tasks about a candidate
//
// Why so: the ledger's keys begin with the candidate, so a purge deletes
// ranges. A link is keyed by candidate and mail id, so two threads can only
// meet under a candidate both have, whatever a mail's References claim. Due
// holds heads only, so the courier reads its first rows and no more. A row in
// "rows" has the hash of the candidate's other keys, so that a directory read
// in that order is written in order everywhere: random keys cost bbolt twenty
// times as much.
const schemaVersion = 1

// bucket is the name of a top-level bucket.
type bucket string

const (
	bMeta        bucket = "meta"
	bKeys        bucket = "keys"
	bWalks       bucket = "walks"
	bMailboxes   bucket = "mailboxes"
	bSecrets     bucket = "secrets"
	bRows        bucket = "rows"
	bActivations bucket = "activations"
	bActivated   bucket = "activated"
	bTombstones  bucket = "tombstones"
	bLedger      bucket = "ledger"
	bMessages    bucket = "messages"
	bHoldings    bucket = "holdings"
	bLinks       bucket = "links"
	bThreads     bucket = "threads"
	bThreadIDs   bucket = "threadids"
	bMembers     bucket = "members"
	bStreams     bucket = "streams"
	bEvents      bucket = "events"
	bData        bucket = "data"
	bBodies      bucket = "bodies"
	bQueue       bucket = "queue"
	bDue         bucket = "due"
	bPending     bucket = "pending"
	bNaming      bucket = "naming"
	bPurging     bucket = "purging"
	bExpiry      bucket = "expiry"
	bSkeletons   bucket = "skeletons"
	bWanted      bucket = "wanted"
	bTasks       bucket = "tasks"
	bScopes      bucket = "scopes"
	bOwed        bucket = "owed"
	bTasking     bucket = "tasking"
)

// sealedBuckets lists all buckets whose values are sealed, meta first: what a
// rotation reseals and a check opens, in this order.
func sealedBuckets() []bucket {
	return []bucket{
		bMeta, bWalks, bMailboxes, bSecrets, bRows, bActivations, bActivated, bTombstones,
		bLedger, bMessages, bHoldings, bLinks, bThreads, bThreadIDs, bMembers,
		bStreams, bEvents, bData, bBodies, bQueue, bDue, bPending, bNaming,
		bPurging, bExpiry, bSkeletons, bWanted, bTasks, bScopes, bOwed, bTasking,
	}
}

// Keys of meta.
const (
	kSchema    = "schema"
	kStore     = "store"
	kCounters  = "counters"
	kDirectory = "directory"
	kDirState  = "directory state"
	kEndpoint  = "endpoint"
	kMark      = "mark"
	kRotation  = "rotation"
	kErasure   = "erasure"
	kNote      = "note " // before the note's name
)

// fill is how full bbolt leaves a page when it splits one. Buckets that grow at
// the end, or in long ordered runs, are packed; the others keep room for keys
// between.
func (b bucket) fill() float64 {
	switch b {
	case bRows, bActivated, bActivations, bEvents, bData, bBodies, bPending, bSkeletons, bTasks, bScopes:
		return 0.9
	}
	return 0.5
}
