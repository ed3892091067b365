package bolt_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"mailsyncd/store"
	"mailsyncd/store/bolt"
)

// TestPowerLoss records every write, truncation, sync and rename of a process
// that makes and uses a store, and replays what a disk may hold when the power
// goes after each of them: what was synced is there; each later write is there,
// or not, or some of its 512-byte sectors are. Every such image must open and
// hold exactly what the store held after the last commit that returned, or
// after the one under way. Creation is part of it.
func TestPowerLoss(t *testing.T) {
	needStrace(t)
	dir := t.TempDir()
	path, keys := filepath.Join(dir, "mailsyncd.db"), filepath.Join(dir, "key")
	mustNot(t, bolt.NewKeyFile(keys))
	ops := record(t, child(t, "traced", path, keys), dir)
	ks, err := bolt.LoadKeys(keys)
	mustNot(t, err)
	r := &replay{t: t, keys: ks, name: filepath.Base(path), disk: disk{}}
	states := r.states(ops)
	if len(states) != tracedSteps {
		t.Fatalf("the trace shows %d steps, expected %d", len(states), tracedSteps)
	}
	images := r.crash(ops, states)
	t.Logf("%d system calls, %d steps, %d images", len(ops), len(states), images)
}

// tracedSteps is how often tracedChild says that it came further.
const tracedSteps = 31

// tracedChild makes a store and uses it, and says on its standard output after
// each call that returned how far it is. Each call is one commit.
func tracedChild(path, keyFile string) error {
	ks, err := bolt.LoadKeys(keyFile)
	if err != nil {
		return err
	}
	s, err := bolt.Open(bolt.Options{Path: path, Keys: ks, Epoch: 7})
	if err != nil {
		return err
	}
	ctx, step := context.Background(), 0
	did := func(e error) {
		err = errors.Join(err, e)
		step++
		fmt.Printf("step %d\n", step)
	}
	did(nil)
	did(s.Change(ctx, store.Change{Put: candidates(40), Activations: []store.Activation{{Key: "k", Ref: "cand_1"}}, Now: benchNow()}))
	for i := range 12 {
		batch := store.Batch{State: store.WalkState{Cursor: fmt.Sprint("cursor ", i)}, Now: benchNow(), Origin: store.OriginPoll}
		for c := range 6 {
			batch.Messages = append(batch.Messages, matched((i*5+c)%40, i))
		}
		_, e := s.Advance(ctx, store.Walk{Mailbox: "rita"}, uint64(i), batch)
		did(e)
		if i%3 != 2 {
			continue
		}
		due, _, e := s.Due(ctx, benchNow(), 8, nil)
		var as []store.Attempt
		for _, d := range due {
			as = append(as, store.Attempt{No: d.No, Version: d.Version, Body: []byte("body"), At: benchNow()})
		}
		posted, e2 := s.Attempt(ctx, as)
		did(errors.Join(e, e2))
		var os []store.Outcome
		for _, p := range posted {
			os = append(os, store.Outcome{No: p.No, Version: p.Version, State: store.EventDelivered, At: benchNow()})
		}
		did(s.Outcome(ctx, os))
	}
	did(s.Change(ctx, store.Change{From: 1, Purges: []store.Purge{{Ref: "cand_5", Reason: "deleted"}}, Now: benchNow()}))
	did(rotate(ctx, s, ks))
	did(s.SetMailbox(ctx, store.Mailbox{ID: "rita"}, &store.MailboxEvent{Mailbox: "rita"}, benchNow()))
	did(s.ForgetMailbox(ctx, "rita", benchNow()))
	did(s.Writable(ctx))
	did(s.Change(ctx, store.Change{From: 2, Put: candidates(400), Now: benchNow()})) // the file grows
	for range 3 {
		did(s.Writable(ctx))
	}
	return errors.Join(err, s.Close())
}

// needStrace makes sure that system calls can be traced here. Where they
// cannot, the test fails on CI and says elsewhere what was not shown.
func needStrace(t *testing.T) {
	t.Helper()
	err := exec.Command("strace", "-o", os.DevNull, "true").Run()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("strace is needed here: %v", err)
	default:
		fmt.Fprintf(os.Stderr, "NOT RUN: %s needs strace (%v): crash safety was not shown\n", t.Name(), err)
		t.Skipf("strace: %v", err)
	}
}

// ---- recording ---------------------------------------------------------

// op is one recorded system call, or a step the child announced.
type op struct {
	kind string // write, truncate, sync, rename, syncdir, step
	file string // base name
	to   string // of a rename
	off  int64
	data []byte
	size int64 // of a truncate
}

