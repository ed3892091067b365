package proptest_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Lives are short and leave nothing behind: collecting after each few costs
	// more than the memory is worth.
	debug.SetGCPercent(800)
	goleak.VerifyTestMain(m)
}

// seedEnv plays one life alone: MAILSYNCD_TEST_SEED=4711 go test ./internal/proptest
const seedEnv = "MAILSYNCD_TEST_SEED"

// The least shares of pairs of which the model must say something firm. A model
// that says "may" to everything finds nothing.
const (
	leastMust    = 0.20
	leastMustNot = 0.20
	mostMay      = 0.35
)

// Promises 1 to 4 and 6, in every life.
func TestEveryPromiseIsKeptInEveryLife(t *testing.T) { everyLife(t, lives, draw) }

// The same with two mailboxes in Gmail, one in each mode: histories that expire,
// page tokens that end, mail rescued from Spam, calls that fail in the middle of a
// page, walks that are made once a day.
func TestEveryPromiseIsKeptWithGmail(t *testing.T) { everyLife(t, gmailLives, drawGmail) }

// everyLife plays n lives, or the one that the environment names.
func everyLife(t *testing.T, n uint64, draw func(seed uint64) script) {
	sh := sharedParts(t)
	if only, ok := onlySeed(t); ok {
		t.Logf("%s", draw(only))
		if v := play(t, draw(only), bug{}, sh); v.broken != nil {
			explain(t, draw(only), v.broken, bug{}, sh)
		}
		return
	}
	var mu sync.Mutex
	var sum shares
	posts := 0
	t.Run("lives", func(t *testing.T) {
		each(t, n, func(t *testing.T, seed uint64) bool {
			v := play(t, draw(seed), bug{}, sh)
			if v.broken != nil {
				explain(t, draw(seed), v.broken, bug{}, sh)
			}
			mu.Lock()
			defer mu.Unlock()
			sum, posts = sum.plus(v.shares), posts+v.posts
			return v.broken == nil
		})
	})
	if !t.Failed() {
		judgeShares(t, n, sum, posts)
	}
}

// drawGmail makes the life of a seed, with Gmail.
func drawGmail(seed uint64) script {
	s := draw(seed)
	s.gmail = true
	return s
}

// judgeShares fails when the model has too little to say.
func judgeShares(t *testing.T, lives uint64, s shares, posts int) {
	t.Helper()
	all := float64(s.must + s.may + s.mustNot)
	must, may, mustNot := float64(s.must)/all, float64(s.may)/all, float64(s.mustNot)/all
	t.Logf("%d lives, %d posts; of %.0f pairs %.0f %% must be delivered, %.0f %% may, %.0f %% must not",
		lives, posts, all, 100*must, 100*may, 100*mustNot)
	if must < leastMust || mustNot < leastMustNot || may > mostMay {
		t.Error("the model leaves too much open to find anything")
	}
}

// A life depends on nothing but its seed.
func TestASeedPlaysTheSameLifeAgain(t *testing.T) {
	sh := sharedParts(t)
	for seed := range uint64(50) {
		for _, life := range []script{draw(seed), drawGmail(seed)} {
			first, second := play(t, life, bug{}, sh), play(t, life, bug{}, sh)
			if first.shares != second.shares || first.posts != second.posts {
				t.Errorf("seed %d (Gmail: %v) gave %+v and then %+v", seed, life.gmail, first, second)
			}
		}
	}
}

// each plays lives on all processors until one fails.
func each(t *testing.T, n uint64, one func(t *testing.T, seed uint64) bool) {
	var next atomic.Uint64
	var stop atomic.Bool
	for i := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker ", i), func(t *testing.T) {
			t.Parallel()
			for !stop.Load() {
				seed := next.Add(1)
				if seed > n {
					return
				}
				if !one(t, seed) {
					stop.Store(true)
				}
			}
		})
	}
}

func sharedParts(t *testing.T) *shared {
	t.Helper()
	sh, err := newShared()
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

func onlySeed(t *testing.T) (uint64, bool) {
	t.Helper()
	text := os.Getenv(seedEnv)
	if text == "" {
		return 0, false
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s is no number: %v", seedEnv, err)
	}
	return seed, true
}

// explain reports a failed life by the shortest one that fails the same way.
func explain(t *testing.T, s script, v *violation, b bug, sh *shared) {
	t.Helper()
	last := v
	short := shrink(s, func(s script) bool {
		v := play(t, s, b, sh).broken
		if v == nil || v.kind != last.kind {
			return false
		}
		last = v
		return true
	})
	t.Errorf("%s\nin this life, cut down from %d steps (%s=%d plays the whole):\n%s", last, len(s.steps), seedEnv, s.seed, short)
}
