package proptest_test

import (
	"net/http"
	"slices"
	"testing"

	"mailsyncd/providers"
	"mailsyncd/store"
	"mailsyncd/sync/mailbox"
	"mailsyncd/webhook"
)

// bug is a planted fault: what stands between the parts instead of nothing. The
// zero bug is none.
type bug struct {
	name string
	// finds are the promises that it breaks; a life that fails for another
	// reason finds it by accident.
	finds     []kind
	store     func(*world, mailbox.Store) mailbox.Store
	directory func(*world, store.Directory) store.Directory
	outbox    func(*world, store.Outbox) store.Outbox
	poster    func(*world, webhook.Poster) webhook.Poster
	opener    func(w *world, box string, o providers.Opener) providers.Opener
	// Planted in the mailboxes that are read through Gmail: wire lies between the
	// provider and the service, trusting takes what Gmail finds for the whole.
	wire     func(*http.Response)
	trusting bool
}

// draw makes the life of a seed in which a bug can show.
func (b bug) draw(seed uint64) script {
	if b.wire != nil || b.trusting {
		return drawGmail(seed)
	}
	return draw(seed)
}

// bugs lists the planted faults. Each is one that somebody could make, and most
// of them were made somewhere.
func bugs() []bug {
	return []bug{
		{name: "the cursor is committed before the outbox", finds: []kind{lost}, store: cursorFirst},
		{name: "the cursor moves past unread mail", finds: []kind{lost}, opener: unreadMail},
		{name: "the ledger is keyed by message only", finds: []kind{lost}, store: messageLedger},
		{name: "the look-back's revision is stored at its beginning", finds: []kind{lost}, store: earlyRevision},
		{name: "a look-back begins a window before the walk, not the activation", finds: []kind{lost}, store: lateWindow},
		{name: "nobody is owed a look-back who was known before", finds: []kind{lost}, directory: onlyNewcomers},
		{name: "the horizon moves with time", finds: []kind{lost}, store: movingHorizon},
		{name: "a forgotten position skips the gap of a long outage", finds: []kind{lost}, opener: skippedGap},
		{name: "a suspended mailbox loses its cursor", finds: []kind{lost}, store: lostCursor, opener: startsNow},
		{name: "a task ends with its first page", finds: []kind{lost}, store: shortTask},
		{name: "any answer counts as success", finds: []kind{lost, erasure}, poster: anyAnswer},
		{name: "the purge is not checked in the transaction", finds: []kind{erasure, leak}, directory: purgedRows},
		{name: "a stop is not checked in the transaction", finds: []kind{leak}, directory: stoppedRows},
		{name: "a tombstone does not hold", finds: []kind{erasure, leak}, directory: noTombstones},
		{name: "a frozen body is not stripped by a purge", finds: []kind{erasure, leak}, poster: unstripped},
		{name: "a late match overtakes candidate.purged", finds: []kind{erasure}, outbox: overtaking},
		{name: "candidate.purged does not wait for posts in flight", finds: []kind{erasure}, outbox: unknownFlight},
		{name: "candidate.purged becomes a dead letter", finds: []kind{erasure}, outbox: deadPurge},
		{name: "seq begins again after a restart", finds: []kind{order, identity}, outbox: seqAgain},
		{name: "every attempt has its own webhook-id", finds: []kind{identity}, poster: freshIDs},
		{name: "every attempt renders its own body", finds: []kind{identity}, poster: freshBodies},
		{name: "the attempt is not recorded before the post", finds: []kind{identity}, outbox: uncounted},
		{name: "repeats are delivered again instead of dropped", finds: []kind{repeat}, store: againAlways},
		{name: "what Gmail finds is taken for the whole", finds: []kind{lost}, trusting: true},
		{name: "mail rescued from Spam is not new", finds: []kind{lost}, wire: rescuedUnseen},
		{name: "a listing ends with its first page", finds: []kind{lost}, wire: firstPageOnly},
		{name: "a mail that is not handed out counts as deleted", finds: []kind{lost}, wire: brokenIsGone},
	}
}

// mostLives bounds how many lives may pass before a planted bug is found.
const mostLives = 3_000

// The test of the test: each planted bug is found, and as what it is.
func TestEveryPlantedBugIsFound(t *testing.T) {
	sh := sharedParts(t)
	for _, b := range bugs() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(mostLives) {
				v := play(t, b.draw(seed), b, sh).broken
				switch {
				case v == nil:
				case !slices.Contains(b.finds, v.kind):
					t.Errorf("life %d fails, but for another reason: %s", seed, v)
					return
				default:
					t.Logf("found by life %d: %s", seed, v)
					return
				}
			}
			t.Errorf("%d lives did not find it", mostLives)
		})
	}
}

// A failing life is cut down to what fails, and plays the same again.
func TestAFailingLifeIsCutDown(t *testing.T) {
	sh := sharedParts(t)
	b := bugs()[0]
	fails := func(s script) bool { return play(t, s, b, sh).broken != nil }
	for seed := range uint64(mostLives) {
		if s := draw(seed); fails(s) {
			short := shrink(s, fails)
			if n := len(short.steps); n > 8 || !fails(short) {
				t.Errorf("cut down to %d steps, want a few that still fail:\n%s", n, short)
			}
			return
		}
	}
	t.Error("no life fails")
}
