package gmail

import (
	"context"
	"slices"

	"google.golang.org/api/gmail/v1"
	"google.golang.org/api/googleapi"
)

// me stands for the account of the token.
const me = "me"

// listSize is how many ids a list call asks for: the most that Gmail gives.
const listSize = 500

// ask makes one call: through the limiter, with a deadline, classed and counted.
func ask[T any](ctx context.Context, p *Provider, c Call, do func(context.Context, ...googleapi.CallOption) (T, error)) (T, error) {
	var none T
	if err := p.cfg.Limiter.Take(ctx, p.key, c); err != nil {
		return none, err
	}
	call, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	answer, err := do(call, googleapi.QuotaUser(p.key))
	err = p.classify(ctx, c, err)
	p.cfg.Meter.Request(string(c), result(err))
	return answer, err
}

func (p *Provider) profile(ctx context.Context) (*gmail.Profile, error) {
	return ask(ctx, p, CallProfile, func(ctx context.Context, o ...googleapi.CallOption) (*gmail.Profile, error) {
		return p.svc.Users.GetProfile(me).Fields(maskProfile).Context(ctx).Do(o...)
	})
}

func (p *Provider) listLabels(ctx context.Context) (*gmail.ListLabelsResponse, error) {
	return ask(ctx, p, CallLabels, func(ctx context.Context, o ...googleapi.CallOption) (*gmail.ListLabelsResponse, error) {
		return p.svc.Users.Labels.List(me).Fields(maskLabels).Context(ctx).Do(o...)
	})
}

// history lists the changes after an id. Within one listing the id stays and
// the token moves.
func (p *Provider) history(ctx context.Context, after uint64, token string) (*gmail.ListHistoryResponse, error) {
	return ask(ctx, p, CallHistory, func(ctx context.Context, o ...googleapi.CallOption) (*gmail.ListHistoryResponse, error) {
		call := p.svc.Users.History.List(me).StartHistoryId(after).MaxResults(listSize).
			HistoryTypes("messageAdded", "labelRemoved").Fields(maskHistory)
		if token != "" {
			call.PageToken(token)
		}
		return call.Context(ctx).Do(o...)
	})
}

// list lists ids, newest first. An empty query is not sent at all: with
// gmail.metadata Google refuses even that.
func (p *Provider) list(ctx context.Context, query, token string, everywhere bool) (*gmail.ListMessagesResponse, error) {
	return ask(ctx, p, CallList, func(ctx context.Context, o ...googleapi.CallOption) (*gmail.ListMessagesResponse, error) {
		call := p.svc.Users.Messages.List(me).MaxResults(listSize).IncludeSpamTrash(everywhere).Fields(maskList)
		if query != "" {
			call.Q(query)
		}
		if token != "" {
			call.PageToken(token)
		}
		return call.Context(ctx).Do(o...)
	})
}

func (p *Provider) get(ctx context.Context, id string) (*gmail.Message, error) {
	return ask(ctx, p, CallGet, func(ctx context.Context, o ...googleapi.CallOption) (*gmail.Message, error) {
		return p.svc.Users.Messages.Get(me, id).Format("metadata").
			MetadataHeaders(headerNames...).Fields(maskGet).Context(ctx).Do(o...)
	})
}

// idsOf takes the usable ids of a list answer, each once.
func idsOf(ms []*gmail.Message) []string {
	var ids []string
	for _, m := range ms {
		ids = addID(ids, m)
	}
	return ids
}

func addID(ids []string, m *gmail.Message) []string {
	if m == nil || !validID(m.Id) || slices.Contains(ids, m.Id) {
		return ids
	}
	return append(ids, m.Id)
}
