//go:build race

package proptest_test

// lives is fewer under the race detector, which looks for something else and is
// an order of magnitude slower. The 20,000 are played without it.
const lives = 1_000

const gmailLives = 100
