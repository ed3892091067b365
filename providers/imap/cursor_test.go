package imap

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/providers"
)

func TestCursorsOfNobody(t *testing.T) {
	tests := []struct{ name, text string }{
		{"nothing", ""}, {"no JSON", "x"}, {"another version", `{"v":2}`}, {"another shape", `[1]`},
		{"a folder without a place", `{"v":1,"folders":{"INBOX":null}}`},
		{"UID 0", `{"v":1,"folders":{"INBOX":{"validity":1,"next":0}}}`},
		{"a number that is too large", `{"v":1,"folders":{"INBOX":{"validity":4294967296,"next":1}}}`},
		{"a gap that ends before it begins", `{"v":1,"folders":{"INBOX":{"validity":1,"next":9,"gaps":[{"lo":5,"hi":4}]}}}`},
		{"a gap at 0", `{"v":1,"folders":{"INBOX":{"validity":1,"next":9,"gaps":[{"lo":0,"hi":4}]}}}`},
		{"more than a cursor can be", strings.Repeat(" ", maxCursor) + `{"v":1}`},
	}
	for _, tt := range tests {
		if _, err := decodeCursor(providers.Cursor(tt.text)); !errors.Is(err, providers.ErrCursorExpired) {
			t.Errorf("%s: %v, want ErrCursorExpired", tt.name, err)
		}
	}
}

func TestSpans(t *testing.T) {
	since := time.Unix(1000, 0)
	tests := []struct {
		name string
		p    place
		next uint32
		want []span
	}{
		{"nothing new", place{Next: 5}, 5, nil},
		{"news", place{Next: 5}, 9, []span{{lo: 5, hi: 9}}},
		{"a window", place{Next: 1, Until: 5, Since: 1000}, 5, []span{{lo: 1, hi: 5, since: since}}},
		{"the rest of a window, and news", place{Next: 3, Until: 5, Since: 1000}, 9, []span{{lo: 3, hi: 5, since: since}, {lo: 5, hi: 9}}},
		{"a window of which the end is gone", place{Next: 3, Until: 9, Since: 1000}, 5, []span{{lo: 3, hi: 5, since: since}}},
	}
	for _, tt := range tests {
		if got := tt.p.spans(tt.next); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A mail store that is unmounted for a moment shows empty folders, and then all its
// mail, each time under another numbering. Only the window of it is walked.
func TestAFolderThatWasEmptyForAMomentIsWalkedByItsWindow(t *testing.T) {
	p := &poll{w: providers.Window{Since: time.Unix(1000, 0)}, cur: &cursor{Since: 500, Folders: map[string]*place{"INBOX": {Validity: 7, Next: 300_000}}}}
	gone := status{validity: 8, next: 1, counted: true}
	back := status{validity: 9, next: 300_001, messages: 300_000, counted: true}
	if p.hasNews(&folder{name: "INBOX", status: gone}) || p.reset == "" {
		t.Errorf("unmounted: reset %q, or something to open", p.reset)
	}
	p.reset = ""
	if !p.hasNews(&folder{name: "INBOX", status: back}) || p.reset == "" {
		t.Errorf("mounted again: reset %q, or nothing to open", p.reset)
	}
	if got, want := *p.cur.Folders["INBOX"], (place{Validity: 9, Next: 1, Until: 300_001, Since: 1000}); !reflect.DeepEqual(got, want) {
		t.Errorf("the walk stands at %+v, want %+v", got, want)
	}
	p.cur.Folders["INBOX"].taken(300_001)
	if pl := p.cur.Folders["INBOX"]; pl.Since != 0 || pl.Until != 0 {
		t.Errorf("after it: %+v", pl)
	}
}

func TestGapsAreTriedLessAndLess(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	tests := []struct {
		name string
		g    gap
		due  bool
	}{
		{"after one try, at once", gap{Tries: 1, Last: now.Unix()}, true},
		{"after three, not the same day", gap{Tries: 3, Last: now.Add(-23 * time.Hour).Unix()}, false},
		{"after three, the next day", gap{Tries: 3, Last: now.Add(-24 * time.Hour).Unix()}, true},
	}
	for _, tt := range tests {
		if got := tt.g.due(now); got != tt.due {
			t.Errorf("%s: due %v, want %v", tt.name, got, tt.due)
		}
	}
	gs := addGap(addGap(addGap(nil, gap{Lo: 3, Hi: 3}), gap{Lo: 4, Hi: 4}), gap{Lo: 6, Hi: 6})
	if want := []gap{{Lo: 3, Hi: 4}, {Lo: 6, Hi: 6}}; !slices.Equal(gs, want) {
		t.Errorf("neighbours are kept as %v, want %v", gs, want)
	}
}

func FuzzCursor(f *testing.F) {
	for _, seed := range []string{
		`{"v":1,"since":5}`, `{"v":1,"since":5,"folders":{"INBOX":{"validity":7,"next":4,"until":9,"since":5,"gaps":[{"lo":1,"hi":2,"tries":1,"first":3,"last":4}],"gone":1}}}`,
		`{"v":1,"key":"2Kunden","validity":7,"next":4}`, `{"v":1,"folders":{"\u0000":{"next":1}}}`, `null`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := decodeCursor(providers.Cursor(text)); err == nil {
			once := c.encode()
			again, err := decodeCursor(once)
			if err != nil || again.encode() != once {
				t.Errorf("%q does not survive: %q, %v", text, once, err)
			}
			for _, p := range c.Folders {
				for _, sp := range p.spans(1 << 31) {
					if sp.lo == 0 || sp.lo >= sp.hi {
						t.Errorf("%q asks for the span %v", text, sp)
					}
				}
			}
		}
		if c, err := decodeOld(providers.Cursor(text)); err == nil && text != "" {
			if again, err := decodeOld(c.encode()); err != nil || again != c {
				t.Errorf("%q does not survive as a search cursor", text)
			}
		}
	})
}
