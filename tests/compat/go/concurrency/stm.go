package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strconv"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/client/v3/concurrency"

	"etchd/tests/compat/internal/scenario"
)

var isolations = map[string]concurrency.Isolation{
	"serializable snapshot": concurrency.SerializableSnapshot, "serializable": concurrency.Serializable,
	"repeatable reads": concurrency.RepeatableReads, "read committed": concurrency.ReadCommitted,
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	must(err, "a number")
	return n
}

// stmTransfers moves amounts between accounts from many clients at once: no level that watches its
// reads may lose any of it, and no sum that is read in one transaction may see half of a transfer.
// Where reads are not watched, what one transaction writes still comes at once.
func stmTransfers(p *place) {
	const accounts, workers, transfers, amount = 8, 6, 25, 1000
	var all sync.WaitGroup
	for level, isolation := range isolations {
		all.Add(1)
		go func() {
			defer all.Done()
			account := func(i int) string { return fmt.Sprintf("%s%s/%d", p.prefix, level, i) }
			stm := func(apply func(concurrency.STM) error) {
				_, err := concurrency.NewSTM(p.c, apply, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(p.ctx))
				must(err, level)
			}
			for i := range accounts {
				_, err := p.c.Put(p.ctx, account(i), strconv.Itoa(amount))
				must(err, "put")
			}
			var stop atomic.Bool
			var audit, group sync.WaitGroup
			audit.Add(1)
			go func() {
				defer audit.Done()
				for !stop.Load() {
					sum, last := 0, ""
					stm(func(s concurrency.STM) error {
						sum = 0
						for i := range accounts {
							sum += number(s.Get(account(i)))
						}
						last = s.Get(account(0) + "/twin")
						return nil
					})
					check(isolation == concurrency.ReadCommitted || sum == accounts*amount, "%s: the sum is %d in the middle of transfers (%s)", level, sum, last)
					both, err := p.c.Get(p.ctx, p.prefix+level+"/pair/", pairEnd(p.prefix+level+"/pair/"))
					must(err, "get")
					check(len(both.Kvs) == 0 || len(both.Kvs) == 2 && string(both.Kvs[0].Value) == string(both.Kvs[1].Value) &&
						both.Kvs[0].ModRevision == both.Kvs[1].ModRevision, "%s: half of a transaction is seen: %v", level, both.Kvs)
				}
			}()
			for worker := range workers {
				group.Add(1)
				go func() {
					defer group.Done()
					random := rand.New(rand.NewSource(int64(worker)))
					for round := range transfers {
						from, to, sum := random.Intn(accounts), random.Intn(accounts), random.Intn(50)
						if from == to {
							to = (to + 1) % accounts
						}
						stm(func(s concurrency.STM) error {
							a, b := number(s.Get(account(from))), number(s.Get(account(to)))
							s.Put(account(from), strconv.Itoa(a-sum))
							s.Put(account(to), strconv.Itoa(b+sum))
							who := fmt.Sprintf("%d/%d", worker, round)
							s.Put(p.prefix+level+"/pair/a", who)
							s.Put(p.prefix+level+"/pair/b", who)
							return nil
						})
					}
				}()
			}
			group.Wait()
			stop.Store(true)
			audit.Wait()
			sum := 0
			for i := range accounts {
				got, err := p.c.Get(p.ctx, account(i))
				must(err, "get")
				sum += number(string(got.Kvs[0].Value))
			}
			check(isolation == concurrency.ReadCommitted || sum == accounts*amount, "%s: the sum is %d in the end", level, sum)
			pair, err := p.c.Get(p.ctx, p.prefix+level+"/pair/a")
			must(err, "get")
			check(pair.Kvs[0].Version == workers*transfers, "%s: %d transactions of %d were written", level, pair.Kvs[0].Version, workers*transfers)
		}()
	}
	all.Wait()
}

