package gmailtest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

type accessToken struct {
	account string
	scopes  []string
	expiry  time.Time // server's clock
	revoked bool
	grant   *grant // nil for a service account
}

// grant is a user's consent.
type grant struct {
	client  string
	account string
	scopes  []string
	revoked bool
	code    string // what a refresh says once revoked
}

type codeGrant struct {
	grant     *grant
	challenge string
	redirect  string
}

// Consent is how the user answers the next authorization.
type Consent struct {
	// Account that the user picks.
	Account string
	// Scopes that are granted; nil: what was asked for.
	Scopes []string
	// Deny is the error that comes back instead, such as "access_denied".
	Deny string
	// NoRefreshToken leaves the refresh token out of the answer.
	NoRefreshToken bool
}

// SetConsent says how users answer from now on.
func (s *Server) SetConsent(c Consent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consent = c
}

// AddClient makes an OAuth client.
func (s *Server) AddClient(id, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[id] = secret
}

// Grant is a consent given elsewhere: it returns a refresh token.
func (s *Server) Grant(client, account string, scopes ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keepGrant(&grant{client: client, account: strings.ToLower(account), scopes: scopes})
}

func (s *Server) keepGrant(g *grant) string {
	s.serial++
	token := fmt.Sprintf("1//refresh-%d", s.serial)
	s.grants[token] = g
	return token
}

// Revoke ends every consent of an account, with its access tokens. code is what
// a refresh is told; "" means invalid_grant.
func (s *Server) Revoke(account, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if code == "" {
		code = "invalid_grant"
	}
	account = strings.ToLower(account)
	for _, g := range s.grants {
		if g.account == account {
			g.revoked, g.code = true, code
		}
	}
	for _, t := range s.access {
		if t.account == account {
			t.revoked = true
		}
	}
}

// KillAccess ends all access tokens at once; refreshing still works.
func (s *Server) KillAccess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.access {
		t.revoked = true
	}
}

// Access is an access token that an account gave, for calls by hand.
func (s *Server) Access(account string, scopes ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newAccess(strings.ToLower(account), scopes, nil)
}

func (s *Server) newAccess(account string, scopes []string, g *grant) string {
	s.serial++
	token := fmt.Sprintf("ya29.access-%d", s.serial)
	s.access[token] = &accessToken{account: account, scopes: scopes, expiry: s.now().Add(s.opts.TokenLifetime), grant: g}
	return token
}

// Delegate lets the service account act for every account with these scopes.
func (s *Server) Delegate(scopes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed = scopes
}

const serviceAccount = "sync@project.iam.gserviceaccount.test"

// ServiceAccountKey is the JSON key file of the service account.
func (s *Server) ServiceAccountKey() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(s.key())
	if err != nil {
		panic(err) // an RSA key always marshals
	}
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": serviceAccount, "private_key_id": "k1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   s.TokenURL, "client_id": "1234",
	})
	if err != nil {
		panic(err) // strings
	}
	return b
}

// authorize is the consent page, with a user who answers at once.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	_, known := s.clients[q.Get("client_id")]
	if err != nil || !known || redirect.Hostname() != "127.0.0.1" || q.Get("response_type") != "code" ||
		q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("scope") == "" {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	answer := url.Values{"state": {q.Get("state")}}
	if s.consent.Deny != "" {
		answer.Set("error", s.consent.Deny)
	} else {
		answer.Set("code", s.newCode(q))
	}
	redirect.RawQuery = answer.Encode()
	http.Redirect(w, r, redirect.String(), http.StatusFound)
}

func (s *Server) newCode(q url.Values) string {
	scopes := s.consent.Scopes
	if scopes == nil {
		scopes = strings.Fields(q.Get("scope"))
	}
	s.serial++
	code := fmt.Sprintf("4/code-%d", s.serial)
	s.codes[code] = &codeGrant{
		grant:     &grant{client: q.Get("client_id"), account: strings.ToLower(s.consent.Account), scopes: scopes},
		challenge: q.Get("code_challenge"), redirect: q.Get("redirect_uri"),
	}
	return code
}

