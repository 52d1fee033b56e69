package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"etchd/tests/compat/internal/scenario"
)

// watchLeader gives what an observer sees; of values that follow quickly it may miss some, but never turns back.
func watchLeader(p *place, e *concurrency.Election) func(want string) {
	seen := e.Observe(p.ctx)
	term, last := int64(0), int64(0)
	return func(want string) {
		for {
			got := scenario.Take(seen, "the leader "+want)
			check(len(got.Kvs) == 1, "observed %v", got.Kvs)
			// A leader's key is as old as its candidature; within a term its values follow each other.
			now, revision := got.Kvs[0].CreateRevision, got.Kvs[0].ModRevision
			check(now > term || now == term && revision > last, "observed %v after term %d, revision %d", got.Kvs, term, last)
			term, last = now, revision
			if string(got.Kvs[0].Value) == want {
				return
			}
		}
	}
}

func isLeader(p *place, e *concurrency.Election, want string) {
	got, err := e.Leader(p.ctx)
	must(err, "leader")
	check(string(got.Kvs[0].Value) == want, "%q leads, not %q", got.Kvs[0].Value, want)
}

func election(p *place) {
	name := p.prefix + "election"
	one, two := concurrency.NewElection(p.session(), name), concurrency.NewElection(p.session(), name)
	observer := concurrency.NewElection(p.session(), name)
	_, err := observer.Leader(p.ctx)
	check(errors.Is(err, concurrency.ErrElectionNoLeader), "without a leader: %v", err)
	check(errors.Is(one.Proclaim(p.ctx, "x"), concurrency.ErrElectionNotLeader), "who did not run proclaims")
	sees := watchLeader(p, observer)

	must(one.Campaign(p.ctx, "one"), "campaign")
	sees("one")
	isLeader(p, observer, "one")
	elected := make(chan error, 1)
	go func() { elected <- two.Campaign(p.ctx, "two") }()
	p.waiting(name, 2)
	check(scenario.Quiet(elected), "two leaders")
	for i := range 5 {
		value := fmt.Sprintf("one says %d", i)
		must(one.Proclaim(p.ctx, value), "proclaim")
		sees(value)
	}
	must(one.Campaign(p.ctx, "one again"), "the leader's campaign")
	sees("one again")
	check(scenario.Quiet(elected), "a proclamation ends the term")
	must(one.Resign(p.ctx), "resign")
	must(scenario.Take(elected, "the second's election"), "campaign")
	sees("two")
	isLeader(p, observer, "two")
	check(errors.Is(one.Proclaim(p.ctx, "x"), concurrency.ErrElectionNotLeader), "who resigned proclaims")
	isLeader(p, observer, "two")

	// A candidate that gives up leaves nothing behind.
	err = p.givenUp(func(ctx context.Context, s *concurrency.Session) error {
		return concurrency.NewElection(s, name).Campaign(ctx, "in vain")
	})
	check(errors.Is(err, context.Canceled), "a cancelled campaign ends with %v", err)
	p.waiting(name, 1)
	must(two.Resign(p.ctx), "resign")
	_, err = observer.Leader(p.ctx)
	check(errors.Is(err, concurrency.ErrElectionNoLeader), "after all resigned: %v", err)
}

// electionFailover stops a leader without a word: its lease has to end first, then the next one leads.
func electionFailover(p *place) {
	name := p.prefix + "election"
	dying := p.session(concurrency.WithTTL(shortTTL))
	one, two := concurrency.NewElection(dying, name), concurrency.NewElection(p.session(), name)
	sees := watchLeader(p, concurrency.NewElection(p.session(), name))
	must(one.Campaign(p.ctx, "one"), "campaign")
	sees("one")
	elected := make(chan error, 1)
	go func() { elected <- two.Campaign(p.ctx, "two") }()
	p.waiting(name, 2)
	must(one.Proclaim(p.ctx, "still one"), "proclaim")
	sees("still one")
	dying.Orphan()
	must(scenario.Take(elected, "the failover"), "campaign")
	check(p.ended(dying.Lease()), "the next leads before the lease of the first has ended")
	sees("two")
	check(errors.Is(one.Proclaim(p.ctx, "a word from the dead"), concurrency.ErrElectionNotLeader), "a dead leader proclaims")
	isLeader(p, two, "two")
	must(two.Resign(p.ctx), "resign")
}

// electionMany: all candidates lead once, one after the other, in the order in which they ran.
func electionMany(p *place) {
	const candidates = 8
	name := p.prefix + "election"
	first := concurrency.NewElection(p.session(), name)
	must(first.Campaign(p.ctx, "first"), "campaign")
	var leading atomic.Int32
	var group sync.WaitGroup
	revisions := make(chan int64, candidates)
	for i := range candidates {
		group.Add(1)
		go func() {
			defer group.Done()
			s := p.session()
			e := concurrency.NewElection(s, name)
			must(e.Campaign(p.ctx, fmt.Sprint(i)), "campaign")
			check(leading.Add(1) == 1, "two leaders")
			isLeader(p, e, fmt.Sprint(i))
			revisions <- e.Rev()
			leading.Add(-1)
			if i%2 == 0 {
				must(e.Resign(p.ctx), "resign")
			} else {
				must(s.Close(), "close")
			}
		}()
	}
	p.waiting(name, candidates+1)
	must(first.Resign(p.ctx), "resign")
	group.Wait()
	close(revisions)
	last, count := first.Rev(), 0
	for revision := range revisions {
		check(revision > last, "the candidate of revision %d leads after that of %d", revision, last)
		last = revision
		count++
	}
	check(count == candidates, "%d leaders", count)
}

// electionResumed: a process that starts again takes its own leadership up by its lease and key.
func electionResumed(p *place) {
	name := p.prefix + "election"
	before := p.session()
	e := concurrency.NewElection(before, name)
	must(e.Campaign(p.ctx, "before"), "campaign")
	before.Orphan()
	after := p.session(concurrency.WithLease(before.Lease()))
	resumed := concurrency.ResumeElection(after, name, e.Key(), e.Rev())
	must(resumed.Proclaim(p.ctx, "after"), "proclaim")
	isLeader(p, resumed, "after")
	stranger := concurrency.ResumeElection(p.session(), name, e.Key(), e.Rev()-1)
	check(errors.Is(stranger.Proclaim(p.ctx, "x"), concurrency.ErrElectionNotLeader), "a resumed election of another revision proclaims")
	got, err := p.c.Get(p.ctx, resumed.Key())
	must(err, "get")
	check(got.Count == 1 && clientv3.LeaseID(got.Kvs[0].Lease) == before.Lease() && string(got.Kvs[0].Value) == "after", "the leader's key is %v", got.Kvs)
	must(resumed.Resign(p.ctx), "resign")
	p.waiting(name, 0)
}