// stmConflicts changes keys behind a transaction's back: what it read, and what it only writes. How
// often it then runs is what tells the levels apart.
func stmConflicts(p *place) {
	for level, isolation := range isolations {
		for _, behind := range []string{"read", "written", "other"} {
			place := p.prefix + level + "/" + behind + "/"
			for _, name := range []string{"read", "written", "other"} {
				_, err := p.c.Put(p.ctx, place+name, "before")
				must(err, "put")
			}
			want := 1
			if behind == "read" && isolation != concurrency.ReadCommitted || behind == "written" && isolation == concurrency.SerializableSnapshot {
				want = 2
			}
			runs, seen := 0, ""
			response, err := concurrency.NewSTM(p.c, func(s concurrency.STM) error {
				seen = s.Get(place + "read")
				s.Put(place+"written", fmt.Sprint("mine ", runs))
				if runs++; runs == 1 {
					_, err := p.c.Put(p.ctx, place+behind, "behind")
					must(err, "put")
				}
				check(s.Get(place+"read") == seen || isolation == concurrency.ReadCommitted, "%s: a read changes within one run", level)
				return nil
			}, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(p.ctx))
			must(err, "stm")
			check(runs == want, "%s: with %s changed it ran %d times, not %d", level, behind, runs, want)
			check(behind != "read" || want == 1 || seen == "behind", "%s: the last run read %q", level, seen)
			got, err := p.c.Get(p.ctx, place+"written")
			must(err, "get")
			check(string(got.Kvs[0].Value) == fmt.Sprint("mine ", runs-1) && got.Kvs[0].ModRevision == response.Header.Revision, "%s: it wrote %v", level, got.Kvs)
		}
	}
}

// stmOwnView: a transaction sees what it wrote itself, and nothing of it when it ends with an error.
func stmOwnView(p *place) {
	failure := errors.New("on purpose")
	for level, isolation := range isolations {
		place := p.prefix + level + "/"
		_, err := p.c.Put(p.ctx, place+"old", "old")
		must(err, "put")
		put, err := p.c.Put(p.ctx, place+"kept", "kept")
		must(err, "put")
		run := func(end error) error {
			_, err := concurrency.NewSTM(p.c, func(s concurrency.STM) error {
				check(s.Get(place+"none") == "" && s.Rev(place+"none") == 0, "%s: a key that is not there", level)
				check(s.Rev(place+"kept") == put.Header.Revision, "%s: revision %d, not %d", level, s.Rev(place+"kept"), put.Header.Revision)
				s.Put(place+"new", "new")
				check(s.Get(place+"new") == "new", "%s: its own write is not seen", level)
				s.Put(place+"new", "newer")
				check(s.Get(place+"new") == "newer", "%s: its second write is not seen", level)
				check(s.Get(place+"old") == "old" || end == nil, "%s: reads %q", level, s.Get(place+"old"))
				s.Del(place + "old")
				check(s.Get(place+"old") == "", "%s: its own deletion is not seen", level)
				return end
			}, concurrency.WithIsolation(isolation), concurrency.WithPrefetch(place+"kept", place+"old"), concurrency.WithAbortContext(p.ctx))
			return err
		}
		check(errors.Is(run(failure), failure), "%s: its error gets lost", level)
		keys := scenario.Keys(p.ctx, p.c, place)
		check(len(keys) == 2, "%s: a failed transaction leaves %v", level, keys)
		must(run(nil), level)
		keys = scenario.Keys(p.ctx, p.c, place)
		check(len(keys) == 2 && keys[0] == place+"kept" && keys[1] == place+"new", "%s: leaves %v", level, keys)

		over, cancel := context.WithCancel(p.ctx)
		cancel()
		_, err = concurrency.NewSTM(p.c, func(s concurrency.STM) error {
			s.Put(place+"late", s.Get(place+"kept"))
			return nil
		}, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(over))
		check(errors.Is(err, context.Canceled), "%s: an aborted transaction ends with %v", level, err)
		check(len(scenario.Keys(p.ctx, p.c, place)) == 2, "%s: an aborted transaction writes", level)
	}
}
