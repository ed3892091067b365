package imap_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
	"mailsyncd/providers"
	"mailsyncd/providers/imap"
)

// torture is how long the test below runs.
const torture = 12 * time.Second

// stage is a server to be tortured, with the folders A, B and Sent.
type stage struct {
	addr   string
	prefix string // of every folder but INBOX
	cut    int64  // connections break within so many bytes
	spared int    // of so many renamed or recreated folders one really is
}

func TestNothingIsLostUnderTorture(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	d.MakeFolder("rita", "A")
	d.MakeFolder("rita", "B")
	underTorture(t, stage{addr: d.Plain, cut: 40_000, spared: 1})
}

func TestNothingIsLostUnderTortureOnCourier(t *testing.T) {
	c := testutil.StartCourier(t, testutil.CourierOptions{})
	for _, folder := range []string{"A", "B", "Sent"} {
		c.MakeFolder("rita", folder)
	}
	underTorture(t, stage{addr: c.Plain, prefix: "INBOX.", cut: 8_000, spared: 30}) // it sleeps for two seconds in each
}

// underTorture polls through a connection that is cut or hangs
// at random bytes, while another client appends, moves, flags, expunges mail and
// renames and recreates folders. Whatever is on the server at the end, and
// whatever was appended and survived long enough to be seen, must have come.
func underTorture(t *testing.T, on stage) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	proxy := testutil.StartProxy(t, on.addr)
	proxy.SetFault(faults(rand.New(rand.NewPCG(seed, 1)), on.cut))

	ctx, cancel := context.WithTimeout(t.Context(), torture)
	defer cancel()
	var wg sync.WaitGroup
	var m *mutator
	client := rawClient(t, on.addr)
	wg.Go(func() { m = mutate(ctx, t, client, rand.New(rand.NewPCG(seed, 2)), on) })

	cfg := quick(config(t, proxy.Addr))
	cfg.PageSize = 20
	v := &victim{p: imap.New(cfg), seen: map[string]bool{}}
	for ctx.Err() == nil {
		v.poll(context.WithoutCancel(ctx))
	}
	wg.Wait()
	v.p = imap.New(config(t, on.addr)) // patient, and without the proxy
	for range 2 {
		if err := v.poll(t.Context()); err != nil {
			t.Fatalf("a poll without faults: %v", err)
		}
	}
	t.Logf("%d polls ended, %d broke; %d appended, %d moved, %d renamed, %d recreated, %d expunged; %d seen, %d repeats",
		v.ok, v.broken, len(m.appended), m.moved, m.renamed, m.recreated, m.expunged, len(v.seen), v.repeats)
	if v.ok < 5 || v.broken < 5 || m.moved == 0 || m.renamed == 0 {
		t.Error("the test did not do what it is for")
	}
	for _, id := range serverIDs(t, client, on.prefix) {
		if !v.seen[id] {
			t.Errorf("%s is on the server and was never seen", id)
		}
	}
	for id := range m.appended {
		if !v.seen[id] && !m.gone[id] {
			t.Errorf("%s was appended, never expunged, and never seen", id)
		}
	}
}

// faults cuts most connections somewhere, hangs a few, and spares some.
func faults(r *rand.Rand, cut int64) func() testutil.Fault {
	return func() testutil.Fault {
		switch n := r.IntN(10); {
		case n < 6:
			return testutil.Fault{Cut: true, After: r.Int64N(cut)}
		case n < 7:
			return testutil.Fault{Hang: true, After: r.Int64N(cut)}
		}
		return testutil.Fault{}
	}
}

// victim is a caller that commits each page with its cursor.
type victim struct {
	p          *imap.Provider
	cur        providers.Cursor
	seen       map[string]bool
	ok, broken int
	repeats    int
}

func (v *victim) poll(ctx context.Context) error {
	err := v.pass(ctx)
	if err != nil {
		v.broken++
	} else {
		v.ok++
	}
	return err
}

func (v *victim) pass(ctx context.Context) error {
	mb, err := v.p.Open(ctx)
	if err != nil {
		return err
	}
	defer mb.Close()
	if v.cur == "" {
		if v.cur, err = mb.Start(ctx, window().Since); err != nil {
			return err
		}
	}
	for {
		page, err := mb.Next(ctx, v.cur, window())
		if err != nil {
			return err
		}
		for _, m := range page.Messages {
			if v.seen[m.Header.MessageID] {
				v.repeats++
			}
			v.seen[m.Header.MessageID] = true
		}
		v.cur = page.Next
		if !page.More {
			return nil
		}
	}
}

