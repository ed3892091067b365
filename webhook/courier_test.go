package webhook_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mailsyncd/store"
	"mailsyncd/store/storetest"
	"mailsyncd/webhook"
)

func TestAnEventIsPostedAsSoonAsItIsThere(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.after(10 * time.Second)
		w.threads(3)
		synctest.Wait() // no time passes
		w.expect(3, 0, 0)
		if e := w.events(store.EventDelivered)[0]; e.LastResult != "204" || e.Attempts != 1 || e.Delivered.IsZero() {
			t.Errorf("the delivered row is %+v", e)
		}
		w.state(webhook.StateOK, "")
		w.log.expect()
	})
}

func TestTheLoopBeatsWhateverTheEndpointDoes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.takes = func(post) time.Duration { return 10 * time.Minute }
		w.start()
		w.threads(1)
		w.after(9 * time.Minute) // a post is under way
		if age := time.Since(w.courier.Beat()); age > time.Minute {
			t.Errorf("the last beat is %v old", age)
		}
	})
}

func TestStreamsRunInParallelAndEachHasOneInFlight(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.takes = func(post) time.Duration { return time.Second }
		w.threads(20)
		for i := range 20 {
			w.mail(fmt.Sprintf("thread%d", i), fmt.Sprintf("cand_%d", i))
		}
		w.start()
		w.after(20 * time.Second)
		w.expect(40, 0, 0)
		if w.ats.most != 8 {
			t.Errorf("at most %d posts were in flight, want the default concurrency of 8", w.ats.most)
		}
	})
}

func TestAFailingEventBlocksItsStreamOnlyAndFollowsTheSchedule(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(4)
		w.mail("thread0", "cand_0")
		poison := w.events(store.EventPending)[0]
		w.ats.answer = func(p post) webhook.Result {
			if p.id == poison.ID {
				return answers(422, "")
			}
			return answers(200, "")
		}
		w.start()
		w.after(time.Minute)
		w.expect(3, 2, 0)
		w.mail("thread1", "cand_1")
		w.after(7 * 24 * time.Hour)
		w.expect(5, 0, 1)
		tries := w.ats.all(func(p post) bool { return p.id == poison.ID })
		delays := webhook.RetryDelays()
		if len(tries) != len(delays) {
			t.Fatalf("%d tries, want %d", len(tries), len(delays))
		}
		for i := 1; i < len(tries); i++ {
			if got := tries[i].at.Sub(tries[i-1].at); got != delays[i] {
				t.Errorf("try %d came after %v, want %v", i+1, got, delays[i])
			}
		}
		last := w.ats.all(accepted)
		if got := last[len(last)-1]; got.Stream.Key != poison.Stream || got.Stream.Seq != poison.Seq+1 {
			t.Errorf("after the dead letter came %s %d, want the stream to go on", got.Stream.Key, got.Stream.Seq)
		}
		w.log.expect("dead_letter")
		w.state(webhook.StateOK, "")
	})
}

func TestJitterLengthensAWaitByUpToAFifth(t *testing.T) {
	inWorld(t, func(w *world) {
		w.jitter = 0.9999999
		w.ats.answer = func(post) webhook.Result { return answers(400, "") }
		w.threads(1)
		w.start()
		w.after(10 * time.Minute)
		posts := w.ats.all(func(post) bool { return true })
		for i, want := range []time.Duration{0, 6 * time.Second, 72 * time.Second, 6 * time.Minute} {
			if i == 0 {
				continue
			}
			if got := posts[i].at.Sub(posts[i-1].at); got > want || got < want-time.Second {
				t.Errorf("try %d came after %v, want just under %v", i+1, got, want)
			}
		}
	})
}

