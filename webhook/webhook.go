// Package webhook brings events to the ATS: it answers the question "has the
// ATS taken this event, and if not, whose fault is it and when is the next
// try?"
//
// It holds the wire format (Render and the JSON Schemas beside it), signing as
// Standard Webhooks describes it, a poster that makes exactly one attempt, and
// the courier, which is the only place that retries. The order of things is
// intend, do, record: an attempt is counted in the outbox before the post, and
// its outcome is recorded after it, also while the daemon shuts down. A crash
// between the two repeats one post with the same webhook-id and the same bytes.
//
// Three rules decide everything else. A failing event blocks its own stream
// only. A failing endpoint costs no event any of its tries, so an outage of any
// length loses nothing. A candidate.purged overtakes nobody and is overtaken by
// nobody that names the same candidate.
//
// The package never logs an address, a subject, a secret or anything the
// endpoint answered, and it reads at most 64 KiB of an answer.
package webhook
