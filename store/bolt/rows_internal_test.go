package bolt

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"mailsyncd/store"
)

func TestDirectoryRowsComeBackAsTheyWent(t *testing.T) {
	for name, row := range map[string]store.Row{
		"an empty row":                 {Kind: "job", Ref: "j"},
		"a candidate with addresses":   {Kind: "candidate", Ref: "cand_1", Active: []string{"a@x.example", "b@y.example"}, Value: []byte{0, 1, 2}},
		"a long ref and a long value":  {Kind: "candidate", Ref: string(bytes.Repeat([]byte("r"), 200)), Value: bytes.Repeat([]byte{9}, 5000)},
		"an address that is empty":     {Kind: "candidate", Ref: "c", Active: []string{""}},
		"a ref of bytes beyond ASCII":  {Kind: "user", Ref: "ünïcödé\xff", Value: []byte("v")},
		"a value that looks like rows": {Kind: "user", Ref: "u", Value: []byte{rowFormat, 1, 'u', 0}},
	} {
		got, err := decodeRow(row.Kind, encodeRow(row))
		if err != nil || !reflect.DeepEqual(got, row) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func FuzzDecodeRow(f *testing.F) {
	f.Add(encodeRow(store.Row{Ref: "cand_1", Active: []string{"a@x.example"}, Value: []byte("value")}))
	f.Add([]byte{rowFormat, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{rowFormat, 0, 0xff, 0xff, 0x03})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		row, err := decodeRow("candidate", raw)
		if err != nil {
			return
		}
		again, err := decodeRow("candidate", encodeRow(row))
		if err != nil || !reflect.DeepEqual(again, row) {
			t.Errorf("%x reads as %+v and comes back as %+v, %v", raw, row, again, err)
		}
	})
}

// FuzzOpenSealed changes a sealed value, its key or its bucket: nothing but the
// unchanged one may open.
func FuzzOpenSealed(f *testing.F) {
	r := newRing()
	r.add(1, newSecret())
	r.use(1)
	key, plain := []byte("0123456789abcdef"), []byte("a value")
	sealed := r.seal(bLedger, key, plain)
	f.Add(sealed, key, string(bLedger))
	f.Add(sealed[:20], key, string(bLedger))
	f.Add([]byte{}, []byte{}, "")
	f.Fuzz(func(t *testing.T, value, at []byte, in string) {
		got, err := r.open(bucket(in), at, value)
		same := bytes.Equal(value, sealed) && bytes.Equal(at, key) && in == string(bLedger)
		if same != (err == nil) || (same && !bytes.Equal(got, plain)) {
			t.Errorf("open gives %q, %v", got, err)
		}
	})
}

// FuzzExamine feeds the page walk with files: it must end, and a file it passes
// must have a place for every page.
func FuzzExamine(f *testing.F) {
	path := filepath.Join(f.TempDir(), "store.db")
	s, err := Open(Options{Path: path, Keys: Keys{Current: NewKey()}})
	if err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add(sound[:3*4096])
	f.Add([]byte("no store"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x := &examiner{f: bytes.NewReader(raw), size: int64(len(raw))}
		if err := x.run(); err == nil && int64(x.high)*x.pageSize > x.size {
			t.Errorf("%d pages of %d bytes pass as %d bytes", x.high, x.pageSize, x.size)
		}
	})
}

// FuzzEventNo holds the ids of events to their numbers and strangers out.
func FuzzEventNo(f *testing.F) {
	x := newIndex(newSecret())
	f.Add(uint64(1), uint64(7), "evt_aaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Fuzz(func(t *testing.T, epoch, no uint64, id string) {
		if got, ok := x.eventNo(epoch, x.eventID(epoch, no)); !ok || got != no {
			t.Errorf("event %d comes back as %d, %v", no, got, ok)
		}
		if got, ok := x.eventNo(epoch, id); ok && x.eventID(epoch, got)[:len(eventPrefix)+25] != id[:len(eventPrefix)+25] {
			t.Errorf("%q is taken for event %d", id, got)
		}
	})
}

func TestStampsKeepTheirOrder(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	rising := []time.Time{{}, time.Unix(0, 1e6), at, at.Add(time.Millisecond), at.AddDate(200, 0, 0)}
	for i := 1; i < len(rising); i++ {
		a, b := stampOf(rising[i-1]), stampOf(rising[i])
		if bytes.Compare(a.key(), b.key()) >= 0 {
			t.Errorf("%v does not sort before %v", rising[i-1], rising[i])
		}
		if !b.time().Equal(rising[i]) {
			t.Errorf("%v comes back as %v", rising[i], b.time())
		}
	}
}

func TestFlockLines(t *testing.T) {
	for line, want := range map[string]int{
		"1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF":  4711,
		"1: POSIX  ADVISORY  WRITE 4711 fe:00:1234 0 EOF":  0,
		"2: FLOCK  ADVISORY  WRITE 4711 fe:00:91234 0 EOF": 0,
		"3: -> FLOCK  ADVISORY  WRITE 9 fe:00:1234 0 EOF":  0,
		"nonsense": 0,
	} {
		if got := flockOf(line, 1234); got != want {
			t.Errorf("%q gives %d, expected %d", line, got, want)
		}
	}
}
