package gmail

import "mailsyncd/providers"

// Label values of the provider's metrics. operation: token, or a Call. result:
// gone (the mail or the position is no longer there), else providers.Result.
// Bytes are those of bodies and query strings, above TLS and compression.
const (
	// Name is what logs and metrics call this provider.
	Name           = "gmail"
	operationToken = "token"
)

func result(err error) string {
	if isKind(err, kindGone) {
		return "gone"
	}
	return providers.Result(err)
}
