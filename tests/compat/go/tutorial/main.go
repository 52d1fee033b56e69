// Program tutorial does on the official client what a beginner's tutorial does, and then lives
// through compaction and broken connections the way a client must. It says what is wrong and exits with 1 at the first
// answer that is not as etcd documents it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etchd/tests/compat/internal/scenario"
)

var (
	endpoint = flag.String("endpoint", "127.0.0.1:2379", "where the server is; with a second address of the same server after a comma, clients that balance are tried too")
	rounds   = flag.Int("rounds", 30, "compactions to live through")
)

var check, must = scenario.Check, scenario.Must

func main() {
	flag.Parse()
	client := scenario.Connect(*endpoint)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	first, stop := context.WithTimeout(ctx, 10*time.Second)
	_, err := client.Get(first, "anything")
	stop()
	must(err, "the first request")
	prefix := scenario.Prefix("tutorial")
	all := map[string]func(context.Context){}
	for name, run := range map[string]func(context.Context, *clientv3.Client, string){
		"leases": leases, "transactions": transactions, "discovery": discovery, "naming": naming,
		"publishing": publishing, "lock": lock, "election": election, "queue": queue,
	} {
		all[name] = func(ctx context.Context) { run(ctx, client, prefix+name+"/") }
	}
	// By themselves: one counts revisions, one compacts what others watch, one breaks connections.
	basics(ctx, client, prefix+"basics/")
	scenario.Together(all)
	compaction(ctx, client, prefix+"compaction/")
	count := len(all) + 2
	if live := strings.Split(*endpoint, ","); len(live) > 1 {
		balancing(ctx, live, prefix+"balancing/")
		count++
	}
	fmt.Printf("tutorial: %d scenarios passed, 0 failed\n", count)
}

