package cluster

import (
	"context"

	"github.com/croftdb/croft/internal/errs"
)

// maxTenantBatch bounds the tenants that one entry creates.
const maxTenantBatch = 1024

// tenantCreator makes tenants on first use. While one batch is on its way, further requests gather for the next: a
// single creation waits for nobody, and a thousand at once share a few entries.
type tenantCreator struct {
	place    func(context.Context, []*tenant) // says where new ones are to live
	propose  func(context.Context, *metaCommand) (metaResult, error)
	requests chan creation
	ctx      context.Context // of run
}

// creation asks for a tenant; done gets one answer and never blocks.
type creation struct {
	name string
	done chan error
}

func newTenantCreator(ctx context.Context, place func(context.Context, []*tenant), propose func(context.Context, *metaCommand) (metaResult, error)) *tenantCreator {
	return &tenantCreator{place: place, propose: propose, requests: make(chan creation), ctx: ctx}
}

// create returns once a tenant of that name exists.
func (c *tenantCreator) create(ctx context.Context, name string) error {
	req := creation{name, make(chan error, 1)}
	select {
	case c.requests <- req:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return errStopping()
	}
	select {
	case err := <-req.done:
		return err
	case <-ctx.Done():
		// An empty tenant more or less is nothing that a caller could see: no outcome is in doubt.
		return ctx.Err()
	}
}

// run serves requests until its context ends.
func (c *tenantCreator) run() {
	var batch []creation
	var answered chan error // of the batch under way, nil if there is none
	var waiting []creation
	for {
		if answered == nil && len(waiting) > 0 {
			batch, waiting = waiting, nil
			answered = c.start(batch)
		}
		requests := c.requests
		if len(waiting) == maxTenantBatch {
			requests = nil
		}
		select {
		case req := <-requests:
			waiting = append(waiting, req)
		case err := <-answered:
			answer(batch, err)
			answered = nil
		case <-c.ctx.Done():
			if answered != nil {
				answer(batch, <-answered) // soon: the proposal has the same context
			}
			answer(waiting, errStopping())
			return
		}
	}
}

func answer(batch []creation, err error) {
	for _, req := range batch {
		req.done <- err
	}
}

// start proposes a batch; its outcome is sent to the channel.
func (c *tenantCreator) start(batch []creation) chan error {
	cmd := &metaCommand{op: metaCreateTenants}
	seen := make(map[string]bool, len(batch))
	for _, req := range batch {
		if !seen[req.name] {
			seen[req.name] = true
			cmd.tenants = append(cmd.tenants, newTenant(req.name))
		}
	}
	answered := make(chan error, 1)
	go func() {
		c.place(c.ctx, cmd.tenants)
		_, err := c.propose(c.ctx, cmd)
		answered <- err
	}()
	return answered
}

// newTenant makes a tenant that the metadata plane has still to take.
func newTenant(name string) *tenant {
	t := &tenant{id: newTenantID(), name: name, pin: noPin}
	t.slot = slotOf(t.id)
	return t
}

func errStopping() error { return errs.New(errs.Unavailable, "the node is stopping") }
