package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// SearchSettings are under what searches over many tenants are served: those of the tier tenancy.SearchTier, or as it was shipped
// if it was deleted. They have no hourly limit, since they have no home whose log could keep it.
func (n *Node) SearchSettings() tenancy.Settings { return n.searchSettings() }

func (n *Node) searchSettings() tenancy.Settings {
	s := n.meta.state()
	known, ok := s.tier(tenancy.SearchTier)
	if !ok {
		for _, t := range shippedTiers() {
			if t.Name == tenancy.SearchTier {
				known = &t
			}
		}
	}
	own := known.Tier
	own.Limits.Unset(tenancy.PerHour)
	return tenancy.Resolve(&own, &tenancy.Limits{}, &tenancy.Override{}, settingsVersion(known.changed, false), time.Time{})
}

// searchTime gives a search its time, which ends so early that the answer comes within the tier's and ctx's.
func (n *Node) searchTime(ctx context.Context, s *tenancy.Settings) (context.Context, context.CancelFunc) {
	all, cancelAll := context.WithTimeout(ctx, s.Duration(tenancy.Deadline))
	ctx, cancel := early(all)
	stop := context.AfterFunc(n.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		cancelAll()
	}
}

// turnTime bounds how much of a search's time it waits for the metadata plane.
func turnTime(ctx context.Context) (context.Context, context.CancelFunc) {
	const share = 4
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/share)
}

// searchTurn waits until a search may begin: it counts against the rate of all searches, over all nodes, where the metadata plane is
// led, and this node knows who is there. Without that leader each node counts for itself, and unsure says why tenants may be
// missing that were made a moment ago; at level any it is no news that they may.
func (n *Node) searchTurn(ctx context.Context, level Consistency) (unsure, err error) {
	bounded, cancel := turnTime(ctx)
	defer cancel()
	var told tenancy.Receipt
	var at uint64
	unsure = n.patiently(bounded, func() (err error) {
		at, told, err = n.askTurn(bounded)
		return err
	})
	if no, ok := errors.AsType[*refusal](unsure); ok {
		ReadingOf(ctx).receive(&no.told)
		return nil, unsure
	}
	if unsure != nil {
		if told, err = n.letSearch(ctx); err != nil {
			return nil, err
		}
	} else if _, unsure = n.meta.fsm.wait(bounded, func(s *state) bool { return s.index >= at }); unsure == nil {
		n.refreshed.Store(true)
	}
	ReadingOf(ctx).receive(&told)
	if level == Any && n.refreshed.Load() {
		unsure = nil
	}
	return unsure, nil
}

// askTurn asks the metadata plane's leader to let a search begin, and how new the metadata must be for it.
func (n *Node) askTurn(ctx context.Context) (at uint64, told tenancy.Receipt, err error) {
	g := n.meta.group
	if g.leads() {
		if at, err = n.metaIndexHere(ctx); err == nil {
			told, err = n.letSearch(ctx)
		}
		return at, told, err
	}
	leader := g.leader()
	if leader == "" || leader == n.id.NodeID {
		return 0, told, newNotLeaderError(metaName, "")
	}
	answer, err := n.peers.call(ctx, leader, methodSearchTurn, nil, nil)
	if err != nil {
		return 0, told, err
	}
	r := codec.NewReader(answer)
	at, told = r.Uvarint(), readReceipt(r)
	return at, told, r.Done()
}

// answerSearchTurn serves methodSearchTurn.
func (n *Node) answerSearchTurn(ctx context.Context, from string, _, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	at, err := n.metaIndexHere(ctx)
	if err != nil {
		return dst, err
	}
	told, err := n.letSearch(ctx)
	if err != nil {
		return dst, err
	}
	return appendReceipt(codec.AppendUvarint(dst, at), &told), nil
}

// letSearch counts a search against the rate of all, at this node's gate. Its parts come to the gates of their nodes by themselves.
func (n *Node) letSearch(ctx context.Context) (told tenancy.Receipt, err error) {
	if n.gate == nil {
		return told, nil
	}
	settings := n.searchSettings()
	r := tenancy.Request{Tenant: tenancy.SearchID, Name: searchName, Settings: &settings, Class: tenancy.Hit}
	pass, err := n.gate.Enter(ctx, &r, &told)
	if err != nil {
		return told, &refusal{errSearchRefused(err), told}
	}
	pass.Leave(tenancy.Outcome{})
	return told, nil
}

func errSearchRefused(err error) error {
	if !errs.Is(err, errs.RateLimited) {
		return err
	}
	var typed *errs.Error
	refused := errs.New(errs.RateLimited, "%s: %w", searchName, err).
		WithHint("raise requests_per_minute of the tier %s: croft tiers set %s --limit requests_per_minute=N", tenancy.SearchTier, tenancy.SearchTier)
	if errors.As(err, &typed) {
		refused.RetryAfter = typed.RetryAfter
	}
	return refused
}