func basics(ctx context.Context, c *clientv3.Client, prefix string) {
	key := prefix + "hello"
	first, err := c.Put(ctx, key, "aoho")
	must(err, "put")
	second, err := c.Put(ctx, key, "boho", clientv3.WithPrevKV())
	must(err, "put again")
	check(second.Header.Revision == first.Header.Revision+1, "two puts have revisions %d and %d", first.Header.Revision, second.Header.Revision)
	check(second.PrevKv != nil && string(second.PrevKv.Value) == "aoho", "the put's previous value is %v", second.PrevKv)

	got, err := c.Get(ctx, key)
	must(err, "get")
	check(got.Count == 1 && string(got.Kvs[0].Value) == "boho", "get answers %v", got.Kvs)
	check(got.Kvs[0].Version == 2 && got.Kvs[0].CreateRevision == first.Header.Revision && got.Kvs[0].ModRevision == second.Header.Revision,
		"version and revisions are %v", got.Kvs[0])

	old, err := c.Get(ctx, key, clientv3.WithRev(first.Header.Revision))
	must(err, "get at an older revision")
	check(old.Count == 1 && string(old.Kvs[0].Value) == "aoho" && old.Kvs[0].Version == 1, "the older value is %v", old.Kvs)
	before, err := c.Get(ctx, key, clientv3.WithRev(first.Header.Revision-1))
	must(err, "get before the first put")
	check(before.Count == 0, "before the first put there is %v", before.Kvs)
	_, err = c.Get(ctx, key, clientv3.WithRev(second.Header.Revision+1_000_000))
	check(errors.Is(err, rpctypes.ErrFutureRev), "get in the future: %v", err)

	for i := range 5 {
		_, err := c.Put(ctx, fmt.Sprintf("%slist/%d", prefix, i), fmt.Sprint(i))
		must(err, "put in the list")
	}
	list, err := c.Get(ctx, prefix+"list/", clientv3.WithPrefix(), clientv3.WithLimit(3), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	must(err, "list")
	check(list.Count == 5 && list.More && len(list.Kvs) == 3 && string(list.Kvs[0].Value) == "4", "the list is %v (count %d, more %t)", list.Kvs, list.Count, list.More)

	deleted, err := c.Delete(ctx, key, clientv3.WithPrevKV())
	must(err, "delete")
	check(deleted.Deleted == 1 && string(deleted.PrevKvs[0].Value) == "boho", "delete answers %v", deleted)
	again, err := c.Delete(ctx, key)
	must(err, "delete again")
	check(again.Deleted == 0, "the second delete removed %d", again.Deleted)

	watch, stop := context.WithCancel(ctx)
	defer stop()
	events := collect(c.Watch(watch, key, clientv3.WithRev(first.Header.Revision), clientv3.WithPrevKV()), 3)
	check(events[0].IsCreate() && string(events[0].Kv.Value) == "aoho", "first event %v", events[0])
	check(events[1].IsModify() && string(events[1].Kv.Value) == "boho" && string(events[1].PrevKv.Value) == "aoho", "second event %v", events[1])
	check(events[2].Type == mvccpb.Event_DELETE && events[2].Kv.ModRevision == deleted.Header.Revision && string(events[2].PrevKv.Value) == "boho", "third event %v", events[2])
}

// collect takes n events and insists on their order.
func collect(from clientv3.WatchChan, n int) []*clientv3.Event {
	var events []*clientv3.Event
	last := int64(0)
	for response := range from {
		must(response.Err(), "watch")
		for _, e := range response.Events {
			check(e.Kv.ModRevision >= last, "revision %d comes after %d", e.Kv.ModRevision, last)
			last = e.Kv.ModRevision
			events = append(events, (*clientv3.Event)(e))
		}
		if len(events) >= n {
			break
		}
	}
	check(len(events) == n, "%d events where %d are due: %v", len(events), n, events)
	return events
}

func leases(ctx context.Context, c *clientv3.Client, prefix string) {
	lease, err := c.Grant(ctx, 2)
	must(err, "grant")
	check(lease.TTL == 2, "a lease of 2 seconds got %d", lease.TTL)
	watch, stop := context.WithCancel(ctx)
	defer stop()
	events := c.Watch(watch, prefix, clientv3.WithPrefix())
	put, err := c.Put(ctx, prefix+"gone soon", "x", clientv3.WithLease(lease.ID))
	must(err, "put with a lease")
	_, err = c.Put(ctx, prefix+"gone too", "y", clientv3.WithLease(lease.ID))
	must(err, "put with a lease")
	left, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	must(err, "time to live")
	check(left.GrantedTTL == 2 && left.TTL <= 2 && left.TTL >= 0 && len(left.Keys) == 2, "time to live answers %v", left)
	kept, err := c.KeepAliveOnce(ctx, lease.ID)
	must(err, "keep alive")
	check(kept.TTL == 2, "keep alive answers %d", kept.TTL)
	renewed := time.Now()
	// Nobody renews it now: both keys go in one revision, in key order, and not before their time.
	seen := collect(events, 4)
	check(time.Since(renewed) > 1500*time.Millisecond, "the lease ended after %v", time.Since(renewed))
	check(seen[2].Type == mvccpb.Event_DELETE && seen[3].Type == mvccpb.Event_DELETE, "the end of a lease shows as %v %v", seen[2], seen[3])
	check(seen[2].Kv.ModRevision == seen[3].Kv.ModRevision && seen[2].Kv.ModRevision > put.Header.Revision, "its deletions have revisions %d and %d", seen[2].Kv.ModRevision, seen[3].Kv.ModRevision)
	check(string(seen[2].Kv.Key) == prefix+"gone soon", "its deletions come as %q first", seen[2].Kv.Key)
	got, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	must(err, "get")
	check(got.Count == 0, "after its lease %d keys are left", got.Count)
	gone, err := c.TimeToLive(ctx, lease.ID)
	must(err, "time to live of a lease that ended")
	check(gone.TTL == -1, "its time to live is %d", gone.TTL)
	_, err = c.KeepAliveOnce(ctx, lease.ID)
	check(errors.Is(err, rpctypes.ErrLeaseNotFound), "keeping it alive: %v", err)
	_, err = c.Put(ctx, prefix+"x", "x", clientv3.WithLease(lease.ID))
	check(errors.Is(err, rpctypes.ErrLeaseNotFound), "putting with it: %v", err)

	alive, err := c.Grant(ctx, 2)
	must(err, "grant")
	_, err = c.Put(ctx, prefix+"stays", "z", clientv3.WithLease(alive.ID))
	must(err, "put")
	keeping, done := context.WithCancel(ctx)
	answers, err := c.KeepAlive(keeping, alive.ID)
	must(err, "keep alive")
	for start := time.Now(); time.Since(start) < 3*time.Second; {
		answer, ok := <-answers
		check(ok && answer.TTL == 2, "the lease was lost while it was kept alive: %v", answer)
	}
	done()
	got, err = c.Get(ctx, prefix+"stays")
	must(err, "get")
	check(got.Count == 1, "a lease that is kept alive lost its key")
	_, err = c.Revoke(ctx, alive.ID)
	must(err, "revoke")
	got, err = c.Get(ctx, prefix+"stays")
	must(err, "get")
	check(got.Count == 0, "a revoked lease left its key")
}

func transactions(ctx context.Context, c *clientv3.Client, prefix string) {
	key := prefix + "owner"
	claim := func(who string) *clientv3.TxnResponse {
		response, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, who)).Else(clientv3.OpGet(key)).Commit()
		must(err, "txn")
		return response
	}
	check(claim("one").Succeeded, "the first claim failed")
	second := claim("two")
	check(!second.Succeeded && string(second.Responses[0].GetResponseRange().Kvs[0].Value) == "one", "the second claim answers %v", second)
	_, err := c.Txn(ctx).Then(clientv3.OpPut(key, "a"), clientv3.OpPut(key, "b")).Commit()
	check(errors.Is(err, rpctypes.ErrDuplicateKey), "one key twice in a txn: %v", err)
}

