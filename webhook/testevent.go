package webhook

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// testStream is the stream of every webhook.test.
const testStream = "test"

// Test posts one webhook.test and returns nil when the endpoint accepts it; the
// error says what to do. The event never stands in the outbox and is not
// repeated.
func Test(ctx context.Context, p Poster) error {
	now := time.Now()
	body, err := renderTest(now)
	if err != nil {
		return fmt.Errorf("rendering webhook.test: %w", err)
	}
	if r := p.Post(ctx, "evt_test_"+strings.ToLower(rand.Text()), body); r.Kind != Accepted {
		return fmt.Errorf("posting webhook.test: %w", r.Err)
	}
	return nil
}

func renderTest(now time.Time) ([]byte, error) {
	return encode(envelope{
		Type:      TestEvent,
		Timestamp: clock(now),
		Schema:    schemaVersion,
		Stream:    wireStream{Key: testStream},
		Data:      struct{}{},
	})
}