func TestTheThirdStreamThatFailsInARowPausesTheEndpoint(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.answer = func(post) webhook.Result { return answers(500, "") }
		w.threads(2)
		w.start()
		w.after(time.Hour)
		w.state(webhook.StateOK, "")
		w.log.expect()

		w.candidates("cand_new")
		w.mail("new", "cand_new")
		synctest.Wait()
		w.state(webhook.StatePaused, webhook.ReasonFailing)
		if v, _ := w.metric("mailsyncd_webhook_paused", webhook.ReasonFailing); v != 1 {
			t.Errorf("the metric says %v", v)
		}
		begun := time.Now()
		w.ats.most = 0
		w.after(30 * time.Minute)
		probes := w.ats.all(func(p post) bool { return p.at.After(begun) })
		ladder := []time.Duration{5, 10, 20, 40, 80, 160, 300, 300, 300}
		for i, was := 0, begun; i < len(ladder); i++ {
			if got := probes[i].at.Sub(was); got != ladder[i]*time.Second {
				t.Errorf("probe %d came after %v, want %v", i+1, got, ladder[i]*time.Second)
			}
			was = probes[i].at
		}
		if w.ats.most != 1 {
			t.Errorf("%d probes at a time", w.ats.most)
		}
		turns := map[string]bool{}
		for _, p := range probes {
			turns[p.Stream.Key] = true
		}
		if len(turns) != 3 {
			t.Errorf("the probes asked for %d of 3 streams: one poison event could keep the endpoint paused", len(turns))
		}
		for _, e := range w.events(store.EventPending) {
			if e.Tries != 0 {
				t.Errorf("event %d lost %d tries to the endpoint", e.No, e.Tries)
			}
		}
		w.ats.answer = nil
		w.after(5 * time.Minute)
		w.expect(3, 0, 0)
		w.state(webhook.StateOK, "")
		w.log.expect("webhook_paused", "webhook_resumed")
	})
}

func TestOneStreamThatAlwaysFailsPausesNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(1)
		w.ats.answer = func(p post) webhook.Result {
			if p.names("cand_0") {
				return answers(500, "")
			}
			return answers(200, "")
		}
		w.start()
		for i := range 24 * 7 {
			ref := fmt.Sprintf("other_%d", i)
			w.candidates(ref)
			w.mail("other"+ref, ref)
			w.after(time.Hour)
			w.state(webhook.StateOK, "")
		}
		w.expect(24*7, 0, 1) // an endpoint failure while others pass is the event's
		dead := w.events(store.EventDead)[0]
		if dead.Tries != len(webhook.RetryDelays()) || dead.LastResult != "500" {
			t.Errorf("the dead letter has %d tries and ended with %q", dead.Tries, dead.LastResult)
		}
		w.log.expect("dead_letter")
	})
}

func TestNothingDiesWhileTheEndpointAcceptsNothingElse(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.answer = func(post) webhook.Result { return answers(422, "") }
		w.threads(5)
		w.start()
		w.after(30 * 24 * time.Hour)
		w.expect(0, 5, 0)

		w.ats.answer = func(p post) webhook.Result {
			if p.names("cand_0") {
				return answers(422, "")
			}
			return answers(200, "")
		}
		w.after(48 * time.Hour)
		w.expect(4, 0, 1)
	})
}

// The endpoint is down for a week of virtual time, answers 404 for an hour, asks
// for a pause, and recovers: everything arrives, in order, and nothing dies.
func TestAWeekOfOutage(t *testing.T) {
	const streams, rounds = 20, 8
	inWorld(t, func(w *world) {
		began := time.Now()
		week, hour := began.Add(7*24*time.Hour), began.Add(7*24*time.Hour+time.Hour)
		recovered := hour.Add(30 * time.Minute)
		w.ats.answer = func(p post) webhook.Result {
			switch {
			case p.at.Before(week):
				return unreachable()
			case p.at.Before(hour):
				return answers(404, "")
			case p.at.Before(recovered):
				return answers(429, "600")
			default:
				return answers(204, "")
			}
		}
		w.ats.takes = func(post) time.Duration { return 100 * time.Millisecond }
		w.start()
		w.threads(streams)
		for range rounds - 1 {
			w.after(20 * time.Hour)
			for i := range streams {
				w.mail(fmt.Sprintf("thread%d", i), fmt.Sprintf("cand_%d", i))
			}
		}
		w.after(time.Until(recovered))
		w.expect(0, streams*rounds, 0)
		before := len(w.ats.all(func(post) bool { return true }))
		if most := 8*12*24 + 100; before > most {
			t.Errorf("%d posts during the outage, want at most %d: one probe in five minutes", before, most)
		}
		w.ats.most = 0
		w.after(15 * time.Minute)
		w.expect(streams*rounds, 0, 0)
		if posts := len(w.ats.all(func(post) bool { return true })); posts-before > streams*rounds+1 {
			t.Errorf("%d posts for %d events after the recovery", posts-before, streams*rounds)
		}
		if w.ats.most > 8 {
			t.Errorf("%d posts at a time ran the receiver over", w.ats.most)
		}
		w.log.expect("webhook_paused", "webhook_paused", "webhook_paused", "webhook_resumed")
	})
}

