package main

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"etchd/tests/compat/internal/scenario"
)

// lockContention lets sessions fight for one lock and count below it without atomic operations.
func lockContention(p *place) {
	const workers, rounds = 8, 20
	name, counter := p.prefix+"lock", p.prefix+"counter"
	var inside atomic.Int32
	var group sync.WaitGroup
	for range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			s := p.session()
			m := concurrency.NewMutex(s, name)
			last := int64(0)
			for range rounds {
				must(m.Lock(p.ctx), "lock")
				check(inside.Add(1) == 1, "two hold the lock")
				check(m.Header().Revision > last, "the lock's revision %d comes after %d", m.Header().Revision, last)
				last = m.Header().Revision
				got, err := s.Client().Get(p.ctx, counter)
				must(err, "get")
				count := 0
				if got.Count > 0 {
					count, err = strconv.Atoi(string(got.Kvs[0].Value))
					must(err, "the counter")
				}
				put, err := s.Client().Txn(p.ctx).If(m.IsOwner()).Then(clientv3.OpPut(counter, strconv.Itoa(count+1))).Commit()
				must(err, "put")
				check(put.Succeeded, "the holder is not the owner")
				inside.Add(-1)
				must(m.Unlock(p.ctx), "unlock")
			}
			must(s.Close(), "close")
		}()
	}
	group.Wait()
	got, err := p.c.Get(p.ctx, counter)
	must(err, "get")
	check(string(got.Kvs[0].Value) == strconv.Itoa(workers*rounds), "counted %s of %d", got.Kvs[0].Value, workers*rounds)
	check(got.Kvs[0].Version == workers*rounds, "written %d times", got.Kvs[0].Version)
	check(len(scenario.Keys(p.ctx, p.c, name)) == 0, "keys are left: %v", scenario.Keys(p.ctx, p.c, name))
}

// lockOrder holds the lock until others wait for it: they get it in the order in which they came.
func lockOrder(p *place) {
	name := p.prefix + "lock"
	holder := concurrency.NewMutex(p.session(), name)
	must(holder.Lock(p.ctx), "lock")
	got := make(chan int, 5)
	for i := range 5 {
		go func() {
			m := concurrency.NewMutex(p.session(), name)
			must(m.Lock(p.ctx), "lock")
			got <- i
			must(m.Unlock(p.ctx), "unlock")
		}()
		p.waiting(name, i+2)
	}
	check(scenario.Quiet(got), "the lock is held twice")
	must(holder.Unlock(p.ctx), "unlock")
	for i := range 5 {
		next := scenario.Take(got, "the next holder")
		check(next == i, "%d gets the lock in place of %d", next, i)
	}
	p.waiting(name, 0)
}

func lockTry(p *place) {
	name := p.prefix + "lock"
	one, two := concurrency.NewMutex(p.session(), name), concurrency.NewMutex(p.session(), name)
	must(one.TryLock(p.ctx), "the first try")
	must(one.TryLock(p.ctx), "the holder's second try")
	check(errors.Is(two.TryLock(p.ctx), concurrency.ErrLocked), "a held lock is given again")
	keys := scenario.Keys(p.ctx, p.c, name)
	check(len(keys) == 1 && keys[0] == one.Key(), "after a try in vain there are %v", keys)
	check(errors.Is(two.Unlock(p.ctx), concurrency.ErrLockReleased), "a lock that was not got is released")
	must(one.Unlock(p.ctx), "unlock")
	check(errors.Is(one.Unlock(p.ctx), concurrency.ErrLockReleased), "a lock is released twice")
	must(two.TryLock(p.ctx), "try after the release")
	must(two.Unlock(p.ctx), "unlock")
}

