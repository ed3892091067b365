package storetest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/store"
)

// histories is how many random histories the suite plays, steps how long each
// is. A history that fails is named by its seed.
const (
	histories = 40
	steps     = 120
)

// runModel plays random histories on an implementation and on Memory side by
// side: every answer, and after some steps all that can be read, must be equal
// but for ids, which each store makes its own way.
func runModel(t *testing.T, f Factory) {
	for seed := range uint64(histories) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			p := &player{
				rng:   rand.New(rand.NewPCG(seed, 1)),
				real:  newBench(t, f, Options{MaxEvents: 25, ActivationLog: 12}),
				model: newBench(t, memoryFactory(), Options{MaxEvents: 25, ActivationLog: 12}),
			}
			p.play()
		})
	}
}

func memoryFactory() Factory {
	return Factory{
		New: func(_ *testing.T, o Options) store.Store {
			return NewMemory(MemoryOptions{MaxEvents: o.MaxEvents, ActivationLog: o.ActivationLog, Notify: o.Notify})
		},
		Reopen: func(_ *testing.T, s store.Store, _ Options) store.Store { return s.(*Memory).Reopen() },
	}
}

// player plays one history.
type player struct {
	rng         *rand.Rand
	real, model *bench
	mails       []mail
}

func (p *player) play() {
	p.mails = p.someMails()
	for step := range steps {
		name, do := p.choose()
		got, want := do(p.real), do(p.model)
		if got != want {
			p.real.Fatalf("step %d, %s: got %s, the model says %s", step, name, got, want)
		}
		p.real.tick(time.Minute)
		p.model.tick(time.Minute)
		if step%10 == 9 {
			p.compare(step, name)
		}
	}
}

func (p *player) pick(n int) int { return p.rng.IntN(n) }

// someMails are the mails of a history: they name up to three of five
// candidates and reply to earlier ones across all of them.
func (p *player) someMails() (all []mail) {
	for i := range 24 {
		m := mail{id: fmt.Sprint("m", i), minute: i}
		for c := range 5 {
			if p.pick(3) == 0 {
				m.candidates = append(m.candidates, fmt.Sprint("cand", c))
			}
		}
		for range p.pick(4) {
			if i > 0 {
				m.replyTo = append(m.replyTo, fmt.Sprint("m", p.pick(i)))
			}
		}
		all = append(all, m)
	}
	return all
}

// step is one operation; it returns what the caller saw, as text.
type step func(b *bench) string

// choose draws an operation with its arguments, so that both stores get the
// same ones.
func (p *player) choose() (string, step) {
	cand, box, n := fmt.Sprint("cand", p.pick(5)), fmt.Sprint("box", p.pick(3)), p.pick(4)+1
	if p.pick(3) == 0 {
		return p.chooseLife()
	}
	switch p.pick(16) {
	case 0, 1, 2, 3:
		var mails []mail
		for range n {
			mails = append(mails, p.mails[p.pick(len(p.mails))])
		}
		return "page", func(b *bench) string { return b.said(b.tryPage(box, mails...)) }
	case 4, 5:
		return "activate", changing(func(c *store.Change) {
			c.Put, c.Clear = []store.Row{candidate(cand, address(cand))}, []string{cand}
			c.Activations = []store.Activation{{Key: address(cand), Ref: cand, Since: start()}, {Key: "any"}}
		})
	case 6:
		return "stop", changing(func(c *store.Change) { c.Put = []store.Row{candidate(cand)} })
	case 7:
		return "purge", changing(func(c *store.Change) {
			c.Purges = []store.Purge{{Ref: cand, Reason: "deleted", Rev: "1"}}
			c.Events = []store.DirectoryEvent{{Type: store.DirectoryConflict, Candidate: fmt.Sprint("cand", n), Address: "x"}}
		})
	case 8:
		return "forget", func(b *bench) string { return b.said(b.ForgetMailbox(b.ctx, box, b.now)) }
	case 9:
		return "reopen", func(b *bench) string { b.reopen(); return "" }
	case 10:
		f := store.EventFilter{Candidate: cand, Limit: n}
		return "replay", func(b *bench) string {
			done, err := b.Replay(b.ctx, f, b.now)
			return b.said(replayed(done), err)
		}
	case 11:
		return "expire", func(b *bench) string {
			return b.said(b.Expire(b.ctx, b.old()))
		}
	}
	states := []store.EventState{store.EventDelivered, store.EventDelivered, store.EventPending, store.EventDead}
	o := store.Outcome{State: states[p.pick(4)], Result: "result", Refund: p.pick(4) == 0}
	return "deliver", func(b *bench) string { return b.deliverSome(n, o) }
}

