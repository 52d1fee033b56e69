// Program concurrency puts the official client's concurrency package and its recipes through what
// they promise: locks, elections, software transactions, queues and barriers, all made of keys,
// leases and watches.
package main

import (
	"context"
	"flag"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"etchd/tests/compat/internal/scenario"
)

var endpoint = flag.String("endpoint", "127.0.0.1:2379", "where the server is")

var check, must = scenario.Check, scenario.Must

// shortTTL is of leases that have to expire, in seconds: short, and yet longer than a busy machine's pauses.
const shortTTL = 3

// place is where one scenario works.
type place struct {
	ctx    context.Context
	c      *clientv3.Client
	prefix string
}

// session is on a connection of its own, as a process of its own would be.
func (p *place) session(options ...concurrency.SessionOption) *concurrency.Session {
	s, err := concurrency.NewSession(scenario.Connect(*endpoint), options...)
	must(err, "session")
	return s
}

// givenUp makes a call on a session of its own, waits until it has a place in the queue, and cancels it.
func (p *place) givenUp(call func(ctx context.Context, s *concurrency.Session) error) error {
	option, answered := scenario.Answered()
	s, err := concurrency.NewSession(scenario.Connect(*endpoint, option))
	must(err, "session")
	ctx, cancel := context.WithCancel(p.ctx)
	ended := make(chan error, 1)
	go func() { ended <- call(ctx, s) }()
	scenario.Take(answered, "the place in the queue")
	check(scenario.Quiet(ended), "the wait is over at once")
	cancel()
	return scenario.Take(ended, "the call that is given up")
}

// ended is whether the lease is gone for the server.
func (p *place) ended(lease clientv3.LeaseID) bool {
	left, err := p.c.TimeToLive(p.ctx, lease)
	must(err, "time to live")
	return left.TTL == -1
}

// waiting waits until so many keys are below a prefix.
func (p *place) waiting(prefix string, n int) {
	scenario.Until(fmt.Sprintf("%d keys below %s", n, prefix), func() bool { return len(scenario.Keys(p.ctx, p.c, prefix)) == n })
}

func main() {
	flag.Parse()
	prefix := scenario.Prefix("concurrency")
	all := map[string]func(context.Context){}
	for name, run := range map[string]func(*place){
		"lock: contention": lockContention, "lock: order": lockOrder, "lock: try": lockTry, "lock: handover": lockHandover,
		"lock: given up": lockGivenUp, "lock: session": lockSession, "election": election, "election: failover": electionFailover,
		"election: many": electionMany, "election: resumed": electionResumed, "stm: transfers": stmTransfers,
		"stm: conflicts": stmConflicts, "stm: own view": stmOwnView, "queue": queue, "priority queue": priorityQueue,
		"barrier": barrier, "double barrier": doubleBarrier, "read-write lock": readWriteLock,
	} {
		all[name] = func(ctx context.Context) {
			run(&place{ctx, scenario.Connect(*endpoint), prefix + name + "/"})
		}
	}
	scenario.Together(all)
	fmt.Printf("concurrency: %d scenarios passed, 0 failed\n", len(all))
}
