//go:build race

package bolt_test

// thin is by how much the long tests that run one goroutine take less when the
// race detector, which has nothing to find in them, slows them down tenfold.
const thin = 8