func TestAnEndpointThatComesBackIsNotRunOver(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.answer = func(post) webhook.Result { return unreachable() }
		w.threads(40)
		w.start()
		w.after(time.Hour)
		w.ats.answer = nil
		w.ats.takes = func(post) time.Duration { return time.Second }
		w.ats.most = 0
		w.after(5 * time.Minute)
		w.expect(40, 0, 0)
		posts := w.ats.all(accepted)
		for i, want := range []int{1, 2, 4, 8, 8} { // posts within a second, second by second
			n := 0
			for _, p := range posts {
				if p.at.Sub(posts[0].at)/time.Second == time.Duration(i) {
					n++
				}
			}
			if n != want {
				t.Errorf("second %d after the recovery had %d posts, want %d", i, n, want)
			}
		}
	})
}

func TestAPauseTheEndpointAsksFor(t *testing.T) {
	for _, tt := range []struct {
		what       string
		status     int
		retryAfter string
		want       time.Duration
	}{
		{"429 with seconds", 429, "120", 2 * time.Minute},
		{"503 with seconds", 503, "3600", time.Hour},
		{"429 with far too many seconds", 429, "31536000", 24 * time.Hour},
		{"429 without a time", 429, "", 5 * time.Second},
	} {
		t.Run(tt.what, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.ats.answer = func(post) webhook.Result { return answers(tt.status, tt.retryAfter) }
				w.threads(5)
				w.start()
				synctest.Wait()
				w.state(webhook.StatePaused, webhook.ReasonThrottled)
				first := w.ats.all(func(post) bool { return true })
				if len(first) != 1 {
					t.Fatalf("%d posts before the pause counted, want 1", len(first))
				}
				w.restart() // the pause survives
				w.ats.answer = nil
				w.after(tt.want - time.Second)
				w.expect(0, 5, 0)
				w.after(time.Second)
				w.expect(5, 0, 0)
				for _, e := range w.events(store.EventDelivered) {
					if e.Tries != 1 {
						t.Errorf("event %d counts %d tries, want the successful one only", e.No, e.Tries)
					}
				}
			})
		})
	}
}

func TestALaterAnswerNeverShortensAPause(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(8)
		w.start()
		w.after(time.Minute) // the ramp is open
		w.ats.takes = func(p post) time.Duration {
			if p.names("cand_0") {
				return time.Second
			}
			return 2 * time.Second
		}
		w.ats.answer = func(p post) webhook.Result {
			if p.names("cand_0") {
				return answers(429, "3600")
			}
			return answers(429, "60")
		}
		for i := range 8 {
			w.mail(fmt.Sprintf("thread%d", i), fmt.Sprintf("cand_%d", i))
		}
		w.after(30 * time.Minute)
		w.state(webhook.StatePaused, webhook.ReasonThrottled)
		w.expect(8, 8, 0)
	})
}

func TestThrottlingWithoutATimeBacksOff(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.answer = func(post) webhook.Result { return answers(429, "") }
		w.threads(1)
		w.start()
		w.after(24 * time.Hour)
		if n := len(w.ats.all(func(post) bool { return true })); n < 280 || n > 300 {
			t.Errorf("%d posts in a day, want one in five minutes", n)
		}
		if e := w.events(store.EventPending)[0]; e.Tries != 0 {
			t.Errorf("throttling cost %d tries", e.Tries)
		}
	})
}