func tokenRefused(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "as Google would say it"}) // the client is gone
}

// token is the token endpoint (RFC 6749 §5, RFC 7523 §2.1).
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method != http.MethodPost || r.ParseForm() != nil {
		tokenRefused(w, 400, "invalid_request")
		return
	}
	answer, code := object{}, ""
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		code = s.byCode(r.PostForm, answer)
	case "refresh_token":
		code = s.byRefresh(r.PostForm, answer)
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		code = s.byAssertion(r.PostForm, answer)
	default:
		code = "unsupported_grant_type"
	}
	if code != "" {
		tokenRefused(w, map[bool]int{true: 401, false: 400}[code == "invalid_client" || code == "unauthorized_client"], code)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(answer) // the client is gone: nothing to do
}

func (s *Server) knowsClient(f url.Values) bool {
	secret, known := s.clients[f.Get("client_id")]
	return known && secret == f.Get("client_secret")
}

func (s *Server) byCode(f url.Values, answer object) string {
	if !s.knowsClient(f) {
		return "invalid_client"
	}
	c := s.codes[f.Get("code")]
	delete(s.codes, f.Get("code"))
	sum := sha256.Sum256([]byte(f.Get("code_verifier"))) // RFC 7636 §4.6
	if c == nil || c.redirect != f.Get("redirect_uri") || c.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) {
		return "invalid_grant"
	}
	if !s.consent.NoRefreshToken {
		answer["refresh_token"] = s.keepGrant(c.grant)
	}
	s.tokenFor(answer, c.grant)
	return ""
}

func (s *Server) tokenFor(answer object, g *grant) {
	answer["access_token"] = s.newAccess(g.account, g.scopes, g)
	answer["token_type"] = "Bearer"
	answer["expires_in"] = int(s.opts.TokenLifetime / time.Second)
	answer["scope"] = strings.Join(g.scopes, " ")
}

func (s *Server) byRefresh(f url.Values, answer object) string {
	if !s.knowsClient(f) {
		return "invalid_client"
	}
	old := f.Get("refresh_token")
	g := s.grants[old]
	switch {
	case g == nil || g.client != f.Get("client_id"):
		return "invalid_grant"
	case g.revoked:
		return g.code
	}
	if s.opts.Rotate {
		delete(s.grants, old)
		answer["refresh_token"] = s.keepGrant(g)
	}
	s.tokenFor(answer, g)
	return ""
}

// claims are those of a service account's assertion.
type claims struct {
	Iss, Sub, Scope, Aud string
	Exp, Iat             int64
}

func (s *Server) byAssertion(f url.Values, answer object) string {
	c, ok := s.verifyAssertion(f.Get("assertion"))
	if !ok || c.Iss != serviceAccount || c.Aud != s.TokenURL {
		return "invalid_grant"
	}
	// The client's clock is this machine's, however far the server's has jumped.
	if now := time.Now().Unix(); c.Iat > now+300 || c.Exp < now || c.Exp > now+3900 {
		return "invalid_grant"
	}
	scopes := strings.Fields(c.Scope)
	if slices.ContainsFunc(scopes, func(x string) bool { return !slices.Contains(s.allowed, x) }) || len(scopes) == 0 {
		return "unauthorized_client"
	}
	account := strings.ToLower(c.Sub)
	if s.accounts[account] == nil {
		return "invalid_grant"
	}
	answer["access_token"] = s.newAccess(account, scopes, nil)
	answer["token_type"] = "Bearer"
	answer["expires_in"] = int(s.opts.TokenLifetime / time.Second)
	return ""
}

func (s *Server) verifyAssertion(text string) (c claims, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return c, false
	}
	sig, err1 := base64.RawURLEncoding.DecodeString(parts[2])
	payload, err2 := base64.RawURLEncoding.DecodeString(parts[1])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err1 != nil || err2 != nil || rsa.VerifyPKCS1v15(&s.key().PublicKey, crypto.SHA256, sum[:], sig) != nil {
		return c, false
	}
	return c, json.Unmarshal(payload, &c) == nil
}