// compaction runs a writer that also compacts, and a client that keeps a copy by list and watch.
// The client is slow on purpose, so that now and then it is cancelled as compacted: it must then
// list again and watch from there. In the end its copy has to be the store's content.
func compaction(ctx context.Context, c *clientv3.Client, prefix string) {
	var writer sync.WaitGroup
	writer.Add(1)
	end := make(chan int64, 1)
	random := rand.New(rand.NewSource(1))
	go func() {
		defer writer.Done()
		var revision int64
		for round := range *rounds {
			for i := range 20 {
				key := fmt.Sprintf("%s%d", prefix, random.Intn(15))
				if random.Intn(4) == 0 {
					_, err := c.Delete(ctx, key)
					must(err, "delete")
				} else {
					put, err := c.Put(ctx, key, fmt.Sprintf("%d/%d", round, i))
					must(err, "put")
					revision = put.Header.Revision
				}
			}
			_, err := c.Compact(ctx, revision)
			check(err == nil || errors.Is(err, rpctypes.ErrCompacted), "compact: %v", err)
		}
		put, err := c.Put(ctx, prefix+"last", "one")
		must(err, "put")
		end <- put.Header.Revision
	}()

	state := map[string]string{}
	relists, watched := 0, int64(-1)
	var final int64
	for watched < final || final == 0 {
		list, err := c.Get(ctx, prefix, clientv3.WithPrefix())
		must(err, "list")
		clear(state)
		for _, kv := range list.Kvs {
			state[string(kv.Key)] = string(kv.Value)
		}
		watched = list.Header.Revision
		relists++
		// Every few lists, watch from so far back that it must be refused: the answer has to say
		// from where on there is history.
		if relists%2 == 0 && watched > 30 {
			old, stop := context.WithCancel(ctx)
			response := <-c.Watch(old, prefix, clientv3.WithPrefix(), clientv3.WithRev(1))
			stop()
			if response.Canceled {
				check(errors.Is(response.Err(), rpctypes.ErrCompacted) && response.CompactRevision > 1, "watch from revision 1 ends with %v, compacted %d", response.Err(), response.CompactRevision)
			}
		}
		watch, stop := context.WithCancel(ctx)
		events := c.Watch(watch, prefix, clientv3.WithPrefix(), clientv3.WithRev(watched+1))
		taken := 0
	watching:
		for watched < final || final == 0 {
			select {
			case response, ok := <-events:
				check(ok, "the watch ended without a word")
				if response.Canceled {
					check(errors.Is(response.Err(), rpctypes.ErrCompacted), "watch cancelled: %v", response.Err())
					break watching
				}
				for _, e := range response.Events {
					check(e.Kv.ModRevision > watched || e.Kv.ModRevision == watched, "event of revision %d after %d", e.Kv.ModRevision, watched)
					watched = e.Kv.ModRevision
					if e.Type == mvccpb.Event_DELETE {
						check(state[string(e.Kv.Key)] != "", "deletion of %s, which the copy does not hold", e.Kv.Key)
						delete(state, string(e.Kv.Key))
					} else {
						check((e.Kv.Version == 1) == (state[string(e.Kv.Key)] == ""), "version %d of %s where the copy holds %q", e.Kv.Version, e.Kv.Key, state[string(e.Kv.Key)])
						state[string(e.Kv.Key)] = string(e.Kv.Value)
					}
				}
				if taken++; taken%25 == 0 && final == 0 {
					break watching // drop the watch and come back from what the copy holds
				}
			case final = <-end:
			}
		}
		stop()
	}
	writer.Wait()
	list, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(final))
	must(err, "list at the end")
	check(len(list.Kvs) == len(state), "the copy holds %d keys, the store %d", len(state), len(list.Kvs))
	for _, kv := range list.Kvs {
		check(state[string(kv.Key)] == string(kv.Value), "%s is %q in the copy and %q in the store", kv.Key, state[string(kv.Key)], kv.Value)
	}

	// A watch from a compacted revision: refused with the revision to go on from, then resumed there.
	_, err = c.Compact(ctx, final)
	check(err == nil || errors.Is(err, rpctypes.ErrCompacted), "compact: %v", err)
	response := <-c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(final-5))
	check(response.Canceled && response.CompactRevision == final, "watch from a compacted revision answers %+v", response)
	_, err = c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(final-1))
	check(errors.Is(err, rpctypes.ErrCompacted), "get at a compacted revision: %v", err)
	resumed := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(response.CompactRevision))
	first := collect(resumed, 1)
	check(first[0].Kv.ModRevision == final && string(first[0].Kv.Key) == prefix+"last", "watching on from %d gives %v", final, first[0])
}
