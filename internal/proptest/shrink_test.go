package proptest_test

import "slices"

// maxTrials bounds how long a failing life is cut down.
const maxTrials = 600

// shrink returns a shorter life that fails in the same way. It leaves out runs of
// steps, long ones first, then what happens inside steps, until nothing can go.
func shrink(s script, fails func(script) bool) script {
	trials := 0
	try := func(shorter script) bool {
		trials++
		return trials <= maxTrials && fails(shorter)
	}
	for before := -1; before != len(s.steps) && trials <= maxTrials; {
		before = len(s.steps)
		for n := max(1, len(s.steps)/2); n > 0; n /= 2 {
			s = withoutRuns(s, n, try)
		}
	}
	return withoutDetails(s, try)
}

// withoutRuns leaves out every run of n steps that the failure does not need.
func withoutRuns(s script, n int, try func(script) bool) script {
	for at := len(s.steps) - n; at >= 0; at -= n {
		shorter := s
		shorter.steps = slices.Delete(slices.Clone(s.steps), at, at+n)
		if try(shorter) {
			s = shorter
		}
		at = min(at, len(s.steps))
	}
	return s
}

// withoutDetails leaves out circumstances of the steps that are left.
func withoutDetails(s script, try func(script) bool) script {
	for i := range s.steps {
		for _, drop := range []func(*step){
			func(st *step) { st.cut = nil },
			func(st *step) { st.also = "" },
			func(st *step) { st.parent = "" },
			func(st *step) { st.rev = 0 },
			func(st *step) { st.hasJobs, st.jobs = false, nil },
			func(st *step) { st.age, st.dateAge = 0, 0 },
			func(st *step) { st.dateAge = st.age },
			func(st *step) { st.names = st.names[:min(1, len(st.names))] },
			func(st *step) { st.emails = st.emails[:min(1, len(st.emails))] },
		} {
			simpler := s
			simpler.steps = slices.Clone(s.steps)
			if drop(&simpler.steps[i]); simpler.steps[i].String() != s.steps[i].String() && try(simpler) {
				s = simpler
			}
		}
	}
	for _, drop := range []func(*script){
		func(s *script) { s.slow = 0 }, func(s *script) { s.tight = false }, func(s *script) { s.short = false },
	} {
		simpler := s
		if drop(&simpler); try(simpler) {
			s = simpler
		}
	}
	return s
}
