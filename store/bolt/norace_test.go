//go:build !race

package bolt_test

const thin = 1 // see race_test.go