// lockHandover takes the lock away from a holder in all ways in which a process can go.
func lockHandover(p *place) {
	const expiry = "the lease expires"
	ways := map[string]func(*concurrency.Session){
		"the session is closed": func(s *concurrency.Session) { must(s.Close(), "close") },
		"the lease is revoked": func(s *concurrency.Session) {
			_, err := p.c.Revoke(p.ctx, s.Lease())
			must(err, "revoke")
		},
		expiry: func(s *concurrency.Session) { s.Orphan() },
	}
	var group sync.WaitGroup
	for way, leave := range ways {
		group.Add(1)
		go func() {
			defer group.Done()
			name := p.prefix + way + "/lock"
			ttl := 3 * shortTTL // a lost lease shows after a third of it
			if way == expiry {
				ttl = shortTTL
			}
			s := p.session(concurrency.WithTTL(ttl))
			holder := concurrency.NewMutex(s, name)
			must(holder.Lock(p.ctx), "lock")
			owner := holder.IsOwner()
			got := make(chan *concurrency.Mutex, 1)
			go func() {
				next := concurrency.NewMutex(p.session(), name)
				must(next.Lock(p.ctx), "lock")
				got <- next
			}()
			p.waiting(name, 2)
			check(scenario.Quiet(got), "%s: two hold the lock", way)
			if way == expiry { // the holder is kept alive for longer than its lease alone would last
				for end := time.Now().Add((shortTTL + 1) * time.Second); time.Now().Before(end); {
					check(scenario.Quiet(got), "%s: the lock went over while it was kept alive", way)
				}
			}
			leave(s)
			next := scenario.Take(got, way+": the next holder")
			check(p.ended(s.Lease()), "%s: the lock went over before the lease ended", way)
			scenario.Until(way+": the session notices", func() bool {
				select {
				case <-s.Done():
					return s.Ctx().Err() != nil
				default:
					return false
				}
			})
			still, err := p.c.Txn(p.ctx).If(owner).Commit()
			must(err, "txn")
			check(!still.Succeeded, "%s: the former holder still counts as the owner", way)
			now, err := p.c.Txn(p.ctx).If(next.IsOwner()).Commit()
			must(err, "txn")
			check(now.Succeeded, "%s: the new holder does not count as the owner", way)
			must(next.Unlock(p.ctx), "unlock")
		}()
	}
	group.Wait()
}

// lockGivenUp ends the wait for a lock early.
func lockGivenUp(p *place) {
	name := p.prefix + "lock"
	holder := concurrency.NewMutex(p.session(), name)
	must(holder.Lock(p.ctx), "lock")

	err := p.givenUp(func(ctx context.Context, s *concurrency.Session) error {
		return concurrency.NewMutex(s, name).Lock(ctx)
	})
	check(errors.Is(err, context.Canceled), "a cancelled wait ends with %v", err)
	p.waiting(name, 1)

	// One whose session is lost while it waits must not take the lock.
	ended := make(chan error, 1)
	s := p.session()
	lost := concurrency.NewMutex(s, name)
	go func() { ended <- lost.Lock(p.ctx) }()
	p.waiting(name, 2)
	_, err = p.c.Revoke(p.ctx, s.Lease())
	must(err, "revoke")
	p.waiting(name, 1)
	must(holder.Unlock(p.ctx), "unlock")
	err = scenario.Take(ended, "the wait without a session")
	check(errors.Is(err, concurrency.ErrSessionExpired), "a wait without a session ends with %v", err)
	p.waiting(name, 0)
}

// lockSession: a lock belongs to the session, not to the object, and a session can be taken over by its lease.
func lockSession(p *place) {
	name := p.prefix + "lock"
	first := p.session()
	m := concurrency.NewMutex(first, name)
	must(m.Lock(p.ctx), "lock")
	key := m.Key()
	first.Orphan()
	second := p.session(concurrency.WithLease(first.Lease()))
	check(second.Lease() == first.Lease(), "the lease is %x and was %x", second.Lease(), first.Lease())
	again := concurrency.NewMutex(second, name)
	must(again.Lock(p.ctx), "lock by the same session")
	check(again.Key() == key, "the key is %q and was %q", again.Key(), key)
	must(again.Unlock(p.ctx), "unlock")

	locker := concurrency.NewLocker(second, name)
	locker.Lock()
	check(len(scenario.Keys(p.ctx, p.c, name)) == 1, "a Locker does not lock")
	locker.Unlock()
	must(second.Close(), "close")
	check(p.ended(second.Lease()), "a closed session has a lease")
	_, err := concurrency.NewSession(p.c, concurrency.WithLease(second.Lease()))
	must(err, "a session on a lease that is gone") // it ends at its first keep-alive
}
