package imap_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsyncd/providers"
)

// A mail that was not handed out before is due again in a folder that has news:
// both come, whatever the number of gaps.
func TestGapsThatAreDueHideNoNews(t *testing.T) {
	for gaps := 1; gaps <= 4; gaps++ {
		t.Run(fmt.Sprintf("%d gaps", gaps), func(t *testing.T) {
			s := newScript(t)
			s.put(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
			tried := time.Now().Add(-2 * time.Hour).Unix()
			var list []string
			var want []string
			for i := range gaps {
				uid := 1 + 2*i
				list = append(list, fmt.Sprintf(`{"lo":%d,"hi":%d,"tries":1,"first":%d,"last":%d}`, uid, uid, tried, tried))
				want = append(want, fmt.Sprint(uid))
			}
			want = append(want, "10", "11", "12")
			cur := providers.Cursor(fmt.Sprintf(`{"v":1,"since":1,"folders":{"INBOX":{"validity":7,"next":10,"gaps":[%s]}}}`, strings.Join(list, ",")))
			mb := open(t, config(t, s.addr))
			var got []string
			for more := true; more; {
				page, err := mb.Next(t.Context(), cur, window())
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range page.Messages {
					got = append(got, strings.Split(m.Ref, ".")[1]) // VALIDITY.UID.FOLDER
				}
				cur, more = page.Next, page.More
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q; cursor %s", got, want, cur)
			}
		})
	}
}

// A SEARCH answer of a very large folder is one line of hundreds of kilobytes;
// what follows it is read as well.
func TestVeryLargeFolderIsRead(t *testing.T) {
	s := newScript(t)
	uids := make([]uint32, 60_000)
	for i := range uids {
		uids[i] = uint32(i + 1)
	}
	s.put(uids...)
	mb := open(t, config(t, s.addr))
	page, err := mb.Next(t.Context(), start(t, mb), window())
	if err != nil || len(page.Messages) != 500 || !page.More {
		t.Fatalf("%d messages, more %v, %v; want a page of 500", len(page.Messages), page.More, err)
	}
}