func TestGoneSwitchesTheEndpointOffUntilResume(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.answer = func(post) webhook.Result { return answers(410, "") }
		w.threads(5)
		w.start()
		w.after(time.Hour)
		w.state(webhook.StateDisabled, webhook.ReasonGone)
		w.restart()
		w.ats.answer = nil
		w.after(24 * time.Hour)
		w.state(webhook.StateDisabled, webhook.ReasonGone)
		w.expect(0, 5, 0)
		if n := len(w.ats.all(func(post) bool { return true })); n != 1 {
			t.Errorf("%d posts, want the one that was answered with 410", n)
		}
		if err := w.courier.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.expect(5, 0, 0)
		w.log.expect("webhook_disabled", "webhook_disabled", "webhook_resumed") // also after the restart
	})
}

func TestAnOperatorPausesAndResumes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		synctest.Wait()
		if err := w.courier.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.threads(3)
		w.restart()
		w.after(24 * time.Hour)
		w.state(webhook.StateDisabled, webhook.ReasonOperator)
		w.expect(0, 3, 0)
		if err := w.courier.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.expect(3, 0, 0)
		w.state(webhook.StateOK, "")
	})
}

func TestPauseBeforeRunHolds(t *testing.T) {
	inWorld(t, func(w *world) {
		c, err := webhook.New(webhook.Config{Outbox: w.mem, Poster: w.ats, Log: discard()})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.threads(1)
		w.start()
		w.after(time.Hour)
		w.expect(0, 1, 0)
	})
}

func TestResumeEndsAPauseAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.answer = func(post) webhook.Result { return unreachable() }
		w.threads(5)
		w.start()
		w.after(time.Hour)
		w.state(webhook.StatePaused, webhook.ReasonFailing)
		w.ats.answer = nil
		if err := w.courier.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.expect(5, 0, 0)
	})
}

func TestANewPosterIsUsedAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.answer = func(post) webhook.Result { return answers(404, "") }
		w.threads(5)
		w.start()
		w.after(time.Hour)
		corrected := newATS(t)
		w.courier.Use(corrected)
		synctest.Wait()
		w.expect(5, 0, 0)
		if n := len(corrected.all(accepted)); n != 5 {
			t.Errorf("the new poster got %d posts", n)
		}
	})
}

func TestAPauseHoldsBackWhatWasClaimedBefore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(40)
		w.start()
		w.after(time.Minute) // the ramp is open
		w.ats.takes = func(post) time.Duration { return time.Second }
		w.ats.answer = func(post) webhook.Result { return unreachable() }
		for i := range 40 {
			w.mail(fmt.Sprintf("thread%d", i), fmt.Sprintf("cand_%d", i))
		}
		w.after(4 * time.Second)
		w.state(webhook.StatePaused, webhook.ReasonFailing)
		// Two failures do not pause yet, so two more posts may follow the eight.
		if n := len(w.ats.all(func(p post) bool { return !accepted(p) })); n < 8 || n > 10 {
			t.Errorf("%d posts failed, want those that were in flight when the endpoint was paused", n)
		}
		for _, e := range w.events(store.EventPending) {
			if e.Tries != 0 {
				t.Errorf("event %d lost %d tries to the endpoint", e.No, e.Tries)
			}
		}
	})
}

func TestARefusedProbeCostsItsEventATryAndWaitsForTheNextProbe(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.answer = func(post) webhook.Result { return unreachable() }
		w.threads(30)
		w.start()
		w.after(time.Second)
		w.state(webhook.StatePaused, webhook.ReasonFailing)
		w.ats.answer = func(post) webhook.Result { return answers(400, "") }
		begun := time.Now()
		w.after(time.Minute)
		w.state(webhook.StatePaused, webhook.ReasonFailing)
		refused := w.ats.all(func(p post) bool { return p.at.After(begun) })
		if len(refused) > 12 {
			t.Errorf("%d probes in a minute, want one in five seconds", len(refused))
		}
		tries := 0
		for _, e := range w.events(store.EventPending) {
			tries += e.Tries
		}
		if tries != len(refused) {
			t.Errorf("%d tries were counted for %d refused probes", tries, len(refused))
		}
	})
}

func TestANewPosterLeavesADisabledEndpointOff(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.answer = func(post) webhook.Result { return answers(410, "") }
		w.threads(1)
		w.start()
		w.after(time.Hour)
		w.courier.Use(newATS(t))
		w.after(time.Hour)
		w.state(webhook.StateDisabled, webhook.ReasonGone)
		w.expect(0, 1, 0)
	})
}