func record(t *testing.T, cmd *exec.Cmd, dir string) []op {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	strace, err := exec.LookPath("strace")
	mustNot(t, err)
	cmd.Args = append([]string{"strace", "-f", "-y", "-xx", "-s", "16777216", "-o", trace,
		"-e", "trace=pwrite64,write,pwritev,pwritev2,writev,ftruncate,fallocate,fdatasync,fsync,sync_file_range,msync,rename,renameat,renameat2,unlink,unlinkat,link,linkat",
		cmd.Path}, cmd.Args[1:]...)
	cmd.Path = strace
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the traced child: %v\n%s", err, out)
	}
	f, err := os.Open(trace)
	mustNot(t, err)
	defer f.Close()
	return parseTrace(t, f, dir)
}

func parseTrace(t *testing.T, r io.Reader, dir string) (ops []op) {
	t.Helper()
	lines := bufio.NewReader(r)
	begun := map[string]string{} // pid → a call whose end comes on a later line
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return ops
		}
		mustNot(t, err)
		pid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		if head, ok := strings.CutSuffix(call, "<unfinished ...>"); ok {
			begun[pid] = head
			continue
		}
		if strings.HasPrefix(call, "<... ") {
			_, tail, _ := strings.Cut(call, "resumed>")
			call = begun[pid] + tail
		}
		if o, ok := parseCall(t, call, dir); ok {
			ops = append(ops, o)
		}
	}
}

var (
	callForm = regexp.MustCompile(`^(\w+)\((.*)\)\s+= (-?\d+)`)
	fdForm   = regexp.MustCompile(`^\d+<([^>]*)>`)
	textForm = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
)

// parseCall reads one call on a file of dir, or a step on the standard output.
// A call that the replay does not model fails the test.
func parseCall(t *testing.T, call, dir string) (o op, ok bool) {
	t.Helper()
	m := callForm.FindStringSubmatch(call)
	if m == nil {
		return o, false // a signal, the end of a process
	}
	name, args := m[1], m[2]
	texts := textForm.FindAllStringSubmatch(args, -1)
	if name == "rename" || name == "renameat" || name == "renameat2" {
		return op{kind: "rename", file: filepath.Base(string(unhex(texts[0][1]))), to: filepath.Base(string(unhex(texts[1][1])))}, true
	}
	fd := fdForm.FindStringSubmatch(args)
	if fd == nil {
		return o, false
	}
	path := string(unhex(fd[1]))
	last := args[strings.LastIndex(args, ", ")+1:]
	number, _ := strconv.ParseInt(strings.TrimSpace(last), 10, 64)
	if name == "write" && len(texts) == 1 && bytes.HasPrefix(unhex(texts[0][1]), []byte("step ")) {
		return op{kind: "step"}, true
	}
	if !strings.HasPrefix(path, dir) {
		return o, false
	}
	file := filepath.Base(path)
	switch {
	case name == "pwrite64":
		return op{kind: "write", file: file, off: number, data: unhex(texts[0][1])}, true
	case name == "ftruncate":
		return op{kind: "truncate", file: file, size: number}, true
	case (name == "fdatasync" || name == "fsync") && path == dir:
		return op{kind: "syncdir"}, true
	case name == "fdatasync" || name == "fsync":
		return op{kind: "sync", file: file}, true
	}
	t.Fatalf("the store made a call that is not replayed: %s", name)
	return o, false
}

