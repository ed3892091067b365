package e2e_test

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

// Two mailboxes in Gmail, one in each mode, with a window to walk. The daemon is
// killed in the walk and in polls, while the service refuses some calls and cuts
// answers off, and access tokens end.
func TestKillsWithGmail(t *testing.T) {
	needStrace(t)
	seed := seedOf(t)
	w := newCompany(t, "rita", "tom")
	w.gmail = gmailtest.Start(gmailtest.Options{MaxPage: 50, EmptyPages: true})
	t.Cleanup(w.gmail.Close)
	w.gmail.Delegate(gmail.ModeMetadata.Scope(), gmail.ModeSearch.Scope())
	w.write("account.json", string(w.gmail.ServiceAccountKey()))
	w.gmail.SetFault(weather(w.gmail, rand.New(rand.NewPCG(seed, 4))))
	killed(t, w, seed, 14, 400)
}

// weather is what may befall a call. A mail whose answer is cut off waits for ten
// minutes in a walk, so those of mails are refused instead.
func weather(s *gmailtest.Server, rnd *rand.Rand) func(gmailtest.Request) gmailtest.Fault {
	var mu sync.Mutex
	return func(r gmailtest.Request) gmailtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		switch n := rnd.IntN(400); {
		case r.Call == "token":
		case n < 2:
			s.KillAccess()
		case n < 4 && r.Call != "get":
			return gmailtest.Fault{Cut: true}
		case n < 6 && r.Call != "get":
			return gmailtest.Fault{Status: http.StatusServiceUnavailable}
		case n < 6:
			return gmailtest.Fault{Status: http.StatusTooManyRequests, Reason: "rateLimitExceeded", RetryAfter: "1"}
		}
		return gmailtest.Fault{}
	}
}