func TestTheLastAcceptanceIsKeptToAMinute(t *testing.T) {
	inWorld(t, func(w *world) {
		writes := 0
		w.fault = func(op string) storetest.FaultKind {
			if op == "SetEndpoint" {
				writes++
			}
			return storetest.NoFault
		}
		w.candidates("nora")
		w.start()
		for range 600 {
			w.mail("a", "nora")
			w.after(time.Second)
		}
		if writes < 9 || writes > 11 {
			t.Errorf("%d writes in ten minutes of deliveries, want one a minute", writes)
		}
		e, err := w.mem.Endpoint(t.Context())
		if err != nil || time.Since(e.LastAccepted) > time.Minute+time.Second {
			t.Errorf("the kept time is %v old (%v)", time.Since(e.LastAccepted), err)
		}
	})
}

func TestAStreamKeepsOneInFlightWhenAPurgeRemovesItsHead(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.takes = func(post) time.Duration { return 10 * time.Second }
		w.candidates("nora", "tom")
		w.mail("a", "nora", "tom") // joins the two in one thread
		w.start()
		w.after(15 * time.Second)
		w.mail("a", "nora")
		w.mail("a", "tom")
		w.after(5 * time.Second) // nora's is in flight, tom's waits behind it
		w.purge("nora")
		w.after(time.Minute) // the ATS of these tests fails on two posts of one stream
		if got := w.ats.all(accepted); len(got) != 4 {
			t.Errorf("%d posts were accepted, want 4", len(got))
		}
	})
}

func TestAPurgeWaitsForPostsInFlightThatNameTheCandidate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.stripped = true
		w.ats.takes = func(p post) time.Duration {
			if p.Type == string(store.ThreadMatched) {
				return 10 * time.Second
			}
			return 0
		}
		w.candidates("nora", "tom")
		w.mail("a", "nora")
		w.mail("b", "tom")
		w.start()
		w.after(15 * time.Second) // the first has opened the ramp, the second is in flight
		w.mail("c", "nora", "tom")
		w.after(time.Second)
		begun := time.Now()
		w.purge("nora")
		w.after(time.Minute)
		purges := w.ats.all(func(p post) bool { return p.Type == string(store.CandidatePurged) })
		if len(purges) != 1 {
			t.Fatalf("%d candidate.purged, want 1", len(purges))
		}
		late := w.ats.all(func(p post) bool { return p.names("nora") && !p.at.Before(begun) })
		if len(late) != 0 {
			t.Errorf("%d posts that name the candidate began after the purge", len(late))
		}
		for _, p := range w.ats.all(func(p post) bool { return p.names("nora") }) {
			if end := p.at.Add(10 * time.Second); purges[0].at.Before(end) {
				t.Errorf("candidate.purged went %v before a post that names the candidate ended", end.Sub(purges[0].at))
			}
		}
	})
}

func TestAPurgeReachesWhatIsClaimedButNotPosted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.stripped = true
		w.threads(30)
		w.start()
		w.after(time.Minute) // the ramp is open
		w.ats.takes = func(post) time.Duration { return 10 * time.Second }
		for i := range 30 {
			w.mail(fmt.Sprintf("thread%d", i), fmt.Sprintf("cand_%d", i))
		}
		w.after(time.Second) // 8 are in flight, the others are claimed
		begun := time.Now()
		for i := range 30 {
			w.purge(fmt.Sprintf("cand_%d", i))
		}
		w.after(10 * time.Minute)
		late := w.ats.all(func(p post) bool { return p.Type == string(store.ThreadMatched) && !p.at.Before(begun) })
		if len(late) > 0 {
			t.Errorf("%d posts that name a purged candidate began after the purge", len(late))
		}
		if n := len(w.ats.all(func(p post) bool { return accepted(p) && p.Type == string(store.CandidatePurged) })); n != 30 {
			t.Errorf("%d candidate.purged arrived, want 30", n)
		}
	})
}

