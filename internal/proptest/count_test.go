//go:build !race

package proptest_test

// lives is how many lives are played.
const lives = 20_000