// unhex reads strace's \x2f form; what is not in that form stays.
func unhex(s string) []byte {
	if !strings.HasPrefix(s, `\x`) {
		return []byte(s)
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
	if err != nil {
		return []byte(s)
	}
	return raw
}

// ---- replaying ---------------------------------------------------------

// inode is one file: what is surely on the disk, and what may be.
type inode struct {
	synced  []byte
	pending []op
}

// disk is a directory: names, and the rename that is not synced yet.
type disk map[string]*inode

func apply(content []byte, o op) []byte {
	end := int(o.off) + len(o.data)
	if o.kind == "truncate" {
		end = int(o.size)
	}
	if o.kind == "truncate" && end < len(content) {
		return content[:end]
	}
	if end > len(content) {
		content = append(content, make([]byte, end-len(content))...)
	}
	copy(content[o.off:], o.data)
	return content
}

type replay struct {
	t       *testing.T
	keys    bolt.Keys
	name    string
	disk    disk
	renamed *op // done, but its directory is not synced
}

func (r *replay) do(o op) {
	file := r.disk[o.file]
	if file == nil && o.file != "" {
		file = &inode{}
		r.disk[o.file] = file
	}
	switch o.kind {
	case "write", "truncate":
		file.pending = append(file.pending, o)
	case "sync":
		for _, p := range file.pending {
			file.synced = apply(file.synced, p)
		}
		file.pending = nil
	case "rename":
		r.disk[o.to] = file
		delete(r.disk, o.file)
		r.renamed = &o
	case "syncdir":
		r.renamed = nil
	}
}

// keep says what becomes of a pending operation: the operation, a torn one, or
// nil.
type keep func(i int, o op) *op

func all(_ int, o op) *op { return &o }
func none(int, op) *op    { return nil }

// some drops, keeps and tears at random.
func some(rng *rand.Rand) keep {
	return func(_ int, o op) *op {
		switch rng.IntN(3) {
		case 0:
			return nil
		case 1:
			return &o
		}
		return torn(rng, o)
	}
}

// lastTorn keeps all but tears the last, the shape of a power loss inside a
// write.
func lastTorn(rng *rand.Rand, last int) keep {
	return func(i int, o op) *op {
		if i < last {
			return &o
		}
		return torn(rng, o)
	}
}

// torn keeps some 512-byte sectors of a write.
func torn(rng *rand.Rand, o op) *op {
	if o.kind != "write" {
		return &o
	}
	cut := o
	cut.kind = "sectors"
	cut.size = int64(rng.Uint64())
	return &cut
}

// applyKept applies an operation that may be torn: of a torn write, the sectors
// whose bit in size is set.
func applyKept(content []byte, o op) []byte {
	if o.kind != "sectors" {
		return apply(content, o)
	}
	for from := 0; from < len(o.data); from += 512 {
		if o.size>>(from/512%64)&1 == 1 {
			part := op{kind: "write", off: o.off + int64(from), data: o.data[from:min(from+512, len(o.data))]}
			content = apply(content, part)
		}
	}
	return content
}

// image writes what the disk may hold to a new directory.
func (r *replay) image(k keep, renameLost bool) string {
	dir, err := os.MkdirTemp(r.t.TempDir(), "")
	mustNot(r.t, err)
	for name, file := range r.disk {
		content := bytes.Clone(file.synced)
		for i, o := range file.pending {
			if kept := k(i, o); kept != nil {
				content = applyKept(content, *kept)
			}
		}
		if renameLost && r.renamed != nil && name == r.renamed.to {
			name = r.renamed.file
		}
		mustNot(r.t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	return dir
}

// open opens the store of an image and returns all it holds.
func (r *replay) open(dir string) (string, error) {
	s, err := bolt.Open(bolt.Options{Path: filepath.Join(dir, r.name), Keys: r.keys, Epoch: 7})
	if err != nil {
		return "", err
	}
	got, err := content(s)
	if errors.Is(err, store.ErrNotFound) {
		err = nil // no tombstone yet
	}
	got = strings.ReplaceAll(got, `"RotationDue":true`, `"RotationDue":false`) // a rotation has many commits
	return got, errors.Join(err, s.Check(context.Background()), s.Writable(context.Background()), s.Close())
}

// states returns what the store holds after each step, nothing lost.
func (r *replay) states(ops []op) (states []string) {
	whole := &replay{t: r.t, keys: r.keys, name: r.name, disk: disk{}}
	for _, o := range ops {
		whole.do(o)
		if o.kind == "step" {
			got, err := whole.open(whole.image(all, false))
			mustNot(r.t, err)
			states = append(states, got)
		}
	}
	return states
}

// crash loses the power after each operation.
func (r *replay) crash(ops []op, states []string) (images int) {
	rng := rand.New(rand.NewPCG(1, 1))
	done := 0
	for i, o := range ops {
		r.do(o)
		if o.kind == "step" {
			done++
			continue
		}
		if i%thin != 0 {
			continue
		}
		last := 0
		for _, file := range r.disk {
			last = max(last, len(file.pending)-1)
		}
		for name, k := range maps.All(map[string]keep{
			"nothing unsynced kept": none, "all kept": all, "the last torn": lastTorn(rng, last), "some kept": some(rng),
		}) {
			for _, renameLost := range []bool{false, true} {
				if renameLost && r.renamed == nil {
					continue
				}
				images++
				r.judge(fmt.Sprintf("operation %d (%s), %s", i, o.kind, name), r.image(k, renameLost), states, done)
			}
		}
	}
	return images
}

// judge holds an image to the state after the last step done, or the next.
func (r *replay) judge(where, dir string, states []string, done int) {
	defer os.RemoveAll(dir)
	got, err := r.open(dir)
	switch {
	case err != nil:
		r.t.Errorf("%s: %v", where, err)
	case done == 0: // not made yet: whatever is there opens as an empty store
		if !strings.Contains(got, `"Pending":0`) || !strings.Contains(got, `"Candidates":0`) {
			r.t.Errorf("%s: a store that was never made holds %s", where, got)
		}
	case got != states[done-1] && (done == len(states) || got != states[done]):
		r.t.Errorf("%s: neither the state after step %d nor the next", where, done)
	}
}
