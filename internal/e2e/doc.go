// Package e2e holds the tests of the whole product: the real binary, a real
// Dovecot, a real receiver, and everything that goes wrong between them. It has
// no code of its own; see the tests.
package e2e
