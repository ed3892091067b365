//go:build !race

package proptest_test

// lives is how many lives are played.
const lives = 20_000

// gmailLives is fewer: each speaks HTTP.
const gmailLives = 4_000