// said is an answer as text.
func (b *bench) said(answer ...any) string {
	for i, a := range answer {
		if err, ok := a.(error); ok {
			answer[i] = "no: " + reason(err)
		}
	}
	return fmt.Sprintf("%+v", answer)
}

func reason(err error) string {
	for _, known := range []error{store.ErrConflict, store.ErrFull, store.ErrNotFound} {
		if strings.Contains(err.Error(), known.Error()) {
			return known.Error()
		}
	}
	return err.Error()
}

func changing(f func(c *store.Change)) step {
	return func(b *bench) string {
		c := store.Change{From: b.revision(), Now: b.now}
		f(&c)
		return b.said(b.Change(b.ctx, c))
	}
}

// deliverSome attempts up to n due events and gives them one outcome.
func (b *bench) deliverSome(n int, o store.Outcome) string {
	due, next, err := b.Due(b.ctx, b.now, n, nil)
	b.must(err, "asking what is due")
	o.Due = b.now.Add(5 * time.Minute)
	tried := b.attempt(due...)
	b.outcome(o, tried...)
	var nos []uint64
	for _, e := range tried {
		nos = append(nos, e.No)
	}
	return b.said(nos, next)
}

// compare holds all that can be read of the two stores together.
func (p *player) compare(step int, after string) {
	got, want := p.real.dump(), p.model.dump()
	for what := range want {
		if !reflect.DeepEqual(got[what], want[what]) {
			p.real.Fatalf("after step %d (%s), %s:\n got %+v\nwant %+v", step, after, what, got[what], want[what])
		}
	}
}

// dump is all that can be read of a store, without what each makes its own way.
func (b *bench) dump() map[string]any {
	st := b.stats()
	st.Epoch, st.Bytes = 0, 0
	acts, ok, err := b.Activations(b.ctx, 0, 1<<40)
	b.must(err, "reading activations")
	purging, err := b.PurgesPending(b.ctx)
	b.must(err, "reading purges")
	boxes, err := b.Mailboxes(b.ctx)
	b.must(err, "listing mailboxes")
	out := map[string]any{
		"stats": st, "activations": acts, "log reaches back": ok, "purges pending": purging, "mailboxes": boxes,
	}
	names := namer{}
	for i, e := range b.events() {
		out[fmt.Sprint("event ", i)] = names.anonymous(e)
	}
	b.dumpLife(out, names)
	return out
}

// namer gives threads names by first appearance.
type namer map[string]string

func (n namer) thread(id string) string {
	if strings.HasPrefix(id, "thr_") && n[id] == "" {
		n[id] = fmt.Sprint("thread ", len(n))
	}
	if name := n[id]; name != "" {
		return name
	}
	return id
}

// anonymous is an event as text, without what differs between stores: ids,
// epoch and receipts, and a body, which is made of them.
func (n namer) anonymous(e store.Event) string {
	e.ID, e.Epoch, e.Stream = "", 0, n.thread(e.Stream)
	e.Reread = fmt.Sprint(e.Reread != "")
	rendered := e.Body != nil
	e.Body = nil
	var data any
	if d := e.Data; d != nil {
		switch {
		case d.Thread != nil:
			d.Thread.Thread = n.thread(d.Thread.Thread)
			data = *d.Thread
		case d.Merged != nil:
			d.Merged.From, d.Merged.Into = n.thread(d.Merged.From), n.thread(d.Merged.Into)
			slices.Sort(d.Merged.Messages)
			data = *d.Merged
		case d.Observed != nil:
			d.Observed.Thread = n.thread(d.Observed.Thread)
			data = *d.Observed
		case d.Purged != nil:
			d.Purged.Receipt = ""
			data = *d.Purged
		case d.Directory != nil:
			data = *d.Directory
		case d.Mailbox != nil:
			data = *d.Mailbox
		}
	}
	e.Data = nil
	return fmt.Sprintf("%+v %+v rendered=%v", e, data, rendered)
}