// mutator counts what the other client did.
type mutator struct {
	c        *raw
	r        *rand.Rand
	on       stage
	appended map[string]bool
	gone     map[string]bool // expunged for good

	moved, renamed, recreated, expunged int
}

func mutate(ctx context.Context, t *testing.T, c *raw, r *rand.Rand, on stage) *mutator {
	m := &mutator{c: c, r: r, on: on, appended: map[string]bool{}, gone: map[string]bool{}}
	m.rename(t, on.prefix+"A")
	for ctx.Err() == nil {
		m.step(t)
	}
	return m
}

func (m *mutator) step(t *testing.T) {
	a, b := m.on.prefix+"A", m.on.prefix+"B"
	folders := []string{"INBOX", a, b, m.on.prefix + "Sent"}
	f := folders[m.r.IntN(len(folders))]
	switch n := m.r.IntN(40); {
	case n < 24:
		id := fmt.Sprintf("t%d@x", len(m.appended))
		if m.c.put(t, f, mail(id, "X-Pad: "+strings.Repeat("x", m.r.IntN(600))+"\r\n")) {
			m.appended[id] = true
		}
	case n < 32:
		if m.open(t, f) {
			m.move(t, fmt.Sprintf("1:%d", 1+m.r.IntN(3)), folders[m.r.IntN(len(folders))])
		}
	case n < 35:
		if m.open(t, f) {
			m.c.try(t, fmt.Sprintf("STORE 1:* +FLAGS (k%d)", m.r.IntN(9)))
		}
	case n < 38 && m.r.IntN(m.on.spared) > 0:
	case n < 37:
		m.rename(t, a)
	case n < 38:
		if m.open(t, b) {
			m.move(t, "1:*", "INBOX")
		}
		m.c.try(t, "UNSELECT")
		m.recreate(t, b)
	default:
		m.expunge(t, f)
	}
}

// move moves mail of the open folder; by hand where the server has no MOVE.
func (m *mutator) move(t *testing.T, set, to string) {
	_, ok := m.c.try(t, "MOVE "+set+" "+to)
	if !ok {
		if _, ok = m.c.try(t, "COPY "+set+" "+to); ok {
			m.c.try(t, "STORE "+set+" +FLAGS.SILENT (\\Deleted)")
			m.c.try(t, "EXPUNGE")
		}
	}
	if ok {
		m.moved++
	}
}

// rename renames a folder and gives it its name back.
func (m *mutator) rename(t *testing.T, f string) {
	m.c.try(t, "UNSELECT")
	if _, ok := m.c.try(t, "RENAME "+f+" "+f+"2"); ok {
		m.renamed++
		m.c.try(t, "LIST \"\" *")
		m.c.try(t, "RENAME "+f+"2 "+f)
	}
}

// recreate makes a folder anew, if it is empty.
func (m *mutator) recreate(t *testing.T, f string) {
	lines, ok := m.c.try(t, "STATUS "+f+" (MESSAGES)")
	if !ok || !strings.Contains(strings.Join(lines, ""), "MESSAGES 0") {
		return
	}
	if _, ok := m.c.try(t, "DELETE "+f); ok {
		m.recreated++
	}
	m.c.try(t, "CREATE "+f)
}

func (m *mutator) open(t *testing.T, f string) bool {
	lines, ok := m.c.try(t, "SELECT "+f)
	return ok && !strings.Contains(strings.Join(lines, "\n"), "* 0 EXISTS")
}

// expunge deletes one mail for good and notes its id.
func (m *mutator) expunge(t *testing.T, f string) {
	if !m.open(t, f) {
		return
	}
	for _, id := range idsIn(m.c.do(t, "FETCH 1 (BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")) {
		m.gone[id] = true
	}
	m.c.try(t, "STORE 1 +FLAGS.SILENT (\\Deleted)")
	m.c.try(t, "EXPUNGE")
	m.expunged++
}

// serverIDs lists the Message-IDs of everything on the server.
func serverIDs(t *testing.T, c *raw, prefix string) []string {
	t.Helper()
	var ids []string
	for _, f := range []string{"INBOX", prefix + "A", prefix + "A2", prefix + "B", prefix + "Sent"} {
		if lines, ok := c.try(t, "EXAMINE "+f); ok && !strings.Contains(strings.Join(lines, "\n"), "* 0 EXISTS") {
			ids = append(ids, idsIn(c.do(t, "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"))...)
		}
	}
	return ids
}

func idsIn(lines []string) []string {
	var ids []string
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l, "Message-ID: <"); ok {
			ids = append(ids, strings.TrimSuffix(rest, ">"))
		}
	}
	return ids
}
