package main

import (
	"context"
	"errors"
	"time"

	"mailsyncd/admin"
	"mailsyncd/store"
	"mailsyncd/webhook"
)

// outboxDesk answers for the outbox.
type outboxDesk struct{ *daemon }

func (d outboxDesk) Deliveries(ctx context.Context, q admin.DeliveryQuery) (admin.DeliveryList, error) {
	events, err := d.store.Events(ctx, store.EventFilter{
		State: store.EventState(q.State), Candidate: q.Candidate, After: q.After, Limit: q.Limit + 1,
	})
	if err != nil {
		return admin.DeliveryList{}, err
	}
	list := admin.DeliveryList{Items: []admin.Delivery{}}
	for i, e := range events {
		if i == q.Limit {
			list.Next = events[i-1].No
			break
		}
		list.Items = append(list.Items, delivery(e))
	}
	return list, nil
}

func delivery(e store.Event) admin.Delivery {
	d := admin.Delivery{
		No: e.No, ID: e.ID, Type: string(e.Type), Stream: e.Stream, Epoch: e.Epoch, Seq: e.Seq,
		State: string(e.State), Created: e.Created, Due: e.Due, Tries: e.Tries, Attempts: e.Attempts,
		FirstFailure: e.FirstFailure, LastAttempt: e.LastAttempt, Delivered: e.Delivered,
		LastResult: e.LastResult, Candidates: e.Candidates,
	}
	if d.Candidates == nil {
		d.Candidates = []string{}
	}
	if e.State != store.EventPending {
		d.Due = time.Time{} // it is not posted by itself
	}
	return d
}

func (d outboxDesk) Delivery(ctx context.Context, id string, payload bool) (admin.Delivery, error) {
	e, err := d.store.Event(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return admin.Delivery{}, admin.NotFound("no delivery %q; `mailsyncd deliveries list` shows the ids", id)
	}
	if err != nil {
		return admin.Delivery{}, err
	}
	out := delivery(e)
	switch {
	case !payload:
	case e.Body != nil:
		out.Payload = e.Body
	case e.Data != nil:
		out.Payload, err = webhook.Render(e)
	default:
		out.Payload = []byte("null")
	}
	return out, err
}

func (d outboxDesk) Replay(ctx context.Context, r admin.Replay) (admin.ReplayResult, error) {
	f := store.EventFilter{IDs: r.IDs, Since: r.Since, Candidate: r.Candidate}
	if r.Dead {
		f.State = store.EventDead
	}
	done, err := d.store.Replay(ctx, f, time.Now())
	d.courier.Notify()
	if len(done.Tasks) > 0 {
		d.fleet.nudge("") // they read the headers again
	}
	return admin.ReplayResult{
		Replayed: done.Replayed, Rereading: done.Rereading, Tasks: done.Tasks, Erased: done.Erased,
	}, err
}
