// Package providertest holds what every provider is measured by: Run, the
// conformance suite of the providers contract, and Fake, a scripted mailbox in
// memory that passes it. Tests of the rooms above a provider use the Fake: mail
// arrives, moves and vanishes, folders are renumbered, and calls fail, all at
// the test's command.
package providertest
