package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A candidate's life on Dovecot with the real binary, killed in the middle of
// everything: look-back, resync, purge and the rewrite of the file.

// late is the candidate of these tests, who is added after her mail.
const late = `{"kind":"candidate","ref":"late","emails":["late@cand.example"]}`

// lateScript is mail of the late candidate among other mail, some of it from
// before the window.
func lateScript(n int) (script []mail) {
	for i := range n {
		m := mail{name: fmt.Sprintf("late-%d", i), header: "From: late@cand.example\nTo: rita@example.com", refs: []string{"late"}}
		switch i % 4 {
		case 1:
			m.header, m.refs = "From: mum@family.example\nTo: rita@example.com", nil
		case 2:
			m.age = 40 * 24 * time.Hour
		}
		script = append(script, m)
	}
	return script
}

// split divides expected pairs into those of the window and older ones.
func split(script []mail) (window, older map[string]bool) {
	window, older = map[string]bool{}, map[string]bool{}
	for _, m := range script {
		for _, ref := range m.refs {
			if m.age > 14*24*time.Hour {
				older[m.name+"@script "+ref] = true
			} else {
				window[m.name+"@script "+ref] = true
			}
		}
	}
	return window, older
}

// dies runs the daemon under strace until it is killed at the n-th of a system
// call, or a second has passed.
func (w *world) dies(call string, nth int) {
	w.t.Helper()
	d := w.start("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
		"-e", "inject="+call+":signal=SIGKILL:when="+strconv.Itoa(nth))
	select {
	case <-d.ended:
	case <-time.After(1500 * time.Millisecond):
		d.kill()
	}
}

// diesOften lets it die at many places while something is under way.
func (w *world) diesOften(rnd *rand.Rand, times int) {
	w.t.Helper()
	for range times {
		w.dies([]string{"pwrite64", "fdatasync"}[rnd.IntN(2)], 1+rnd.IntN(12))
	}
}

func TestLifeOfALateCandidate(t *testing.T) {
	needStrace(t)
	rnd := rand.New(rand.NewPCG(11, 11))
	w := newWorld(t, "rita")
	script := lateScript(240)
	w.deliver(script)
	window, older := split(script)
	w.directory(company...)
	w.configure()
	w.start()
	w.settle()
	w.receiver.wantPairs(map[string]bool{})
	w.stop()

	// Look-back: she is added; the daemon dies while it walks.
	w.directory(append(slices.Clone(company), late)...)
	w.diesOften(rnd, 8)
	w.start()
	w.settle()
	w.receiver.wantPairs(window)

	// Resync of what is older than the window.
	w.must("resync", "late", "--since", "60d", "--wait=false")
	w.daemon.kill()
	w.diesOften(rnd, 8)
	w.start()
	w.up()
	w.await("the resync to end", func() bool {
		out, err := w.run("tasks", "list", "--output", "json")
		return err == nil && strings.Contains(out, `"done"`) && !strings.Contains(out, `"running"`)
	})
	w.settle()
	all := map[string]bool{}
	for _, m := range []map[string]bool{window, older} {
		for pair := range m {
			all[pair] = true
		}
	}
	w.receiver.wantPairs(all)
	out := w.must("reconcile", "--output", "json")
	if !strings.Contains(strings.ReplaceAll(out, " ", ""), `"unaccounted":0`) {
		t.Errorf("reconcile says:\n%s", out)
	}

	w.purge(rnd)
}

// purge deletes the candidate, with the daemon dying all along, and checks that
// nothing brings her back.
func (w *world) purge(rnd *rand.Rand) {
	w.t.Helper()
	w.stop()
	w.directory(append(slices.Clone(company), `{"kind":"candidate","ref":"late","deleted":true}`)...)
	w.diesOften(rnd, 8)
	w.start()
	w.settle()
	w.receiver.wantOnePurge("late")
	posts := w.receiver.count()
	w.must("deliveries", "replay", "--candidate", "late") // of all there was, only the purge itself is left
	w.stop()

	// The file is rewritten at the start after a purge; it dies in the middle.
	for _, call := range []string{"rename", "renameat", "fdatasync", "pwrite64", "ftruncate"} {
		w.dies(call, 1+rnd.IntN(3))
	}
	w.start()
	w.settle()
	for _, p := range w.receiver.after(posts) {
		if p.event.Type == "candidate.purged" {
			continue
		}
		if strings.Contains(string(p.body), `"late"`) || strings.Contains(string(p.body), "late@cand.example") {
			w.t.Errorf("%s of %s names the purged candidate", p.event.Type, p.id)
		}
	}
	if out, _ := w.run("directory", "show", "late"); strings.Contains(out, "late@cand.example") {
		w.t.Errorf("the purged candidate is still shown:\n%s", out)
	}
	w.receiver.invariants()
	w.stop()
}

// wantOnePurge wants one candidate.purged event for a ref, and nothing for it
// accepted behind it.
func (r *receiver) wantOnePurge(ref string) {
	r.t.Helper()
	purged := 0
	for _, p := range r.taken() {
		switch {
		case p.event.Type == "candidate.purged" && strings.Contains(string(p.body), `"`+ref+`"`):
			purged++
		case purged > 0 && p.event.Type == "thread.matched" && strings.Contains(string(p.body), `"`+ref+`"`):
			r.t.Errorf("event %s names %s after its purge", p.id, ref)
		}
	}
	if purged != 1 {
		r.t.Errorf("%d candidate.purged events for %s", purged, ref)
	}
}

// after returns the posts that came after the first n.
func (r *receiver) after(n int) []*post {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts[n:])
}