func TestASharedEventGoesWithoutThePurgedCandidate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.stripped = true
		w.ats.answer = func(post) webhook.Result { return unreachable() }
		w.candidates("nora", "tom")
		w.mail("a", "nora", "tom")
		w.mail("b", "nora")
		w.start()
		w.after(time.Hour) // both were rendered and tried
		w.purge("nora")
		w.ats.answer = nil
		w.after(10 * time.Minute)
		got := w.ats.all(func(p post) bool { return accepted(p) && p.Type == string(store.ThreadMatched) })
		if len(got) != 1 || got[0].names("nora") || !got[0].names("tom") {
			t.Errorf("%d matches arrived, want one that names tom only", len(got))
		}
	})
}

func TestNoMatchOvertakesTheCandidatesPurge(t *testing.T) {
	inWorld(t, func(w *world) {
		w.candidates("nora", "tom")
		w.mail("a", "nora")
		w.start()
		w.after(time.Minute)
		w.ats.answer = func(p post) webhook.Result {
			if p.Type == string(store.CandidatePurged) {
				return answers(500, "")
			}
			return answers(200, "")
		}
		w.purge("nora")
		w.candidates("nora") // she applies again
		w.mail("b", "nora")
		w.mail("c", "tom")
		w.after(30 * 24 * time.Hour)
		w.expect(1, 2, 0) // tom's passed, the purge never dies
		w.ats.answer = nil
		w.after(48 * time.Hour)
		w.expect(3, 0, 0)
		all := w.ats.all(accepted)
		if all[len(all)-2].Type != string(store.CandidatePurged) || !all[len(all)-1].names("nora") {
			t.Errorf("the last two accepted are %s and %s, want the purge and then the match", all[len(all)-2].Type, all[len(all)-1].Type)
		}
	})
}

func TestAPurgeIsNeverADeadLetterEvenWhenItIsRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		w.candidates("nora")
		w.start()
		w.ats.answer = func(p post) webhook.Result {
			if p.Type == string(store.CandidatePurged) {
				return answers(422, "")
			}
			return answers(200, "")
		}
		w.purge("nora")
		for i := range 60 {
			ref := fmt.Sprintf("cand_%d", i)
			w.candidates(ref)
			w.mail(ref, ref)
			w.after(24 * time.Hour)
		}
		w.expect(60, 1, 0)
	})
}

func TestShutdownFinishesWhatIsInFlightAndLeavesTheRestUntried(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(1)
		w.start()
		w.after(time.Second)
		w.ats.takes = func(post) time.Duration { return 20 * time.Second }
		for i := range 60 {
			ref := fmt.Sprintf("late_%d", i)
			w.candidates(ref)
			w.mail(ref, ref)
		}
		w.after(90 * time.Second) // the ramp is open, posts are in flight, the queue is full
		begun, posts := time.Now(), len(w.ats.all(func(post) bool { return true }))
		flying := w.ats.inFlight
		if flying != 8 {
			t.Fatalf("%d posts in flight, want 8", flying)
		}
		if err := w.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("the shutdown took %v, want no longer than the posts in flight", took)
		}
		if n := len(w.ats.all(func(post) bool { return true })) - posts; n != flying {
			t.Errorf("%d posts ended during the shutdown, want the %d in flight", n, flying)
		}
		w.expect(posts+flying, 61-posts-flying, 0)
		for _, e := range w.events(store.EventPending) {
			if e.Tries != 0 {
				t.Errorf("event %d lost a try to the shutdown", e.No)
			}
		}
	})
}

func TestShutdownCutsAPostThatTakesTooLong(t *testing.T) {
	inWorld(t, func(w *world) {
		w.ats.takes = func(post) time.Duration { return time.Hour }
		w.threads(1)
		w.start()
		w.after(time.Second)
		begun := time.Now()
		if err := w.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		if took := time.Since(begun); took != 30*time.Second {
			t.Errorf("the shutdown took %v, want 30 s", took)
		}
		if e := w.events(store.EventPending)[0]; e.Tries != 0 {
			t.Error("the event lost a try to the shutdown")
		}
		w.ats.takes = nil
		w.start()
		w.after(time.Second)
		w.expect(1, 0, 0)
	})
}

// unreadable is an outbox that hands out one event with content that does not
// belong to its type.
type unreadable struct {
	store.Outbox
	no uint64
}

func (u unreadable) Due(ctx context.Context, now time.Time, limit int, skip func(uint64) bool) ([]store.Event, time.Time, error) {
	es, next, err := u.Outbox.Due(ctx, now, limit, skip)
	for i := range es {
		if es[i].No == u.no {
			es[i].Data = &store.EventData{}
		}
	}
	return es, next, err
}

