package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mailsyncd/admin"
	"mailsyncd/config"
	"mailsyncd/store/bolt"
)

// The exit codes; scripts and service managers depend on them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // wrong usage or invalid configuration
	exitUnreachable = 3 // no daemon at the socket
	exitStore       = 4 // store locked, wrong key, newer schema, corrupt
)

// usageError is a command that was called wrongly.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// codedError is an error with an exit code of its own.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// withCode gives err an exit code; nil stays nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code, err}
}

func exitCode(err error) int {
	var coded *codedError
	var usage *usageError
	var invalid *config.Error
	var unreachable *admin.UnreachableError
	var unusable *bolt.UnusableError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage), errors.As(err, &invalid):
		return exitUsage
	case errors.As(err, &unreachable):
		return exitUnreachable
	case errors.As(err, &unusable):
		return exitStore
	default:
		return exitFailed
	}
}

// wants turns cobra's check of arguments into a usage error that names them.
func wants(least, most int, names string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s is missing", names)
		case most >= 0 && len(args) > most:
			return usagef("too many arguments: want %s, got %d", orNothing(names), len(args))
		}
		return nil
	}
}

func orNothing(names string) string {
	if names == "" {
		return "none"
	}
	return names
}
