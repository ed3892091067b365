package bolt_test

import (
	"bytes"
	"os"
	"testing"

	"mailsyncd/store/bolt"
)

// A secret survives a rotation and a rewrite, needs only the new key afterwards,
// and never stands in the file: neither it nor its mailbox, nor once it is gone.
func TestSecretsThroughRotationAndRewrite(t *testing.T) {
	o := options(t)
	s := open(t, o)
	mustNot(t, s.SetSecret(t.Context(), "ritas-box", "refresh-name", []byte("1//kept-token")))
	mustNot(t, s.SetSecret(t.Context(), "tims-box", "refresh-name", []byte("1//gone-token")))
	mustNot(t, s.DropSecrets(t.Context(), "tims-box", benchNow()))
	o.Keys = bolt.Keys{Current: bolt.NewKey(), Previous: o.Keys.Current}
	_, err := s.Rotate(t.Context(), o.Keys)
	mustNot(t, err)
	mustNot(t, s.Rewrite(t.Context(), benchNow()))
	mustNot(t, s.Check(t.Context()))
	mustNot(t, s.Close())

	o.Keys.Previous = bolt.Key{}
	s = open(t, o)
	for mailbox, want := range map[string]string{"ritas-box": "1//kept-token", "tims-box": ""} {
		if got, err := s.Secret(t.Context(), mailbox, "refresh-name"); err != nil || string(got) != want {
			t.Errorf("%s: a secret of %d bytes, want %d, %v", mailbox, len(got), len(want), err)
		}
	}
	file, err := os.ReadFile(o.Path)
	mustNot(t, err)
	for _, text := range []string{"ritas-box", "tims-box", "refresh-name", "kept-token", "gone-token"} {
		if bytes.Contains(file, []byte(text)) {
			t.Errorf("the file holds %q in clear", text)
		}
	}
}