func TestAnEventThatCannotBeRenderedDiesAndTheQueueMoves(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(3)
		w.mail("thread0", "cand_0")
		w.outbox = unreadable{w.mem, w.events(store.EventPending)[0].No}
		w.start()
		w.after(time.Minute)
		w.expect(2, 2, 0)
		w.after(7 * 24 * time.Hour)
		w.expect(3, 0, 1)
		if v, _ := w.metric("mailsyncd_webhook_attempts_total", "unrenderable"); v != float64(len(webhook.RetryDelays())) {
			t.Errorf("%v attempts were counted as unrenderable", v)
		}
		if e := w.events(store.EventDead)[0]; e.LastResult != "unrenderable" {
			t.Errorf("the dead letter's result is %q", e.LastResult)
		}
	})
}

func TestARowThatAFastClockPutOffForYearsIsDueNow(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(2)
		var as []store.Attempt
		for _, e := range w.events(store.EventPending) {
			as = append(as, store.Attempt{No: e.No, Version: e.Version, At: time.Now()})
		}
		counted, err := w.mem.Attempt(t.Context(), as)
		if err != nil {
			t.Fatal(err)
		}
		far := time.Now().AddDate(10, 0, 0)
		for _, e := range counted {
			o := store.Outcome{No: e.No, Version: e.Version, State: store.EventPending, Result: "500", Due: far, At: far}
			if err := w.mem.Outcome(t.Context(), []store.Outcome{o}); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		synctest.Wait()
		w.expect(2, 0, 0)
	})
}

func TestAPauseThatAFastClockWroteEndsWithinADay(t *testing.T) {
	inWorld(t, func(w *world) {
		far := time.Now().AddDate(10, 0, 0)
		if err := w.mem.SetEndpoint(t.Context(), store.Endpoint{NotBefore: far, LastAccepted: far}); err != nil {
			t.Fatal(err)
		}
		w.threads(1)
		w.start()
		w.after(24*time.Hour - time.Minute)
		w.expect(0, 1, 0)
		w.after(time.Minute)
		w.expect(1, 0, 0)
	})
}

func TestMetrics(t *testing.T) {
	inWorld(t, func(w *world) {
		w.threads(3)
		w.ats.answer = func(p post) webhook.Result {
			if p.names("cand_0") {
				return answers(400, "")
			}
			return answers(200, "")
		}
		created := time.Now()
		w.start()
		synctest.Wait()
		for _, tt := range []struct {
			name, label string
			want        float64
		}{
			{"mailsyncd_outbox_events", "", 1},
			{"mailsyncd_outbox_oldest_timestamp_seconds", "", float64(created.UnixMilli()) / 1000},
			{"mailsyncd_dead_letters", "", 0},
			{"mailsyncd_webhook_attempts_total", "accepted", 2},
			{"mailsyncd_webhook_attempts_total", "event_failure", 1},
			{"mailsyncd_webhook_attempts_total", "endpoint_failure", 0},
			{"mailsyncd_webhook_attempts_total", "throttled", 0},
			{"mailsyncd_webhook_attempts_total", "gone", 0},
			{"mailsyncd_webhook_duration_seconds", "", 3},
			{"mailsyncd_webhook_paused", "failing", 0},
			{"mailsyncd_webhook_paused", "throttled", 0},
			{"mailsyncd_webhook_paused", "operator", 0},
			{"mailsyncd_webhook_paused", "gone", 0},
		} {
			if v, ok := w.metric(tt.name, tt.label); !ok || v != tt.want {
				t.Errorf("%s{%s} is %v (there: %v), want %v", tt.name, tt.label, v, ok, tt.want)
			}
		}
		w.ats.answer = nil
		w.after(time.Hour)
		if _, ok := w.metric("mailsyncd_outbox_oldest_timestamp_seconds", ""); ok {
			t.Error("an empty outbox has an oldest event")
		}
		if _, err := webhook.New(webhook.Config{Outbox: w.mem, Poster: w.ats, Log: discard(), Registerer: w.registry}); err == nil {
			t.Error("two couriers share their metrics")
		}
	})
}
