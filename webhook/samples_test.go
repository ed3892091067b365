package webhook_test

import (
	"time"

	"mailsyncd/store"
)

// at is a time of the samples, in milliseconds as the store keeps it.
func at(hour, minute, second, ms int) time.Time {
	return time.Date(2026, 11, 21, hour, minute, second, ms*int(time.Millisecond), time.UTC)
}

// sample is one event of each kind, with every corner of the wire format.
type sample struct {
	name  string
	event store.Event
}

func event(typ store.EventType, stream string, seq uint64, data store.EventData) store.Event {
	return store.Event{
		No: seq, ID: "evt_1", Type: typ, Stream: stream, Epoch: 1, Seq: seq,
		Created: at(10, 0, 3, 120), Data: &data,
	}
}

// contractEvent is the example of the webhook's description.
func contractEvent() store.Event {
	return event(store.ThreadMatched, "thr_k7q2", 7, store.EventData{Thread: &store.ThreadEvent{
		Origin: store.OriginPoll, Thread: "thr_k7q2", MessageCount: 4,
		Messages: []store.EventMessage{{
			ID: "msg_9xw4", MessageID: "a1@mail.example.net",
			Date: at(9, 59, 40, 0), Received: at(9, 59, 42, 0), Direction: "inbound",
			From:       []store.EventAddress{{Name: "Nora Brandt", Address: "nora@example.net"}},
			To:         []store.EventAddress{{Address: "rita@example.com"}},
			Subject:    "Re: Interview",
			Mailboxes:  []store.Holding{{ID: "rita", User: "usr_7"}},
			Candidates: []store.Pair{{Candidate: "cand_123", Key: "nora@example.net", Address: "nora@example.net", Fields: []string{"from"}}},
		}},
	}})
}

// bareEvent has nothing that a mail may lack.
func bareEvent() store.Event {
	return event(store.ThreadMatched, "thr_k7q2", 8, store.EventData{Thread: &store.ThreadEvent{
		Origin: store.OriginBackfill, Thread: "thr_k7q2", MessageCount: 1,
		Messages: []store.EventMessage{{
			ID: "msg_9xw5", Direction: "other",
			Mailboxes:  []store.Holding{{ID: "rita"}},
			Candidates: []store.Pair{{Candidate: "cand_123", Address: "nora@example.net", Fields: []string{"bcc"}}},
		}},
	}})
}

func samples() []sample {
	return []sample{
		{"a match", contractEvent()},
		{"a match of a bare mail", bareEvent()},
		{"a merge", event(store.ThreadMerged, "thr_k7q2", 9, store.EventData{Merged: &store.MergedEvent{
			From: "thr_p0aa", Into: "thr_k7q2", Messages: []string{"msg_9xw6", "msg_9xw7"}}})},
		{"a merge of a thread whose messages were purged", event(store.ThreadMerged, "thr_k7q2", 9, store.EventData{Merged: &store.MergedEvent{
			From: "thr_p0aa", Into: "thr_k7q2"}})},
		{"another mailbox", event(store.MessageObserved, "thr_k7q2", 10, store.EventData{Observed: &store.ObservedEvent{
			Message: "msg_9xw4", Thread: "thr_k7q2", Mailbox: store.Holding{ID: "tom", User: "usr_8", Link: "https://webmail.example.com/?mid=a1"}}})},
		{"a purge", event(store.CandidatePurged, "candidate:cand_77", 1, store.EventData{Purged: &store.PurgedEvent{
			Candidate: "cand_77", Reason: "deleted", ThreadCount: 2, MessageCount: 5, Receipt: "rcpt_1"}})},
		{"a mailbox in trouble", event(store.MailboxStateEvent, "mailbox:rita", 3, store.EventData{Mailbox: &store.MailboxEvent{
			Mailbox: "rita", State: store.MailboxUnauthorized, Previous: store.MailboxActive, Class: "unauthorized",
			Since: at(9, 30, 0, 5), Action: "correct the password"}})},
		{"a mailbox that begins", event(store.MailboxStateEvent, "mailbox:rita", 1, store.EventData{Mailbox: &store.MailboxEvent{
			Mailbox: "rita", State: store.MailboxActive, Since: at(9, 30, 0, 5)}})},
		{"a conflict", event(store.DirectoryConflict, "directory", 1, store.EventData{Directory: &store.DirectoryEvent{
			Type: store.DirectoryConflict, Candidate: "cand_9", Address: "jobs@example.com", Rule: "shared_alias"}})},
		{"a held sweep", event(store.DirectorySweepHeld, "directory", 2, store.EventData{Directory: &store.DirectoryEvent{
			Type: store.DirectorySweepHeld, Kind: "candidate", Missing: 812, Total: 1000}})},
	}
}
